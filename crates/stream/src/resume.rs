//! Where a reader starts, with the proof that its topic is still the one it has read.
//!
//! Invariant: the resolved start is committed before the first record is delivered, so that "no position" can only
//! mean "never started".

use engagement::event::Position;
use faults::Rule;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::LaneError;
use crate::headers::{self, ENGAGEMENT_SOURCE};
use crate::lanes::{Committed, LaneHandle};
use crate::lineage::{Reader, ReaderResume, Refusal, reader_proof, reader_resume};
use crate::record::Record;

/// Where a group without a position starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartPolicy {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
}

/// Rule 5 for one partition of a reader: the offset to [`LaneHandle::start`] at, and the reader's state there.
///
/// # Errors
/// `Stop` when the commit does not belong to this topic or retention overtook it; `Retry` when the broker does not answer.
pub async fn resolve_start(
    lane: &LaneHandle,
    policy: StartPolicy,
) -> Result<(i64, Reader), LaneError> {
    let log = lane.watermarks().await?;
    let refuse = |refusal: Refusal| refused(lane, &refusal);
    let resume = match lane.committed() {
        Some(commit) if faults::is_broken(Rule::ResumeProof) => believed(commit),
        committed => reader_resume(log, committed).map_err(refuse)?,
    };
    match resume {
        ReaderResume::Fresh => {
            let start = match policy {
                StartPolicy::Earliest => log.low,
                StartPolicy::Latest => log.high,
            };
            lane.commit_now(start, Checkpoint::default().to_string())
                .await?;
            Ok((start, Reader::new()))
        }
        ReaderResume::At {
            next,
            checkpoint,
            before,
        } => {
            if let Some(expected) = before {
                let found = position_before(lane, next, log.low).await?;
                reader_proof(next, expected, found).map_err(refuse)?;
            }
            Ok((next, Reader::resume(&checkpoint)))
        }
    }
}

/// Only where a test breaks the rule: the commit as it is. Its metadata may be none, and the record before it another.
fn believed(commit: &Committed) -> ReaderResume {
    ReaderResume::At {
        next: commit.offset,
        checkpoint: commit.metadata.parse().unwrap_or_default(),
        before: None,
    }
}

/// A refusal as the end of a lane, naming topic and partition; counted as a violation.
#[must_use]
pub fn refused(lane: &LaneHandle, refusal: &Refusal) -> LaneError {
    crate::metrics::lineage_violation();
    LaneError::stop(
        format!(
            "topic {} partition {}: {refusal}",
            lane.topic(),
            lane.partition()
        ),
        refusal.remedy(),
    )
}

/// The source position that a record's `engagement-source` header names.
#[must_use]
pub fn source_position(record: &Record) -> Option<Position> {
    headers::last_text(&record.headers, ENGAGEMENT_SOURCE)?
        .parse()
        .ok()
}

/// Position of the last record below `next`; the outer `None`: nothing is left below it. Offsets may have gaps.
async fn position_before(
    lane: &LaneHandle,
    next: i64,
    low: i64,
) -> Result<Option<Option<Position>>, LaneError> {
    let mut back = 1;
    loop {
        let from = next.saturating_sub(back).max(low);
        let found = lane
            .read_range(lane.topic(), lane.partition(), from, next)
            .await?;
        match found.last() {
            Some(record) => return Ok(Some(source_position(record))),
            None if from == low => return Ok(None),
            None => back = back.saturating_mul(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test breaks is broken whole: neither the metadata nor the record before the offset is asked for.
    #[test]
    fn with_the_proof_broken_an_offset_without_metadata_and_one_with_a_record_before_it_are_believed()
     {
        let position: Position = "live/0/3/6".parse().unwrap();
        let written = Checkpoint {
            position: Some(position),
            before: Some(position),
            ..Checkpoint::default()
        };
        for metadata in [String::new(), written.to_string()] {
            let commit = Committed {
                offset: 7,
                metadata,
            };
            assert!(
                matches!(
                    believed(&commit),
                    ReaderResume::At {
                        next: 7,
                        before: None,
                        ..
                    }
                ),
                "{commit:?}"
            );
        }
    }
}
