//! Whether a group's position and the logs agree: the rules of the services themselves, asked from outside. Pure.
//!
//! Invariant: what is refused here is what the service refuses, and nothing else.

use engagement::event::Position;
use stream::checkpoint::Checkpoint;
use stream::lineage::{
    EnricherResume, ReaderResume, Refusal, enricher_resume, reader_proof, reader_resume,
};
use stream::{Committed, Watermarks};

use super::facts::Partition;

/// How a group and the logs stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The group has no position in this partition.
    New,
    /// The record before the position has still to be compared.
    Unproven {
        /// Offset to read next.
        next: i64,
        /// What the record before it must carry.
        expected: Position,
    },
    /// It goes on there.
    Agrees {
        /// Offset to read next.
        next: i64,
    },
    /// Its service refuses to go on.
    Refused(Refusal),
    /// It would go on, and stop before this record, whose predecessor is missing.
    Hole {
        /// Offset of the record in the enriched topic.
        offset: i64,
        /// The predecessor that it names.
        missing: Position,
        /// What is missing.
        reason: String,
    },
}

impl Standing {
    /// Whether a person must repair something.
    pub(super) const fn is_violated(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Hole { .. })
    }
}

/// What a commit's metadata says, where it is ours.
pub(super) fn checkpoint(commit: &Committed) -> Option<Checkpoint> {
    commit.metadata.parse().ok()
}

/// The enricher's own decision, without the proof.
pub(super) fn enricher(
    partition: &Partition,
    committed: Option<&Committed>,
) -> Result<EnricherResume, Refusal> {
    let tail = partition.tail.as_ref().map(|event| &event.source);
    enricher_resume(partition.cdc, partition.enriched, tail, committed)
}

/// `other` is what stands in the change topic where the tail was made from, if it is not that.
pub(super) fn proven(
    resume: Result<EnricherResume, Refusal>,
    other: Option<(Position, String)>,
) -> Standing {
    match (resume, other) {
        (Err(refusal), _) => Standing::Refused(refusal),
        (Ok(resume), None) => Standing::Agrees { next: resume.next },
        (Ok(resume), Some((expected, found))) => Standing::Refused(Refusal::OtherRecord {
            next: resume.next,
            expected: expected.to_string(),
            found,
        }),
    }
}

/// A reader's own decision, without the proof.
pub(super) fn reader(log: Watermarks, committed: Option<&Committed>) -> Standing {
    match reader_resume(log, committed) {
        Err(refusal) => Standing::Refused(refusal),
        Ok(ReaderResume::Fresh) => Standing::New,
        Ok(ReaderResume::At { next, before, .. }) => match before {
            Some(expected) => Standing::Unproven { next, expected },
            None => Standing::Agrees { next },
        },
    }
}

/// `found` is what the record before the position carries.
pub(super) fn reader_proven(
    next: i64,
    expected: Position,
    found: Option<Option<Position>>,
) -> Standing {
    match reader_proof(next, expected, found) {
        Ok(()) => Standing::Agrees { next },
        Err(refusal) => Standing::Refused(refusal),
    }
}
