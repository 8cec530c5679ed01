//! How far back an opening partition reads, to know again which changes stand at its mark. Pure: it says what to read
//! next, and is told what was there.
//!
//! Invariant: it ends only when every change at the mark that was written before has been read, or the log holds
//! nothing older; what it asks for at once is bounded, however far back that is.

use engagement::event::{EnrichedEvent, Source};
use stream::Watermarks;
use stream::lineage::EnricherResume;

use crate::chain::{Chain, Replayed};

/// Records asked for first; each further question is for twice as many.
const STEP: i64 = 512;
/// Records asked for at most: about 4 MiB of change records.
const STEP_MAX: i64 = 4096;

/// What to read next: the offsets `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Of the output; answer with [`Replay::told_events`].
    Events {
        /// First offset.
        from: i64,
        /// Offset behind the last.
        to: i64,
    },
    /// Of the change topic; answer with [`Replay::told_changes`].
    Changes {
        /// First offset.
        from: i64,
        /// Offset behind the last.
        to: i64,
    },
}

/// The way back.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    phase: Phase,
    /// Records of the next question.
    pub(crate) step: i64,
    /// Starts of the two logs.
    changes_low: i64,
    output_low: i64,
    next: i64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Looking for the last streamed event: the chain is known back to the record that follows source offset `prev`.
    Written {
        prev: i64,
        epoch: u8,
        to: i64,
    },
    /// Reading the changes below `to`.
    Changes {
        to: i64,
        all: bool,
    },
    Done,
}

impl Replay {
    /// `tail` is the event with the highest position in the output.
    #[must_use]
    pub fn new(
        resume: &EnricherResume,
        tail: Option<&EnrichedEvent>,
        input: Watermarks,
        output: Watermarks,
    ) -> Self {
        let below = |all| Phase::Changes {
            to: resume.next,
            all,
        };
        let phase = match (resume.mark, tail.map(|tail| &tail.source)) {
            (None, _) => below(false),
            // snapshot records stand between here and the changes at the mark
            (Some(_), Some(tail)) if tail.snapshot => Phase::Written {
                prev: tail.prev,
                epoch: tail.epoch,
                to: output.high,
            },
            (Some(_), Some(_)) => below(false),
            // what is here may have been sent again, and the changes at the mark stand before it
            (Some(_), None) => below(true),
        };
        Self {
            phase,
            step: STEP,
            changes_low: input.low,
            output_low: output.low,
            next: resume.next,
        }
    }

    /// What to read next; `None`: enough is known.
    #[must_use]
    pub fn ask(&self) -> Option<Ask> {
        match self.phase {
            Phase::Written { to, .. } if to > self.output_low => Some(Ask::Events {
                from: self.output_low.max(to - self.step),
                to,
            }),
            Phase::Changes { to, .. } if to > self.changes_low => Some(Ask::Changes {
                from: self.changes_low.max(to - self.step),
                to,
            }),
            _ => None,
        }
    }

    /// The output's records of the last question, in their order. Walks the chain back by `prev`: an old instance may
    /// have appended earlier parts of it again.
    pub fn told_events<'a>(&mut self, events: impl DoubleEndedIterator<Item = &'a Source>) {
        let (
            Some(Ask::Events { from, .. }),
            Phase::Written {
                mut prev, epoch, ..
            },
        ) = (self.ask(), self.phase)
        else {
            return;
        };
        for event in events.rev() {
            if (event.epoch, event.offset) != (epoch, prev) {
                continue;
            }
            if !event.snapshot {
                return self.read_changes(event.offset + 1, false);
            }
            prev = event.prev;
        }
        self.phase = Phase::Written {
            prev,
            epoch,
            to: from,
        };
        self.step = (self.step * 2).min(STEP_MAX);
        // retention has taken the rest of the chain: nothing says where its last change stands
        if from <= self.output_low || prev < 0 {
            self.read_changes(self.next, true);
        }
    }

    /// What the changes of the last question were.
    pub fn told_changes(&mut self, chain: &Chain, seen: &[Replayed]) {
        let (Some(Ask::Changes { from, .. }), Phase::Changes { all, .. }) =
            (self.ask(), self.phase)
        else {
            return;
        };
        self.step = (self.step * 2).min(STEP_MAX);
        self.phase = if !all && chain.is_restored(seen, self.next - from) {
            Phase::Done
        } else {
            Phase::Changes { to: from, all }
        };
    }

    fn read_changes(&mut self, to: i64, all: bool) {
        self.step = STEP;
        self.phase = Phase::Changes { to, all };
    }
}
