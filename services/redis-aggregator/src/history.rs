//! Which records count: the stream always, a snapshot once, a backfill never.
//!
//! Invariant: every row that a snapshot brings is counted at most once, and never beside its own stream record.
//!
//! A record of the stream is unique by its position. A historical record is not: a snapshot that was interrupted is
//! taken again, and a backfill brings rows that are already there, all under new positions. Redis keeps no event
//! ids, so the rule is made of what a partition has seen so far ([`History`], stored beside its position):
//!
//! * **open**: nothing but snapshot records of this partition were counted. The records of one snapshot carry one
//!   LSN, which is their revision; they count by position. A snapshot of a *higher* revision was taken again from
//!   the start and holds every row there is, so it **replaces**: the sums of the partition are dropped and the new
//!   snapshot is counted from zero. Lower revisions are skipped.
//! * **closed**, from the first record of the stream on: later historical records are skipped and counted in
//!   `engage_redis_historical_skipped_total`; the sums they would complete are rebuilt as a whole.
//!
//! Records of the backfill and redrive lanes are skipped in either state. An incremental snapshot on a database whose
//! initial snapshot was switched off has a revision per chunk and is not covered by this rule: rebuild after it.

use std::fmt;
use std::str::FromStr;

use engagement::event::{EnrichedEvent, Lane, Origin};

use crate::position::beginning;

/// What a partition has counted so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum History {
    /// Nothing yet.
    #[default]
    Empty,
    /// Records of the snapshot of this revision only.
    Snapshot(u64),
    /// Records of the stream.
    Closed,
}

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Count it.
    Count,
    /// Drop the partition's sums first, then count it.
    Replace,
    /// Leave it to a rebuild.
    Skip,
}

impl History {
    /// Judges the next record and says what the history is after it.
    #[must_use]
    pub fn judge(self, event: &EnrichedEvent) -> (Verdict, Self) {
        if event.source.lane != Lane::Live {
            return (Verdict::Skip, self);
        }
        match (event.origin, self) {
            (Origin::Stream, _) => (Verdict::Count, Self::Closed),
            (Origin::Backfill, _) | (Origin::Snapshot, Self::Closed) => (Verdict::Skip, self),
            (Origin::Snapshot, Self::Empty) => (Verdict::Count, Self::Snapshot(event.revision)),
            (Origin::Snapshot, Self::Snapshot(open)) => match event.revision.cmp(&open) {
                std::cmp::Ordering::Equal => (Verdict::Count, self),
                std::cmp::Ordering::Greater => (Verdict::Replace, Self::Snapshot(event.revision)),
                std::cmp::Ordering::Less => (Verdict::Skip, self),
            },
        }
    }
}

impl fmt::Display for History {
    /// `empty`, `snapshot/42000`, `closed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Snapshot(revision) => write!(f, "snapshot/{revision}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "empty" => Ok(Self::Empty),
            "closed" => Ok(Self::Closed),
            _ => text
                .strip_prefix("snapshot/")
                .and_then(|revision| revision.parse().ok())
                .map(Self::Snapshot)
                .ok_or_else(|| {
                    let found = beginning(text);
                    format!("history {found:?} is not empty, snapshot/<revision> or closed")
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;

    fn snapshot(revision: u64) -> EnrichedEvent {
        let mut event = Sample::new().origin(Origin::Snapshot).build();
        event.revision = revision;
        event
    }

    #[test]
    fn a_snapshot_counts_once_and_a_repeated_one_replaces_it() {
        let (verdict, open) = History::Empty.judge(&snapshot(5));
        assert_eq!((verdict, open), (Verdict::Count, History::Snapshot(5)));
        assert_eq!(open.judge(&snapshot(5)), (Verdict::Count, open));
        assert_eq!(open.judge(&snapshot(4)), (Verdict::Skip, open));
        assert_eq!(
            open.judge(&snapshot(6)),
            (Verdict::Replace, History::Snapshot(6))
        );
    }

    #[test]
    fn after_the_first_record_of_the_stream_snapshots_are_left_to_a_rebuild() {
        let stream = Sample::new().build();
        for before in [History::Empty, History::Snapshot(5), History::Closed] {
            assert_eq!(before.judge(&stream), (Verdict::Count, History::Closed));
        }
        assert_eq!(
            History::Closed.judge(&snapshot(9)),
            (Verdict::Skip, History::Closed)
        );
    }

    #[test]
    fn other_lanes_and_backfills_never_count() {
        for event in [
            Sample::new().lane(Lane::Redrive).build(),
            Sample::new().lane(Lane::Backfill).build(),
            Sample::new().origin(Origin::Backfill).build(),
        ] {
            assert_eq!(
                History::Empty.judge(&event),
                (Verdict::Skip, History::Empty)
            );
        }
    }

    #[test]
    fn the_stored_form_reads_back() {
        for history in [History::Empty, History::Snapshot(u64::MAX), History::Closed] {
            assert_eq!(history.to_string().parse(), Ok(history));
        }
        assert!("snapshot/".parse::<History>().is_err());
    }
}
