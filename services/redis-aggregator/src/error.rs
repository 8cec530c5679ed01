//! What goes wrong with Redis, and what to do about it.
//!
//! Invariant: the reaction is a property of the variant, decided in one match.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use service::Failure;
use stream::LaneError;

/// Something about Redis that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or one that says "later". Whatever was sent may have run.
    #[error("redis at {server} did not do it: {cause}")]
    Doubt {
        /// Address without credentials.
        server: String,
        /// What the client reported.
        cause: RedisError,
    },
    /// The server was started anew and could not write its append-only file whole; it is asked again.
    #[error(
        "redis at {server} could not rewrite its append-only file after its start (disk full? fork refused?)"
    )]
    Unwritten {
        /// Address without credentials.
        server: String,
    },
    /// The URL is none.
    #[error("redis.url (REDIS_URL) is not usable: {cause}")]
    Url {
        /// What is wrong with it.
        cause: RedisError,
    },
    /// A file of `[redis.tls]`.
    #[error(transparent)]
    Tls(service::TlsError),
    /// The server refuses this user.
    #[error("redis at {server} refuses the credentials or the command: {cause}")]
    Denied {
        /// Address without credentials.
        server: String,
        /// What the server said.
        cause: RedisError,
    },
    /// The server may throw keys away.
    #[error(
        "redis at {server} has maxmemory-policy {policy}: it would drop counted sums without a trace"
    )]
    Evicts {
        /// Address without credentials.
        server: String,
        /// The policy found.
        policy: String,
    },
    /// A key of ours holds something else.
    #[error("{what}")]
    Damaged {
        /// Which key, what it holds, what it should hold.
        what: String,
        /// The next command to run.
        remedy: String,
    },
    /// The state is gone.
    #[error(
        "{key} is gone although partition {partition} had been applied up to offset {offset}: redis was wiped, or is another server"
    )]
    Wiped {
        /// The key of the position.
        key: String,
        /// The partition.
        partition: i32,
        /// Offset up to which it was applied.
        offset: i64,
    },
    /// The log does not reach back to its beginning, and nothing is counted yet.
    #[error(
        "redis holds nothing of partition {partition}, and the log begins at offset {first}: totals would lack what has expired"
    )]
    Partial {
        /// The partition.
        partition: i32,
        /// Offset of the first record that is left.
        first: i64,
    },
    /// The position in Redis is not the one that this lane counted on.
    #[error(
        "the position of partition {partition} is {found}, not {expected}: redis lost writes, or another process writes; reading it again"
    )]
    Moved {
        /// The partition.
        partition: i32,
        /// What is stored.
        found: String,
        /// What was expected.
        expected: String,
    },
}

impl StoreError {
    /// An error of the client, sorted.
    #[must_use]
    pub fn of(server: &str, cause: RedisError) -> Self {
        let server = server.to_owned();
        match cause.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Self::Denied { server, cause }
            }
            ErrorKind::InvalidClientConfig => Self::Url { cause },
            _ => match cause.code() {
                Some("NOAUTH" | "WRONGPASS") => Self::Denied { server, cause },
                // Redis has no code for a right that a command inside of a script lacks
                Some("ERR")
                    if cause
                        .detail()
                        .is_some_and(|told| told.contains("ACL failure")) =>
                {
                    Self::Denied { server, cause }
                }
                Some("WRONGTYPE") => Self::Damaged {
                    what: format!(
                        "a key of the aggregates' state on {server} holds another type: {cause}"
                    ),
                    remedy: REBUILD.into(),
                },
                _ => Self::Doubt { server, cause },
            },
        }
    }

    /// Whether trying again, without a person, is right.
    #[must_use]
    pub const fn is_doubt(&self) -> bool {
        matches!(self, Self::Doubt { .. } | Self::Unwritten { .. })
    }

    /// The fixed word for `engage_sink_errors_total{kind}`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Doubt { .. } | Self::Unwritten { .. } => "outage",
            Self::Url { .. } | Self::Tls(_) | Self::Denied { .. } | Self::Evicts { .. } => {
                "configuration"
            }
            Self::Damaged { .. } => "damaged",
            Self::Wiped { .. } => "wiped",
            Self::Partial { .. } => "partial",
            Self::Moved { .. } => "moved",
        }
    }

    /// What would be right, and the next command to run.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Doubt { .. } => "check REDIS_URL and that the server runs; with rediss:// also that REDIS_SSL_CA_LOCATION holds the authority of its \
                certificate: redis-aggregator check".into(),
            Self::Unwritten { .. } => "see the server's log; it goes on by itself when a rewrite has ended well".into(),
            Self::Url { .. } => "it looks like redis://user:password@host:6379/0, or rediss:// for TLS".into(),
            Self::Tls(_) => "correct the setting named".into(),
            Self::Denied { .. } => "check user and password in REDIS_URL, and that this user has what `engagectl access redis` lists".into(),
            Self::Evicts { .. } => "set it: redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf".into(),
            Self::Damaged { remedy, .. } => remedy.clone(),
            Self::Wiped { .. } => REBUILD.into(),
            Self::Partial { .. } => {
                "stop every redis-aggregator and make whole totals from ClickHouse: `engagectl rebuild redis --execute`; or set \
                 input.partial_totals = true to count from there only".into()
            }
            Self::Moved { .. } => "nothing to do".into(),
        }
    }
}

/// How the aggregates are made anew: from ClickHouse and the topic, or from the topic alone by a group that has never counted anything.
pub const REBUILD: &str = "stop every redis-aggregator, then `engagectl rebuild redis --execute` (--replace where state is left); \
    without ClickHouse count anew: delete the keys of redis.prefix (eng:*) in redis and the \
    group (kafka-consumer-groups.sh --delete --group redis-aggregator, or as input.group_id says), start again; \
    input.partial_totals = true where retention has taken the start of the topic";

impl From<StoreError> for LaneError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Doubt { .. } | StoreError::Unwritten { .. } | StoreError::Moved { .. } => {
                Self::retry(error.to_string())
            }
            StoreError::Url { .. }
            | StoreError::Tls(_)
            | StoreError::Denied { .. }
            | StoreError::Evicts { .. }
            | StoreError::Damaged { .. }
            | StoreError::Partial { .. }
            | StoreError::Wiped { .. } => Self::stop(error.to_string(), error.remedy()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = match &error {
            StoreError::Doubt { .. } | StoreError::Unwritten { .. } | StoreError::Moved { .. } => {
                Self::unavailable(error.to_string())
            }
            StoreError::Url { .. } | StoreError::Tls(_) => Self::usage(error.to_string()),
            StoreError::Denied { .. }
            | StoreError::Evicts { .. }
            | StoreError::Damaged { .. }
            | StoreError::Partial { .. }
            | StoreError::Wiped { .. } => Self::repair(error.to_string()),
        };
        failure.remedy(error.remedy())
    }
}
