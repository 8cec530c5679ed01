//! Which records are done, whatever order they finish in.
//!
//! Invariant: the frontier only rises, and everything below it is complete. Pure: only the loop talks to Kafka.

use std::collections::VecDeque;

/// The contiguous end of what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier<T> {
    /// Offset to commit: one past the last record below which everything is complete.
    pub next: i64,
    /// The value recorded with that last record.
    pub value: T,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    offset: i64,
    value: T,
    complete: bool,
}

/// Records in flight of one partition, in offset order, each with a value (a checkpoint, say).
#[derive(Clone, Debug)]
pub struct Ledger<T> {
    open: VecDeque<Entry<T>>,
    frontier: Option<Frontier<T>>,
    last: i64,
}

/// A record that does not belong into the ledger; a defect of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Offsets must rise.
    #[error("offset {offset} recorded after {last}")]
    NotRising {
        /// The offset refused.
        offset: i64,
        /// The highest so far.
        last: i64,
    },
    /// Completed without being recorded, or twice.
    #[error("offset {offset} is not open")]
    NotOpen {
        /// The offset refused.
        offset: i64,
    },
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            open: VecDeque::new(),
            frontier: None,
            last: i64::MIN,
        }
    }
}

impl<T> Ledger<T> {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a record. Gaps between offsets are fine; going back is not.
    ///
    /// # Errors
    /// The offset is not above all before.
    pub fn record(&mut self, offset: i64, value: T) -> Result<(), LedgerError> {
        if offset <= self.last {
            return Err(LedgerError::NotRising {
                offset,
                last: self.last,
            });
        }
        self.last = offset;
        self.open.push_back(Entry {
            offset,
            value,
            complete: false,
        });
        Ok(())
    }

    /// Marks a record as done; true if the frontier moved.
    ///
    /// # Errors
    /// The offset is not open.
    pub fn complete(&mut self, offset: i64) -> Result<bool, LedgerError> {
        let found = self
            .open
            .binary_search_by_key(&offset, |entry| entry.offset);
        let entry = found.ok().and_then(|index| self.open.get_mut(index));
        match entry {
            Some(entry) if !entry.complete => entry.complete = true,
            _ => return Err(LedgerError::NotOpen { offset }),
        }
        Ok(self.advance())
    }

    /// Opens and completes at once: a record that needs no effect.
    ///
    /// # Errors
    /// The offset is not above all before.
    pub fn skip(&mut self, offset: i64, value: T) -> Result<bool, LedgerError> {
        self.record(offset, value)?;
        self.complete(offset)
    }

    /// Takes back the record opened last, as if it had never been; anything else is left alone.
    pub fn retract(&mut self, offset: i64) {
        if self
            .open
            .back()
            .is_some_and(|entry| entry.offset == offset && !entry.complete)
        {
            self.open.pop_back();
            self.last = offset - 1;
        }
    }

    /// The frontier; `None` until the first record is done.
    #[must_use]
    pub fn frontier(&self) -> Option<&Frontier<T>> {
        self.frontier.as_ref()
    }

    /// Records opened and not below the frontier.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The oldest record that is not done.
    #[must_use]
    pub fn oldest_open(&self) -> Option<i64> {
        self.open.front().map(|entry| entry.offset)
    }

    fn advance(&mut self) -> bool {
        let mut moved = false;
        while self.open.front().is_some_and(|entry| entry.complete) {
            let Some(entry) = self.open.pop_front() else {
                break;
            };
            self.frontier = Some(Frontier {
                next: entry.offset + 1,
                value: entry.value,
            });
            moved = true;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn out_of_order_completion_does_not_move_the_frontier() {
        let mut ledger = Ledger::new();
        for offset in [3, 4, 9] {
            ledger.record(offset, offset).unwrap();
        }
        assert_eq!(ledger.complete(4), Ok(false));
        assert_eq!(ledger.frontier(), None);
        assert_eq!(ledger.complete(3), Ok(true));
        assert_eq!(ledger.frontier(), Some(&Frontier { next: 5, value: 4 }));
        assert_eq!(ledger.oldest_open(), Some(9));
    }

    #[test]
    fn a_skipped_record_moves_the_frontier_only_when_all_before_are_done() {
        let mut ledger = Ledger::new();
        ledger.record(1, ()).unwrap();
        assert_eq!(ledger.skip(2, ()), Ok(false));
        assert_eq!(ledger.complete(1), Ok(true));
        assert_eq!(ledger.frontier().map(|f| f.next), Some(3));
    }

    #[test]
    fn going_back_and_completing_twice_are_refused() {
        let mut ledger = Ledger::new();
        ledger.record(5, ()).unwrap();
        assert_eq!(
            ledger.record(5, ()),
            Err(LedgerError::NotRising { offset: 5, last: 5 })
        );
        ledger.complete(5).unwrap();
        assert_eq!(ledger.complete(5), Err(LedgerError::NotOpen { offset: 5 }));
        assert_eq!(ledger.complete(7), Err(LedgerError::NotOpen { offset: 7 }));
    }

    #[test]
    fn a_retracted_record_can_be_recorded_or_skipped_again() {
        let mut ledger = Ledger::new();
        ledger.record(5, ()).unwrap();
        ledger.retract(5);
        assert_eq!(ledger.open(), 0);
        assert_eq!(ledger.skip(5, ()), Ok(true));
        ledger.retract(5);
        assert_eq!(ledger.frontier().map(|f| f.next), Some(6));
    }

    proptest! {
        #[test]
        fn the_frontier_is_the_end_of_the_completed_prefix(
            gaps in proptest::collection::vec(1i64..4, 1..60),
            order in any::<proptest::sample::Index>(),
            seed in proptest::collection::vec(any::<u32>(), 60),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut shuffled: Vec<(u32, i64)> = offsets.iter().zip(&seed).map(|(o, s)| (*s, *o)).collect();
            shuffled.sort_unstable();
            let done = order.index(offsets.len()) + 1;
            let mut ledger = Ledger::new();
            for offset in &offsets { ledger.record(*offset, *offset).unwrap(); }
            let mut completed = std::collections::BTreeSet::new();
            for (_, offset) in shuffled.iter().take(done) {
                let before = ledger.frontier().map(|f| f.next);
                ledger.complete(*offset).unwrap();
                completed.insert(*offset);
                let prefix = offsets.iter().take_while(|o| completed.contains(o)).last().copied();
                prop_assert_eq!(ledger.frontier().map(|f| f.next), prefix.map(|o| o + 1));
                prop_assert_eq!(ledger.frontier().map(|f| f.value), prefix);
                prop_assert!(ledger.frontier().map(|f| f.next) >= before);
            }
        }
    }
}
