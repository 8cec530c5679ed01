//! What is known of the rows that other owners of a partition have written. Pure.
//!
//! Invariant: a batch is written without asking the table only if nobody else can have written a part of it.

use std::collections::HashMap;

use engagement::event::Lane;
use stream::checkpoint::Checkpoint;

use crate::fence::Fence;
use crate::plan::Entry;

/// Where a lane stood in the source when it asked the table. What it writes from then on was committed there or later, so
/// that the table need not be asked for anything older, however large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Since {
    /// The epoch that the LSN belongs to.
    pub epoch: u8,
    /// LSN of the commit of the last change that the lane has done.
    pub commit_lsn: u64,
}

impl Since {
    /// Behind what a commit says was done.
    #[must_use]
    pub fn committed(checkpoint: &Checkpoint) -> Option<Self> {
        let (position, mark) = checkpoint.position.zip(checkpoint.mark)?;
        Some(Self {
            epoch: position.epoch,
            commit_lsn: mark.commit_lsn,
        })
    }

    /// Behind the last live change among `entries`, which are in the order of the log.
    #[must_use]
    pub fn after(entries: &[Entry]) -> Option<Self> {
        let last = entries.iter().rfind(is_live)?;
        Some(Self {
            epoch: last.position.epoch,
            commit_lsn: last.commit_lsn,
        })
    }

    /// Whether all live changes among `entries` were committed there or later. Those of another epoch have LSNs of their own.
    #[must_use]
    pub fn covers(&self, entries: &[Entry]) -> bool {
        let is_later = |entry: &Entry| {
            entry.position.epoch == self.epoch && entry.commit_lsn >= self.commit_lsn
        };
        entries.iter().filter(is_live).all(is_later)
    }
}

fn is_live(entry: &&Entry) -> bool {
    entry.position.lane == Lane::Live
}

/// How far others, and this lane before, have written a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// What the table was asked for; `None`: for everything.
    pub since: Option<Since>,
    /// The highest offset in each lane and epoch.
    pub highest: HashMap<(Lane, u8), i64>,
    /// The highest LSN at which a backfill has read a row; 0 where none has.
    pub backfilled: u64,
}

impl Reached {
    /// The table holds rows of a lane and epoch up to there, the latest committed at this LSN; it may be told so more than once.
    pub fn has(&mut self, lane: Lane, epoch: u8, offset: i64, commit_lsn: u64) {
        let highest = self.highest.entry((lane, epoch)).or_insert(offset);
        *highest = offset.max(*highest);
        if lane == Lane::Backfill {
            self.backfilled = self.backfilled.max(commit_lsn);
        }
    }
}

/// What is known about other owners' rows.
#[derive(Clone, Debug)]
pub enum Owner {
    /// Nothing: somebody else may have written, or one of our own inserts may still be on its way.
    Unknown,
    /// We hold this fence. Others, and we before, got so far.
    Holds(Fence, Reached),
}

impl Owner {
    /// Whether the table must be asked before these entries are written.
    #[must_use]
    pub fn may_have_written(&self, entries: &[Entry]) -> bool {
        let Self::Holds(_, reached) = self else {
            return true;
        };
        entries.iter().any(|entry| {
            let highest = (entry.position.lane, entry.position.epoch);
            let highest = reached.highest.get(&highest);
            entry.by_id || highest.is_some_and(|highest| entry.position.offset <= *highest)
        })
    }

    /// Before `entries` are written: positions of another epoch, or of changes that come out of order, say nothing to what the
    /// table was asked for. It is asked again then, for everything.
    pub fn prepare(&mut self, since: &mut Option<Since>, entries: &[Entry]) {
        *since = since.filter(|since| since.covers(entries));
        let known = match self {
            Self::Unknown => return,
            Self::Holds(_, reached) => reached.since,
        };
        if known.is_some_and(|known| !known.covers(entries)) {
            *self = Self::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::EnrichedEvent;
    use engagement::testing::Sample;

    use super::*;
    use crate::row::EventIdType;

    const SINCE: Since = Since {
        epoch: 1,
        commit_lsn: 100,
    };

    fn entry(lane: Lane, epoch: u8, offset: i64, commit_lsn: u64) -> Entry {
        let mut event: EnrichedEvent = Sample::new().at_position(0, offset).lane(lane).build();
        event.source.epoch = epoch;
        event.source.commit_lsn = commit_lsn;
        Entry::of(&event, offset, EventIdType::Int64).unwrap()
    }

    fn holds(highest: i64) -> Owner {
        let fence = Fence {
            generation: 1,
            owner: 1,
        };
        let reached = Reached {
            since: Some(SINCE),
            highest: HashMap::from([((Lane::Live, 1), highest)]),
            backfilled: 0,
        };
        Owner::Holds(fence, reached)
    }

    #[test]
    fn what_was_committed_later_in_the_same_epoch_is_covered_and_nothing_else() {
        let live = |epoch, lsn| [entry(Lane::Live, epoch, 1, lsn)];
        assert!(SINCE.covers(&live(1, 100)) && SINCE.covers(&live(1, 200)));
        assert!(!SINCE.covers(&live(1, 99)), "an older change");
        assert!(!SINCE.covers(&live(2, 200)), "another epoch");
        assert!(SINCE.covers(&[entry(Lane::Backfill, 0, 1, 5)]), "by its id");
    }

    #[test]
    fn of_several_answers_about_a_partition_the_highest_counts() {
        let mut reached = Reached::default();
        for (offset, commit_lsn) in [(7, 50), (9, 80), (8, 70)] {
            reached.has(Lane::Backfill, 1, offset, commit_lsn);
        }
        assert_eq!(reached.highest, HashMap::from([((Lane::Backfill, 1), 9)]));
        assert_eq!(reached.backfilled, 80);
    }

    #[test]
    fn the_last_live_change_is_where_a_lane_goes_on() {
        let entries = [
            entry(Lane::Live, 1, 1, 90),
            entry(Lane::Live, 1, 2, 100),
            entry(Lane::Redrive, 0, 3, 7),
        ];
        assert_eq!(Since::after(&entries), Some(SINCE));
        assert_eq!(Since::after(&entries[2..]), None);
    }

    #[test]
    fn the_table_is_asked_for_what_others_may_have_written_and_anew_for_what_it_was_not_asked_for()
    {
        let batch = |offset, lsn| [entry(Lane::Live, 1, offset, lsn)];
        let owner = holds(7);
        assert!(owner.may_have_written(&batch(7, 100)));
        assert!(!owner.may_have_written(&batch(8, 100)));
        for (lsn, is_known) in [(100, true), (99, false)] {
            let (mut owner, mut since) = (owner.clone(), Some(SINCE));
            owner.prepare(&mut since, &batch(8, lsn));
            assert_eq!(matches!(owner, Owner::Holds(..)), is_known, "{lsn}");
            assert_eq!(since.is_some(), is_known, "{lsn}");
        }
    }
}
