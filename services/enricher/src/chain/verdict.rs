//! What the chain says about a record.
//!
//! Invariant: every stop names what is wrong and the next command.

use engagement::envelope::{EventChange, Reject};
use stream::lineage::Contradiction;

/// What one record of the change topic is.
#[derive(Debug, PartialEq)]
pub enum Verdict<'a> {
    /// A change to enrich; tell [`super::Chain::emitted`] once it is on its way.
    Emit(EventChange<'a>),
    /// A letter that was sent back, and the epoch that it was given up in: enriched beside the chain.
    Redrive(EventChange<'a>, u8),
    /// Nothing to do.
    Skip(Skip),
    /// Re-sent by Debezium.
    Duplicate,
    /// Not processable: to the dead letters, the stream goes on.
    Reject(Reject),
    /// The lane must not go on.
    Stop(Halt),
}

impl<'a> Verdict<'a> {
    /// The change, where there is one to enrich.
    #[must_use]
    pub const fn change(&self) -> Option<&EventChange<'a>> {
        match self {
            Self::Emit(change) | Self::Redrive(change, _) => Some(change),
            Self::Skip(_) | Self::Duplicate | Self::Reject(_) | Self::Stop(_) => None,
        }
    }
}

/// What a record from before the resume point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// A streamed change of an earlier mark: nothing before it can be at the mark.
    BelowMark,
    /// A streamed change without `sequence` (flattened form).
    Unmarked,
    /// Anything else.
    Other,
}

/// Why a record needs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A null value after a deletion.
    Tombstone,
    /// A logical message, a heartbeat for instance.
    Message,
    /// Named in `lineage.skip`.
    Listed,
    /// A redriven letter that is in the output already.
    Redriven,
}

impl Skip {
    /// Label for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Message => "message",
            Self::Listed => "listed",
            Self::Redriven => "redriven",
        }
    }
}

/// Why a lane must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// TRUNCATE cannot be mirrored (rule 19).
    Truncate,
    /// The record's key does not carry the content's id.
    WrongKey(Reject),
    /// The order of the log contradicts the mark.
    Contradiction(Contradiction),
}

impl Halt {
    /// What is wrong, without the place.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Truncate => "the event table was truncated, which sinks cannot mirror".into(),
            Self::WrongKey(reject) => reject.message.clone(),
            Self::Contradiction(contradiction) => contradiction.to_string(),
        }
    }

    /// What would be right, and the next command; `at` is the record as `partition/offset`.
    #[must_use]
    pub fn remedy(&self, at: &str) -> String {
        match self {
            Self::Truncate => format!(
                "truncate the sinks too, or restore the rows and run `engagectl verify`; then add \"{at}\" to lineage.skip and \
                 restart. Create the publication with publish = 'insert, update, delete'"
            ),
            Self::WrongKey(_) => "set message.key.columns=public.engagement_events:content_id in the connector, let it \
                 snapshot into a new topic, and adopt that with `engagectl lineage adopt`"
                .into(),
            Self::Contradiction(contradiction) => contradiction.remedy().into(),
        }
    }
}
