//! The ways in which a position can fail to fit its log, each with the repair.
//!
//! Invariant: the text names the offsets compared; the remedy is a command.

/// Why nothing can be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something is committed or was seen, but the topic has never held a record.
    #[error("the topic is new: it ends at offset 0 although position {had} had been reached")]
    Recreated {
        /// What was reached before.
        had: i64,
    },
    /// The position is beyond the end of the log.
    #[error(
        "position {next} is beyond the end of the log at {high}: the topic was recreated or truncated"
    )]
    BeyondEnd {
        /// Offset to read next.
        next: i64,
        /// End of the log.
        high: i64,
    },
    /// Retention has removed records that were never read.
    #[error("offsets {next} to {low} were removed by retention before they were read")]
    Expired {
        /// Offset to read next.
        next: i64,
        /// Start of the log.
        low: i64,
    },
    /// The output's retention has removed everything and no commit says where it ended.
    #[error("the output is empty up to offset {high} and no commit says what it ended with")]
    UnknownEnd {
        /// End of the output.
        high: i64,
    },
    /// The commit's metadata is not ours.
    #[error("the committed offset {offset} carries no usable checkpoint: {cause}")]
    Metadata {
        /// The committed offset.
        offset: i64,
        /// What is wrong with it.
        cause: String,
    },
    /// The record before the position is another one than was read.
    #[error(
        "the record before offset {next} was made from {found}, not from {expected}: the topic was recreated"
    )]
    OtherRecord {
        /// Offset to read next.
        next: i64,
        /// Source position committed.
        expected: String,
        /// Source position found.
        found: String,
    },
    /// The group's position is gone while this process was running.
    #[error(
        "the position {had} of the group is gone: the topic was deleted, or the group's offsets were"
    )]
    CommitGone {
        /// What was committed before.
        had: i64,
    },
}

impl Refusal {
    /// The next command to run.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Recreated { .. }
            | Self::BeyondEnd { .. }
            | Self::OtherRecord { .. }
            | Self::CommitGone { .. } => {
                "see `engagectl lineage show`; adopt the new topic with `engagectl lineage adopt`, then `engagectl verify`"
            }
            Self::Expired { .. } => {
                "run `engagectl lineage adopt` to continue at the start of the log, then `engagectl verify` names what the gap has cost"
            }
            Self::UnknownEnd { .. } | Self::Metadata { .. } => {
                "see `engagectl lineage show`; `engagectl lineage adopt` goes on where the logs prove it, then `engagectl verify`"
            }
        }
    }
}
