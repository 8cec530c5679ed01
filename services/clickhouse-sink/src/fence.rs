//! Who may write a partition: a fence in ClickHouse, and why nothing has to be waited for. Pure.
//!
//! An insert whose answer never came may still be on its way: held up by a proxy, or in the buffers of a server that is
//! busy, long after its process has died. No reading back is conclusive while it may still write. So each insert carries
//! the [`Fence`] of each partition that it has rows of, and writes those rows only if that still is the highest one in the
//! table of fences. Whoever is in doubt, in this order,
//!
//! 1. takes a higher fence, which is on the disk when that is answered,
//! 2. kills the inserts that run and name this partition, alone or beside others, and sees that they are gone,
//! 3. reads back what the table holds, and inserts the rest under the new fence.
//!
//! ClickHouse enters a query into `system.processes` before it evaluates the query's scalar subqueries, and one of those
//! compares the fence. So an insert of somebody else either compared before (1) was done, and then (2) sees it, unless it
//! has ended and (3) sees its rows; or it compares after (1), and writes nothing. That holds
//!
//! * for an insert that is held back on its way for any time, with or without a part of its body;
//! * for an answer that was lost: the doubtful insert carries the older fence;
//! * for a process that stood still or lost its partition without noticing: its next insert writes nothing, it is told
//!   so by the number of rows written, and begins at (1);
//! * for the taking of a fence that itself arrives late: it can end the rights of a holder, who is told and takes a higher
//!   one, and give them to nobody, because who did not get the answer never uses that fence;
//! * for a request that something on the way sends twice: the generation is named by the taker, so a repetition of an
//!   older fence is not the highest;
//! * over a crash of the server, because the fence is synced as the rows are.
//!
//! Two replicas are two servers: neither the list of processes nor, at once, the fences of one are those of the other. So
//! all of it, as the reading back, needs one replica (`clickhouse.url`); one that follows the other is safe once
//! what the first has written was replicated.
//!
//! Invariant: the fences of one partition only rise, and no two holders ever had the same.

/// The right to write one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// Compared first; one more than the highest that the taker saw.
    pub generation: u64,
    /// Tells apart those that take the same generation; never used twice.
    pub owner: u64,
}

impl Fence {
    /// The fence that `owner` takes when this is the highest.
    #[must_use]
    pub const fn next(self, owner: u64) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_above_every_fence_of_the_generation_before() {
        let first = Fence::default().next(u64::MAX);
        let second = first.next(0);
        assert!(Fence::default() < first && first < second);
    }

    #[test]
    fn of_two_that_take_the_same_generation_one_has_it() {
        let (one, other) = (Fence::default().next(1), Fence::default().next(2));
        assert!(one < other, "the server compares in the same way");
    }
}
