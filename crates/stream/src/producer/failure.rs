//! Why a record was not produced, and what follows from it.
//!
//! Invariant: the reaction depends on the error's code in one exhaustive place, and on having seen it twice.

use rdkafka::error::RDKafkaErrorCode;

use crate::error::LaneError;

/// What a produce error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureClass {
    /// This record can never be produced: seen twice, it is a dead letter.
    Record,
    /// The topic is missing or denied: a human must repair.
    Configuration,
    /// The broker or the network: try again.
    Transient,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Topic.
    pub topic: String,
    /// Partition; -1 if none was chosen yet.
    pub partition: i32,
    /// Offset that the lane sent it under.
    pub offset: i64,
    /// The broker's or librdkafka's code.
    pub code: RDKafkaErrorCode,
}

impl Failure {
    /// What follows from the code.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        classify(self.code)
    }
}

fn classify(code: RDKafkaErrorCode) -> FailureClass {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp => FailureClass::Record,
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::Authentication
        | Code::SaslAuthenticationFailed => FailureClass::Configuration,
        _ => FailureClass::Transient,
    }
}

/// Why a send did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than the limit: dead-letter it, nothing was sent.
    #[error("a record of {size} bytes for topic {topic} exceeds the limit of {limit}")]
    TooLarge {
        /// Topic.
        topic: String,
        /// Bytes it would take.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The producer was given up; resume from the tail of the output.
    #[error("the producer was given up: {reason}")]
    Void {
        /// What failed, where.
        reason: String,
    },
    /// The broker refuses this record, or one of the same partition that was sent together with it.
    #[error("the broker refuses it: {reason}")]
    Rejected {
        /// What the broker said, where.
        reason: String,
    },
    /// The topic is missing or denied.
    #[error("{reason}; {remedy}")]
    Refused {
        /// What failed, where.
        reason: String,
        /// The next command to run.
        remedy: String,
    },
    /// Offsets must rise; a defect of the caller.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
}

impl From<SendError> for LaneError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge { .. } | SendError::Rejected { .. } => Self::stop(
                error.to_string(),
                "raise message.max.bytes (KAFKA_PROP_MESSAGE_MAX_BYTES) and the topic's max.message.bytes",
            ),
            SendError::Refused { reason, remedy } => Self::stop(reason, remedy),
            SendError::Void { .. } => Self::retry(error.to_string()),
            SendError::Ledger(_) => Self::stop(error.to_string(), "report it with the log"),
        }
    }
}

/// A record that may be the reason of a failed batch. Batches fail as a whole, so from its first record on the lane sends
/// one at a time, up to the last that failed with it; the one that fails alone twice in the same way is the culprit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    generation: u64,
    pub(crate) offset: i64,
    pub(crate) until: i64,
    code: RDKafkaErrorCode,
    pub(crate) proven: bool,
}

impl Suspect {
    pub(crate) const fn new(generation: u64, offset: i64, code: RDKafkaErrorCode) -> Self {
        Self {
            generation,
            offset,
            until: offset,
            code,
            proven: false,
        }
    }

    /// Another failure of this class in the same partition.
    pub(crate) fn again(&mut self, generation: u64, offset: i64, code: RDKafkaErrorCode) {
        if self.generation == generation {
            self.until = self.until.max(offset);
            return;
        }
        let proven = self.offset == offset && self.code == code;
        *self = Self {
            generation,
            offset,
            until: self.until.max(offset),
            code,
            proven,
        };
    }

    pub(crate) fn code(&self) -> RDKafkaErrorCode {
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: RDKafkaErrorCode = RDKafkaErrorCode::MessageSizeTooLarge;

    #[test]
    fn only_the_same_error_twice_at_one_offset_proves_the_culprit() {
        let mut suspect = Suspect::new(1, 90, LARGE);
        (91..=110).for_each(|offset| suspect.again(1, offset, LARGE));
        assert_eq!(
            (suspect.offset, suspect.until, suspect.proven),
            (90, 110, false)
        );
        suspect.again(2, 100, LARGE);
        assert_eq!(
            (suspect.offset, suspect.until, suspect.proven),
            (100, 110, false)
        );
        suspect.again(3, 100, RDKafkaErrorCode::InvalidTimestamp);
        assert!(!suspect.proven);
        suspect.again(4, 100, RDKafkaErrorCode::InvalidTimestamp);
        assert!(suspect.proven);
    }

    #[test]
    fn a_missing_topic_stops_the_lane_and_a_lost_broker_does_not() {
        assert_eq!(
            classify(RDKafkaErrorCode::UnknownTopicOrPartition),
            FailureClass::Configuration
        );
        assert_eq!(
            classify(RDKafkaErrorCode::BrokerTransportFailure),
            FailureClass::Transient
        );
        assert_eq!(
            classify(RDKafkaErrorCode::PurgeInflight),
            FailureClass::Transient
        );
        assert!(matches!(
            LaneError::from(SendError::Void { reason: "x".into() }),
            LaneError::Retry { .. }
        ));
    }
}
