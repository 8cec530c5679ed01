//! What ends a lane or the whole loop, and what to do about it.
//!
//! Invariant: the reaction is a property of the variant; nobody reads the text to decide.

use std::borrow::Cow;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::{Exit, Failure};

/// How a lane ended, other than by being told to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// Started again with backoff, from its own proof of position.
    #[error("{reason}")]
    Retry {
        /// What failed, with topic, partition and offset where known.
        reason: String,
    },
    /// A human must repair; the partition stays assigned and silent, other lanes go on.
    #[error("{reason}; {remedy}")]
    Stop {
        /// What is wrong, with topic, partition and offset.
        reason: String,
        /// What would be right and the next command to run.
        remedy: String,
    },
}

impl LaneError {
    /// Shorthand for [`LaneError::Retry`].
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
        }
    }

    /// Shorthand for [`LaneError::Stop`].
    #[must_use]
    pub fn stop(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Stop {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<KafkaError> for LaneError {
    /// A Kafka call that failed while a lane runs is tried again; what must stop a lane is decided where the facts are known.
    fn from(error: KafkaError) -> Self {
        Self::retry(error.to_string())
    }
}

/// What kind of end a [`RunError`] is; the process maps it to an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunErrorKind {
    /// Wrong configuration (exit 64).
    Usage,
    /// A dependency never came up (exit 69).
    Unavailable,
    /// A defect of this program or its libraries (exit 70).
    Internal,
    /// A new start is enough (exit 75).
    TryAgain,
    /// A human must repair (exit 78).
    Repair,
}

/// Why [`crate::lanes::run`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Every assigned lane is stopped.
    #[error("no lane of topic {topic} is left: {lanes}")]
    NoLaneLeft {
        /// The topic.
        topic: String,
        /// Partition, reason and remedy of each stopped lane.
        lanes: String,
    },
    /// The broker answers, the topic is not there.
    #[error("topic {topic} does not exist on {servers}")]
    MissingTopic {
        /// The topic.
        topic: String,
        /// Bootstrap servers asked.
        servers: String,
    },
    /// The topic has another number of partitions than its counterpart.
    #[error("topic {topic} has {found} partitions where {expected} are needed")]
    PartitionCount {
        /// The topic.
        topic: String,
        /// Partitions it has.
        found: i32,
        /// Partitions it must have.
        expected: i32,
    },
    /// No broker answered in time.
    #[error("no broker at {servers} answered within {seconds} s: {cause}")]
    Unreachable {
        /// Bootstrap servers asked.
        servers: String,
        /// How long.
        seconds: u64,
        /// Last error of the client.
        cause: String,
    },
    /// Another client is answered about the group all the time in which this one is not.
    #[error(
        "this client no longer reaches group {group} at {servers}, where a new one is answered: {loss}"
    )]
    OutOfReach {
        /// Consumer group.
        group: String,
        /// Bootstrap servers it was started with.
        servers: String,
        /// What it has not got, for how long, and what it reports of itself.
        loss: String,
    },
    /// A newer member has the same `group.instance.id`: another process, or this one, whose request to join was repeated.
    #[error("a newer member of group {group} has taken this one's place: {cause}")]
    Fenced {
        /// Consumer group.
        group: String,
        /// What the client reported.
        cause: String,
    },
    /// The broker refused the credentials.
    #[error("{servers} refused the credentials: {cause}")]
    Authentication {
        /// Bootstrap servers asked.
        servers: String,
        /// What the client reported.
        cause: String,
    },
    /// The broker refused the operation to this user.
    #[error("{servers} denies access to {what}: {cause}")]
    Authorization {
        /// Bootstrap servers asked.
        servers: String,
        /// Topic or group.
        what: String,
        /// What the client reported.
        cause: String,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    /// The client raised an error it cannot recover from, or its thread died.
    #[error("the Kafka consumer failed for good: {cause}")]
    Fatal {
        /// What it reported.
        cause: String,
    },
}

impl From<RunErrorKind> for Exit {
    fn from(kind: RunErrorKind) -> Self {
        match kind {
            RunErrorKind::Usage => Self::Usage,
            RunErrorKind::Unavailable => Self::Unavailable,
            RunErrorKind::Internal => Self::Internal,
            RunErrorKind::TryAgain => Self::TryAgain,
            RunErrorKind::Repair => Self::Repair,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::new(error.kind().into(), error.to_string()).remedy(error.remedy())
    }
}

impl RunError {
    /// Why a question was not answered: `last` is what the client reported of its connections, `error` what the question
    /// itself came back with.
    pub(crate) fn unanswered(
        servers: String,
        seconds: u64,
        last: Option<(RDKafkaErrorCode, String)>,
        error: &KafkaError,
    ) -> Self {
        use RDKafkaErrorCode as Code;
        match last {
            Some((
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism,
                cause,
            )) => Self::Authentication { servers, cause },
            last => Self::Unreachable {
                servers,
                seconds,
                cause: last.map_or_else(|| error.to_string(), |(_, cause)| cause),
            },
        }
    }

    /// Which exit code this is.
    #[must_use]
    pub const fn kind(&self) -> RunErrorKind {
        match self {
            Self::NoLaneLeft { .. } | Self::MissingTopic { .. } | Self::PartitionCount { .. } => {
                RunErrorKind::Repair
            }
            Self::Authentication { .. } | Self::Authorization { .. } => RunErrorKind::Repair,
            Self::Unreachable { .. } => RunErrorKind::Unavailable,
            Self::OutOfReach { .. } | Self::Fenced { .. } => RunErrorKind::TryAgain,
            Self::Settings(_) => RunErrorKind::Usage,
            Self::Fatal { .. } => RunErrorKind::Internal,
        }
    }

    /// What would be right and the next command to run.
    #[must_use]
    pub fn remedy(&self) -> Cow<'static, str> {
        match self {
            Self::NoLaneLeft { .. } => "repair what each lane names, then start again".into(),
            Self::MissingTopic { .. } => "create it with: engagectl init".into(),
            Self::PartitionCount { topic, expected, .. } => {
                format!("recreate {topic} with {expected} partitions, or configure the right topic; see: engagectl init").into()
            }
            Self::Unreachable { .. } => "check KAFKA_BOOTSTRAP_SERVERS and that the broker runs; with TLS also KAFKA_SECURITY_PROTOCOL, and that \
                 KAFKA_SSL_CA_LOCATION holds the authority of its certificate: engagectl check"
                .into(),
            Self::OutOfReach { .. } => "start again: a new client asks the bootstrap servers".into(),
            Self::Fenced { .. } => {
                "start again; if it repeats, two processes share one group.instance.id".into()
            }
            Self::Authentication { .. } => {
                "check KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SSL_*: \
                 engagectl check"
                    .into()
            }
            Self::Authorization { .. } => "grant KAFKA_SASL_USERNAME what `engagectl access kafka` lists for this service, then start again".into(),
            Self::Settings(_) => "correct the setting named".into(),
            Self::Fatal { .. } => "start again; if it repeats, report it with the log".into(),
        }
    }
}
