//! The one comparison that every reader of an enriched partition makes.
//!
//! Invariant: a record is applied at most once, in order, and never after a hole.

use engagement::event::{Lane, Position, Source};
use faults::Rule;

use crate::checkpoint::{Checkpoint, Mark};

/// The state of a reader of one partition: the last position it let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    last: Option<Position>,
    before: Option<Position>,
    mark: Option<Mark>,
    /// Missing, and known to be.
    hole: Option<Position>,
    /// The last record of the redrive lane that passed.
    redriven: Option<Position>,
}

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The next of the chain.
    Apply,
    /// At or below the last position: drop it.
    Duplicate,
    /// Records are missing between the last position and this one's predecessor: stop the lane.
    Hole {
        /// The last position seen.
        last: Position,
        /// Source offset of the predecessor this record names; -1 for none.
        prev: i64,
        /// This record's position.
        found: Position,
    },
    /// A redriven dead letter or a record of a backfill: outside of the chain, applied by (id, revision). A redriven one's
    /// position is where it was redriven to, so it passes once, too.
    Redriven,
}

impl Reader {
    /// Nothing seen: the first record is taken as it comes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues after a position that the store itself knows (Redis, ClickHouse).
    #[must_use]
    pub fn at(last: Option<Position>) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// Continues where a commit left off.
    #[must_use]
    pub fn resume(checkpoint: &Checkpoint) -> Self {
        Self {
            last: checkpoint.position,
            before: checkpoint.before,
            mark: checkpoint.mark,
            hole: checkpoint.hole,
            // an older one is below the last position
            redriven: checkpoint
                .before
                .filter(|before| before.lane == Lane::Redrive),
        }
    }

    /// The last position that passed.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        self.last
    }

    /// Judges a record and moves on if it passes. After [`Verdict::Hole`] nothing has moved.
    pub fn check(&mut self, source: &Source) -> Verdict {
        let found = source.position();
        match source.lane {
            Lane::Live => {}
            Lane::Redrive => {
                self.before = Some(found);
                return self.pass_redriven(found);
            }
            Lane::Backfill => {
                self.before = Some(found);
                return Verdict::Redriven;
            }
        }
        let verdict = self.judge(source, found);
        match verdict {
            Verdict::Apply => {
                self.last = Some(found);
                self.mark = Some(Mark {
                    commit_lsn: source.commit_lsn,
                    lsn: source.lsn,
                    committed_at: source.committed_at,
                });
                self.before = Some(found);
                self.hole = self.hole.filter(|hole| is_above(*hole, found));
            }
            Verdict::Duplicate => self.before = Some(found),
            Verdict::Hole { .. } | Verdict::Redriven => {}
        }
        verdict
    }

    /// What to commit with the offset after the record just checked.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            epoch: self.last.map_or(0, |last| last.epoch),
            position: self.last,
            before: self.before,
            mark: self.mark,
            database: None,
            hole: self.hole,
            stored: None,
        }
    }

    /// Redriven records stand in the same order as those of the stream: both are made from the change topic as it goes on.
    fn pass_redriven(&mut self, found: Position) -> Verdict {
        let passed = |seen: &Position| !is_above(found, *seen);
        if self.last.iter().chain(&self.redriven).any(passed) {
            return Verdict::Duplicate;
        }
        self.redriven = Some(found);
        Verdict::Redriven
    }

    fn judge(&self, source: &Source, found: Position) -> Verdict {
        let Some(last) = self.last else {
            return Verdict::Apply;
        };
        if (found.epoch, found.offset) <= (last.epoch, last.offset) {
            return if faults::is_broken(Rule::LineageCheck) {
                Verdict::Apply
            } else {
                Verdict::Duplicate
            };
        }
        // the first record of a new epoch starts a chain of its own
        let seen = if found.epoch == last.epoch {
            last.offset
        } else {
            -1
        };
        let is_known = self
            .hole
            .is_some_and(|hole| (hole.epoch, hole.offset) == (found.epoch, source.prev));
        if source.prev > seen && !is_known {
            Verdict::Hole {
                last,
                prev: source.prev,
                found,
            }
        } else {
            Verdict::Apply
        }
    }
}

fn is_above(hole: Position, passed: Position) -> bool {
    (hole.epoch, hole.offset) > (passed.epoch, passed.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Micros;
    use proptest::prelude::*;

    fn source(epoch: u8, offset: i64, prev: i64) -> Source {
        Source {
            lane: Lane::Live,
            epoch,
            partition: 3,
            offset,
            prev,
            commit_lsn: 1,
            lsn: 2,
            tx_id: None,
            committed_at: Micros(0),
            snapshot: false,
        }
    }

    #[test]
    fn the_first_record_is_taken_as_it_comes() {
        assert_eq!(Reader::new().check(&source(0, 42, 40)), Verdict::Apply);
    }

    #[test]
    fn a_hole_is_named_and_moves_nothing() {
        let mut reader = Reader::new();
        reader.check(&source(0, 5, -1));
        let before = reader;
        let hole = reader.check(&source(0, 9, 7));
        assert!(matches!(hole, Verdict::Hole { prev: 7, .. }), "{hole:?}");
        assert_eq!(reader, before);
        assert_eq!(reader.check(&source(0, 7, 5)), Verdict::Apply);
    }

    #[test]
    fn a_hole_that_is_known_is_passed_once_and_every_other_is_not() {
        let known = Position {
            lane: Lane::Live,
            epoch: 0,
            partition: 3,
            offset: 7,
        };
        let mut reader = Reader::resume(&Checkpoint {
            position: Some(source(0, 4, 3).position()),
            hole: Some(known),
            ..Checkpoint::default()
        });
        assert!(matches!(
            reader.check(&source(0, 9, 6)),
            Verdict::Hole { .. }
        ));
        assert_eq!(reader.check(&source(0, 5, 4)), Verdict::Apply);
        let mut reader = Reader::resume(&reader.checkpoint());
        assert_eq!(reader.check(&source(0, 8, 7)), Verdict::Apply);
        assert_eq!(reader.checkpoint().hole, None);
        assert!(matches!(
            reader.check(&source(0, 12, 10)),
            Verdict::Hole { .. }
        ));
    }

    #[test]
    fn a_new_epoch_starts_below_the_old_offsets_and_must_start_at_its_beginning() {
        let mut reader = Reader::new();
        reader.check(&source(0, 500, -1));
        assert!(matches!(
            reader.check(&source(1, 4, 2)),
            Verdict::Hole { .. }
        ));
        assert_eq!(reader.check(&source(1, 2, -1)), Verdict::Apply);
        assert_eq!(reader.check(&source(0, 501, 500)), Verdict::Duplicate);
        assert_eq!(reader.check(&source(1, 4, 2)), Verdict::Apply);
    }

    #[test]
    fn a_record_of_a_backfill_passes_beside_the_chain() {
        let mut reader = Reader::new();
        reader.check(&source(0, 500, -1));
        let other = Source {
            lane: Lane::Backfill,
            ..source(0, 3, -1)
        };
        assert_eq!(reader.check(&other), Verdict::Redriven);
        assert_eq!(reader.last().map(|p| p.offset), Some(500));
    }

    #[test]
    fn a_redriven_record_passes_beside_the_chain() {
        let mut reader = Reader::new();
        reader.check(&source(0, 500, -1));
        assert_eq!(reader.check(&redriven(501)), Verdict::Redriven);
        assert_eq!(reader.last().map(|p| p.offset), Some(500));
        assert_eq!(reader.check(&source(0, 502, 500)), Verdict::Apply);
    }

    #[test]
    fn a_redriven_record_passes_once_also_when_an_enricher_writes_it_again() {
        let mut reader = Reader::new();
        reader.check(&source(0, 500, -1));
        assert_eq!(reader.check(&redriven(501)), Verdict::Redriven);
        let mut resumed = Reader::resume(&reader.checkpoint());
        for reader in [&mut reader, &mut resumed] {
            assert_eq!(reader.check(&redriven(501)), Verdict::Duplicate);
            assert_eq!(reader.check(&redriven(502)), Verdict::Redriven);
            assert_eq!(reader.check(&source(0, 503, 500)), Verdict::Apply);
            assert_eq!(reader.check(&redriven(502)), Verdict::Duplicate);
        }
    }

    fn redriven(offset: i64) -> Source {
        Source {
            lane: Lane::Redrive,
            ..source(0, offset, -1)
        }
    }

    proptest! {
        /// Owners and zombies append runs that start at or below last + 1 and have no gap (DESIGN section 3).
        #[test]
        fn whatever_zombies_append_every_position_is_applied_once_and_in_order(
            chain in proptest::collection::vec(1i64..4, 1..40),
            runs in proptest::collection::vec((any::<proptest::sample::Index>(), 1usize..10), 0..12),
            restarts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
        ) {
            let offsets: Vec<i64> = chain.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
            let record = |index: usize| source(0, offsets[index], if index == 0 { -1 } else { offsets[index - 1] });
            let (mut log, mut end) = (Vec::new(), 0usize);
            for (start, length) in &runs {
                let start = start.index(end + 1);
                let stop = (start + length).min(offsets.len());
                log.extend((start..stop).map(record));
                end = end.max(stop);
            }
            log.extend((end..offsets.len()).map(record));
            let restarts: Vec<usize> = restarts.iter().map(|r| r.index(log.len())).collect();
            let (mut reader, mut applied) = (Reader::new(), Vec::new());
            for (index, source) in log.iter().enumerate() {
                if restarts.contains(&index) { reader = Reader::resume(&reader.checkpoint()); }
                match reader.check(source) {
                    Verdict::Apply => applied.push(source.offset),
                    Verdict::Duplicate => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(applied, offsets);
        }

        #[test]
        fn a_record_missing_anywhere_is_a_hole(length in 3usize..30, missing in any::<proptest::sample::Index>()) {
            let missing = 1 + missing.index(length - 2);
            let mut reader = Reader::new();
            for index in (0..length).filter(|index| *index != missing) {
                let at = i64::try_from(index).unwrap();
                let verdict = reader.check(&source(0, at, at - 1));
                if index > missing {
                    let is_hole = matches!(verdict, Verdict::Hole { .. });
                    prop_assert!(is_hole);
                    break;
                }
                prop_assert_eq!(verdict, Verdict::Apply);
            }
        }
    }
}
