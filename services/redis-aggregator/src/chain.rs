//! Follows the chain of one partition, past records that cannot be read.
//!
//! Invariant: a record that was never seen is noticed, unless it is the one that went to the dead letters in its place.

use engagement::event::{Position, Source};
use stream::lineage::{Reader, Verdict};

use crate::position::Applied;

/// Where a partition's chain is.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    reader: Reader,
    /// Source position of the record just passed; `None` when it could not be read.
    before: Option<Position>,
    /// A record was passed that names no position, so the next one may name a predecessor that was not seen.
    unread: bool,
}

/// What a record is to the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The next one, or one beside the chain.
    Next,
    /// One that was passed before.
    Duplicate,
}

/// Records are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{found} follows offset {prev}, but the last record seen is {last}: records are missing")]
pub struct Hole {
    last: Position,
    prev: i64,
    found: Position,
}

impl Chain {
    /// Continues after what is applied.
    #[must_use]
    pub fn after(applied: &Applied) -> Self {
        let unread = applied.before.is_none() && applied.source.is_some();
        Self {
            reader: Reader::at(applied.source),
            before: applied.before,
            unread,
        }
    }

    /// Passes a record.
    ///
    /// # Errors
    /// It names a predecessor that was not seen; nothing has moved.
    pub fn follow(&mut self, source: &Source) -> Result<Step, Hole> {
        let mut verdict = self.reader.check(source);
        if let (Verdict::Hole { found, prev, .. }, true) = (verdict, self.unread) {
            // the record in between is in the dead letters
            self.reader = Reader::at(Some(Position {
                offset: prev,
                ..found
            }));
            verdict = self.reader.check(source);
        }
        let step = match verdict {
            Verdict::Apply => {
                self.unread = false;
                Step::Next
            }
            Verdict::Redriven => Step::Next,
            Verdict::Duplicate => Step::Duplicate,
            Verdict::Hole { last, prev, found } => return Err(Hole { last, prev, found }),
        };
        self.before = (!self.unread).then(|| source.position());
        Ok(step)
    }

    /// Passes a record that cannot be read, but for the position in its header.
    pub fn skip(&mut self, position: Option<Position>) {
        match position {
            Some(position) => {
                let is_newer =
                    |last: Position| (last.epoch, last.offset) < (position.epoch, position.offset);
                if self.reader.last().is_none_or(is_newer) {
                    self.reader = Reader::at(Some(position));
                }
            }
            None => self.unread = true,
        }
        self.before = position.filter(|_| !self.unread);
    }

    /// Passes a letter that was sent back to another reader: it has no place in the chain.
    pub fn pass(&mut self, position: Option<Position>) {
        self.before = position.filter(|_| !self.unread);
    }

    /// The position after the record passed last, which stands at `enriched`.
    #[must_use]
    pub fn applied(&self, enriched: i64) -> Applied {
        Applied {
            source: self.reader.last(),
            before: self.before,
            enriched,
        }
    }

    /// What to commit after the record passed last.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        let mut checkpoint = self.reader.checkpoint();
        checkpoint.before = self.before;
        checkpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;

    fn source(offset: i64) -> Source {
        Sample::new().at_position(0, offset).build().source
    }

    fn after(offset: i64) -> Chain {
        let mut chain = Chain::after(&Applied::nothing_before(0));
        assert_eq!(chain.follow(&source(offset)), Ok(Step::Next));
        chain
    }

    #[test]
    fn a_missing_record_is_a_hole_and_moves_nothing() {
        let mut chain = after(1);
        let hole = chain.follow(&source(3)).unwrap_err();
        assert!(
            hole.to_string()
                .contains("live/0/0/3 follows offset 2, but the last record seen is live/0/0/1")
        );
        assert_eq!(chain.follow(&source(2)), Ok(Step::Next));
    }

    #[test]
    fn a_record_that_only_its_header_names_keeps_its_place() {
        let mut chain = after(1);
        chain.skip(Some(source(2).position()));
        assert_eq!(chain.applied(9).before, Some(source(2).position()));
        assert_eq!(chain.follow(&source(2)), Ok(Step::Duplicate));
        assert_eq!(chain.follow(&source(3)), Ok(Step::Next));
    }

    #[test]
    fn a_letter_of_another_reader_moves_nothing_but_the_proof() {
        let mut chain = Chain::after(&Applied::nothing_before(0));
        chain.pass(Some(source(3).position()));
        assert_eq!(chain.follow(&source(900)), Ok(Step::Next), "the first");
        chain.pass(Some(source(3).position()));
        assert_eq!(chain.applied(9).before, Some(source(3).position()));
        assert_eq!(chain.follow(&source(901)), Ok(Step::Next));
    }

    #[test]
    fn a_record_without_any_position_explains_one_gap_even_after_a_restart() {
        let mut chain = after(1);
        chain.skip(None);
        assert_eq!(chain.follow(&source(1)), Ok(Step::Duplicate));
        let mut chain = Chain::after(&chain.applied(9));
        assert_eq!(chain.follow(&source(3)), Ok(Step::Next));
        assert!(chain.follow(&source(5)).is_err());
    }

    #[test]
    fn after_a_duplicate_the_position_stays_and_the_proof_names_the_duplicate() {
        let mut chain = after(5);
        assert_eq!(chain.follow(&source(4)), Ok(Step::Duplicate));
        assert_eq!(chain.applied(7).to_string(), "live/0/0/5~live/0/0/4@7");
        assert_eq!(chain.checkpoint(), chain.checkpoint());
    }
}
