//! Recognises what Debezium sends again after a crash, exactly and in bounded memory.
//!
//! Invariant: a record is dropped only if it was in this partition before. Streamed records rise in
//! (`sequence[0]`, `lsn`); what breaks that order without being a re-send is a contradiction, not a duplicate.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use faults::Rule;

use crate::checkpoint::Mark;

/// Commit times may disagree by this much with the order of LSNs (clock corrections), in microseconds.
pub const COMMIT_TIME_TOLERANCE: i64 = 60_000_000;

/// Primary keys remembered where the envelope has no `sequence` (flattened form).
pub const WINDOW: usize = 8192;

/// Which change of which row: equal for a record and its re-send only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Debezium's operation: `c`, `u`, `d`, `r`, ..
    pub operation: char,
    /// Primary key as text.
    pub key: String,
    /// Transaction, where the envelope has it.
    pub tx: Option<i64>,
}

/// What the recognition needs to know of one change record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The change.
    pub identity: Identity,
    /// Its mark; `None` where the envelope has no `sequence`.
    pub mark: Option<Mark>,
    /// Read by a snapshot (`r`).
    pub snapshot: bool,
}

/// What a change record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recognition {
    /// Not seen before.
    New,
    /// A re-send: drop it.
    Duplicate,
    /// The order is broken: stop the lane.
    Contradiction(Contradiction),
}

/// Why the order cannot be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Contradiction {
    /// Another transaction, below the mark, whose LSN is not below the mark's commit LSN.
    #[error(
        "change at {commit_lsn:X}/{lsn:X} (commit before / own LSN) is below the mark {mark_commit_lsn:X}/{mark_lsn:X} \
         without being a re-send of it"
    )]
    OutOfOrder {
        /// The record's `sequence[0]`.
        commit_lsn: u64,
        /// The record's LSN.
        lsn: u64,
        /// The mark's `sequence[0]`.
        mark_commit_lsn: u64,
        /// The mark's LSN.
        mark_lsn: u64,
    },
    /// Below the mark, but committed clearly later.
    #[error("change at LSN {lsn:X} is below the mark but was committed {seconds} s after it")]
    CommittedLater {
        /// The record's LSN.
        lsn: u64,
        /// How much later.
        seconds: i64,
    },
}

impl Contradiction {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        "the database was restored or replaced; check with `engagectl lineage show`, then open a new epoch with `engagectl lineage adopt --new-epoch`"
    }
}

/// The state of one partition: the mark, the changes at it, and the window for the flattened form.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    mark: Option<Mark>,
    at_mark: HashSet<Identity>,
    window: Window,
}

impl Duplicates {
    /// Nothing seen: a new chain or a new epoch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues at a mark restored from the tail of the output. Give the change records before the resume point
    /// (a few hundred are plenty) to [`replay`](Self::replay) next, so that the set at the mark is whole again.
    #[must_use]
    pub fn resume(mark: Option<Mark>) -> Self {
        Self {
            mark: mark.filter(|mark| mark.pair() != (0, 0)),
            ..Self::default()
        }
    }

    /// A record that was processed before the resume point.
    pub fn replay(&mut self, change: &Change) {
        match (change.snapshot, change.mark) {
            (true, _) => {}
            (false, None) => self.window.insert(&change.identity),
            (false, Some(mark)) if Some(mark.pair()) == self.mark.map(Mark::pair) => {
                self.at_mark.insert(change.identity.clone());
            }
            (false, Some(_)) => {}
        }
    }

    /// The mark after the last record; goes into every record's `source`.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Changes remembered at the mark.
    #[must_use]
    pub fn at_mark(&self) -> usize {
        self.at_mark.len()
    }

    /// Judges a record, and remembers it if it is new.
    pub fn recognise(&mut self, change: &Change) -> Recognition {
        match self.judge(change) {
            Recognition::Duplicate if faults::is_broken(Rule::LineageCheck) => Recognition::New,
            judged => judged,
        }
    }

    fn judge(&mut self, change: &Change) -> Recognition {
        if change.snapshot {
            return Recognition::New;
        }
        let Some(seen) = change.mark else {
            return self.by_window(&change.identity);
        };
        let Some(mark) = self.mark else {
            return self.raise(seen, &change.identity);
        };
        match seen.pair().cmp(&mark.pair()) {
            std::cmp::Ordering::Greater => self.raise(seen, &change.identity),
            std::cmp::Ordering::Equal if self.at_mark.insert(change.identity.clone()) => {
                Recognition::New
            }
            std::cmp::Ordering::Equal => Recognition::Duplicate,
            std::cmp::Ordering::Less => below(seen, mark),
        }
    }

    fn by_window(&mut self, identity: &Identity) -> Recognition {
        if self.window.contains(identity) {
            return Recognition::Duplicate;
        }
        self.window.insert(identity);
        Recognition::New
    }

    fn raise(&mut self, seen: Mark, identity: &Identity) -> Recognition {
        let latest = self.mark.map_or(seen.committed_at, |mark| {
            mark.committed_at.max(seen.committed_at)
        });
        self.mark = Some(Mark {
            committed_at: latest,
            ..seen
        });
        self.at_mark.clear();
        self.at_mark.insert(identity.clone());
        Recognition::New
    }
}

/// A re-send of the mark's own transaction has its `sequence[0]`; one of an earlier transaction was committed at or
/// before `sequence[0]` of the mark, so its LSN is below it.
fn below(seen: Mark, mark: Mark) -> Recognition {
    if seen.commit_lsn != mark.commit_lsn && seen.lsn >= mark.commit_lsn {
        return Recognition::Contradiction(Contradiction::OutOfOrder {
            commit_lsn: seen.commit_lsn,
            lsn: seen.lsn,
            mark_commit_lsn: mark.commit_lsn,
            mark_lsn: mark.lsn,
        });
    }
    let later = seen.committed_at.0.saturating_sub(mark.committed_at.0);
    if later > COMMIT_TIME_TOLERANCE {
        return Recognition::Contradiction(Contradiction::CommittedLater {
            lsn: seen.lsn,
            seconds: later / 1_000_000,
        });
    }
    Recognition::Duplicate
}

/// The last [`WINDOW`] identities, as 128-bit fingerprints.
#[derive(Clone, Debug, Default)]
struct Window {
    order: VecDeque<u128>,
    members: HashSet<u128>,
    hashers: (RandomState, RandomState),
}

impl Window {
    fn fingerprint(&self, identity: &Identity) -> u128 {
        let (high, low) = (
            self.hashers.0.hash_one(identity),
            self.hashers.1.hash_one(identity),
        );
        u128::from(high) << 64 | u128::from(low)
    }

    fn contains(&self, identity: &Identity) -> bool {
        self.members.contains(&self.fingerprint(identity))
    }

    fn insert(&mut self, identity: &Identity) {
        let fingerprint = self.fingerprint(identity);
        if !self.members.insert(fingerprint) {
            return;
        }
        self.order.push_back(fingerprint);
        if self.order.len() > WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Micros;
    use proptest::prelude::*;

    fn change(commit_lsn: u64, lsn: u64, key: &str, tx: i64, at: i64) -> Change {
        Change {
            identity: Identity {
                operation: 'c',
                key: key.to_owned(),
                tx: Some(tx),
            },
            mark: Some(Mark {
                commit_lsn,
                lsn,
                committed_at: Micros(at),
            }),
            snapshot: false,
        }
    }

    #[test]
    fn rows_of_one_copy_share_a_pair_and_are_told_apart_by_key() {
        let mut seen = Duplicates::new();
        assert_eq!(seen.recognise(&change(10, 20, "a", 1, 0)), Recognition::New);
        assert_eq!(seen.recognise(&change(10, 20, "b", 1, 0)), Recognition::New);
        assert_eq!(
            seen.recognise(&change(10, 20, "a", 1, 0)),
            Recognition::Duplicate
        );
        assert_eq!(seen.at_mark(), 2);
    }

    #[test]
    fn a_re_send_of_an_earlier_transaction_is_dropped() {
        let mut seen = Duplicates::new();
        seen.recognise(&change(10, 20, "a", 1, 0));
        seen.recognise(&change(25, 40, "b", 2, 0));
        assert_eq!(
            seen.recognise(&change(10, 20, "a", 1, 0)),
            Recognition::Duplicate
        );
        assert_eq!(seen.mark().map(Mark::pair), Some((25, 40)));
    }

    #[test]
    fn an_interleaved_transaction_with_a_lower_lsn_is_new() {
        let mut seen = Duplicates::new();
        seen.recognise(&change(10, 50, "a", 1, 0));
        assert_eq!(seen.recognise(&change(60, 30, "b", 2, 0)), Recognition::New);
    }

    #[test]
    fn below_the_pair_but_not_below_the_marks_commit_lsn_is_a_contradiction() {
        let mut seen = Duplicates::new();
        seen.recognise(&change(25, 40, "a", 1, 0));
        let verdict = seen.recognise(&change(20, 30, "b", 2, 0));
        assert!(
            matches!(
                verdict,
                Recognition::Contradiction(Contradiction::OutOfOrder { .. })
            ),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_commit_a_minute_after_the_mark_contradicts_and_one_within_it_does_not() {
        let mut seen = Duplicates::new();
        seen.recognise(&change(25, 40, "a", 1, 0));
        assert_eq!(
            seen.recognise(&change(10, 20, "b", 2, COMMIT_TIME_TOLERANCE)),
            Recognition::Duplicate
        );
        let verdict = seen.recognise(&change(10, 20, "b", 2, COMMIT_TIME_TOLERANCE + 1));
        assert!(
            matches!(
                verdict,
                Recognition::Contradiction(Contradiction::CommittedLater { .. })
            ),
            "{verdict:?}"
        );
    }

    #[test]
    fn snapshot_records_are_new_and_leave_the_mark() {
        let mut seen = Duplicates::new();
        seen.recognise(&change(25, 40, "a", 1, 0));
        let snapshot = Change {
            snapshot: true,
            ..change(99, 99, "b", 2, 0)
        };
        assert_eq!(seen.recognise(&snapshot), Recognition::New);
        assert_eq!(seen.recognise(&snapshot), Recognition::New);
        assert_eq!(seen.mark().map(Mark::pair), Some((25, 40)));
    }

    #[test]
    fn the_window_serves_where_there_is_no_sequence() {
        let mut seen = Duplicates::new();
        let flat = |key: usize| Change {
            mark: None,
            ..change(0, 0, &key.to_string(), 1, 0)
        };
        for key in 0..=WINDOW {
            assert_eq!(seen.recognise(&flat(key)), Recognition::New);
        }
        assert_eq!(seen.recognise(&flat(WINDOW)), Recognition::Duplicate);
        assert_eq!(
            seen.recognise(&flat(0)),
            Recognition::New,
            "the oldest has left the window"
        );
    }

    #[test]
    fn the_mark_without_numbers_is_no_mark() {
        let nothing = Mark {
            commit_lsn: 0,
            lsn: 0,
            committed_at: Micros(0),
        };
        assert_eq!(Duplicates::resume(Some(nothing)).mark(), None);
    }

    /// Transactions as Postgres and Debezium make them: rows at LSNs of their own, delivered whole in commit order.
    fn stream(transactions: &[(u8, u8, bool)]) -> Vec<Change> {
        let (mut lsn, mut last_commit, mut out, mut held): (u64, u64, Vec<Change>, Vec<u64>) =
            (100, 50, vec![], vec![]);
        for (tx, (rows, per_lsn, early)) in transactions.iter().enumerate() {
            let rows_at: Vec<u64> = (0..*rows)
                .map(|row| {
                    if row % per_lsn == 0 {
                        lsn += 3;
                    }
                    if *early && row == 0 && !held.is_empty() {
                        held[0]
                    } else {
                        lsn
                    }
                })
                .collect();
            lsn += 5;
            held = vec![lsn];
            lsn += 5;
            for (row, at) in rows_at.into_iter().enumerate() {
                let key = format!("{tx}-{row}");
                out.push(change(
                    last_commit,
                    at,
                    &key,
                    i64::try_from(tx).unwrap(),
                    i64::try_from(tx).unwrap(),
                ));
            }
            last_commit = lsn;
        }
        let mut highest = (0, 0);
        out.retain(|change| {
            let pair = change.mark.unwrap().pair();
            let keep = pair >= highest;
            highest = highest.max(pair);
            keep
        });
        out
    }

    proptest! {
        #[test]
        fn re_sent_runs_are_dropped_and_nothing_else_whatever_the_crash_points(
            transactions in proptest::collection::vec((1u8..12, 1u8..5, any::<bool>()), 1..12),
            crashes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>()), 0..6),
            restarts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        ) {
            let stream = stream(&transactions);
            // what is in the topic: the stream with runs sent again
            let (mut topic, mut at) = (Vec::new(), 0);
            for (stop, back) in &crashes {
                let stop = at + stop.index(stream.len() - at + 1);
                topic.extend_from_slice(&stream[at..stop]);
                at = back.index(stop + 1);
            }
            topic.extend_from_slice(&stream[at..]);
            let restarts: HashSet<usize> = restarts.iter().map(|r| r.index(topic.len())).collect();

            let (mut seen, mut kept, mut last_kept) = (Duplicates::new(), Vec::new(), 0);
            for (index, record) in topic.iter().enumerate() {
                if restarts.contains(&index) && !kept.is_empty() {
                    // a restart: the tail of the output restores the mark; the records up to it are read again
                    seen = Duplicates::resume(seen.mark());
                    for old in &topic[..=last_kept] { seen.replay(old); }
                }
                match seen.recognise(record) {
                    Recognition::New => { kept.push(record.clone()); last_kept = index; }
                    Recognition::Duplicate => {}
                    Recognition::Contradiction(c) => prop_assert!(false, "{}", c),
                }
            }
            prop_assert_eq!(kept, stream);
        }
    }
}
