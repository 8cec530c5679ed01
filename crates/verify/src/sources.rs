//! Where everything is, and what shall be compared.
//!
//! Invariant: a source that is `None` is not asked for, and the report has no line for it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use engagement::event::Micros;
use platform::{ClickHouseSettings, Schema};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use service::TlsFiles;
use stream::dead_letter;
use stream::settings::KafkaSettings;
use url::Url;

use crate::endpoint::ReceiverSource;
use crate::error::Error;

/// The stores of one pipeline.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The truth.
    pub postgres: PostgresSource,
    /// The log between Postgres and every sink.
    pub kafka: KafkaSource,
    /// The analytics store.
    pub clickhouse: Option<ClickHouseSettings>,
    /// The aggregates.
    pub redis: Option<RedisSource>,
    /// One webhook endpoint that can tell what it got.
    pub receiver: Option<ReceiverSource>,
}

/// The source database.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    /// A role that may read the table.
    pub url: SecretString,
    /// Which of the documented layouts the table has; gives the name of its key.
    pub schema: Schema,
    /// The table, with its schema.
    pub table: String,
    /// A single statement that takes longer is cancelled by the server. Also the bound for ClickHouse.
    pub statement_timeout: Duration,
}

impl PostgresSource {
    /// `public.engagement_events` of that database, ten minutes a statement.
    #[must_use]
    pub fn new(url: impl Into<SecretString>, schema: Schema) -> Self {
        Self {
            url: url.into(),
            schema,
            table: "public.engagement_events".into(),
            statement_timeout: Duration::from_secs(600),
        }
    }
}

/// The broker, its topics, and the groups whose progress says whether a sink has drained.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// How to reach it.
    pub settings: KafkaSettings,
    /// Changes as Debezium writes them.
    pub cdc_topic: String,
    /// Enriched events.
    pub enriched_topic: String,
    /// What backfills write.
    pub backfill_topic: String,
    /// Plans and progress of backfills.
    pub runs_topic: String,
    /// Dead-letter topics are this and the service's name.
    pub dead_letter_prefix: String,
    /// Group of the enricher.
    pub enricher_group: String,
    /// Group of the ClickHouse sink.
    pub clickhouse_group: String,
}

impl KafkaSource {
    /// The default topics and groups of that broker.
    #[must_use]
    pub fn new(settings: KafkaSettings) -> Self {
        Self {
            settings,
            cdc_topic: "cdc.public.engagement_events".into(),
            enriched_topic: "engagement.enriched.v1".into(),
            backfill_topic: "engagement.backfill.v1".into(),
            runs_topic: "engagement.backfill.runs".into(),
            dead_letter_prefix: dead_letter::TOPICS.into(),
            enricher_group: "enricher".into(),
            clickhouse_group: "clickhouse-sink".into(),
        }
    }
}

/// The aggregates.
#[derive(Clone, Debug)]
pub struct RedisSource {
    /// `redis://[user:password@]host:port[/database]`, `rediss://` for TLS.
    pub url: Url,
    /// With `rediss://`: the authorities to trust, and this client's certificate.
    pub tls: TlsFiles,
    /// What the keys of the aggregator's state start with.
    pub prefix: String,
    /// The reader key with the number of events of a content: what stands before its id. `None`: it is switched off.
    pub count_key: Option<String>,
}

impl RedisSource {
    /// The default keys of that server.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            tls: TlsFiles::default(),
            prefix: "eng:".into(),
            count_key: Some("content:count:".into()),
        }
    }

    /// A client; nothing is opened yet.
    ///
    /// # Errors
    /// The URL is none, or a file of `[redis.tls]` cannot be used.
    pub fn client(&self) -> Result<redis::Client, Error> {
        let bad = |error: redis::RedisError| Error::refused("Redis", "REDIS_URL", error);
        let url = self.url.as_str();
        if self.tls.is_empty() {
            return redis::Client::open(url).map_err(bad);
        }
        let pem = self.tls.read("redis").map_err(Error::Tls)?;
        let certificates = redis::TlsCertificates {
            client_tls: pem
                .client
                .map(|(client_cert, client_key)| redis::ClientTlsConfig {
                    client_cert,
                    client_key,
                }),
            root_cert: pem.ca,
        };
        redis::Client::build_with_tls(url, certificates).map_err(bad)
    }
}

/// What is compared with Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// The topic of enriched events.
    Enriched,
    /// The table and the view `events`.
    Clickhouse,
    /// Totals and windows.
    Redis,
    /// Deliveries.
    Webhook,
}

impl Sink {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 4] = [Self::Enriched, Self::Clickhouse, Self::Redis, Self::Webhook];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enriched => "enriched",
            Self::Clickhouse => "clickhouse",
            Self::Redis => "redis",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|sink| sink.name() == text)
            .ok_or_else(|| format!("{text:?} is none of enriched, clickhouse, redis, webhook"))
    }
}

/// Told in words what is being done; for a progress line.
pub type OnProgress = Arc<dyn Fn(&str) + Send + Sync>;

/// What to compare, and how much to say.
#[derive(Clone)]
pub struct Options {
    /// Only events that happened at or after this time.
    pub from: Option<Micros>,
    /// Only events that happened before this time.
    pub to: Option<Micros>,
    /// How many differences per sink are named.
    pub limit: usize,
    /// What is compared.
    pub sinks: BTreeSet<Sink>,
    /// Told what is being done.
    pub progress: Option<OnProgress>,
}

impl Default for Options {
    /// Everything, 20 differences a sink.
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            limit: 20,
            sinks: Sink::ALL.into(),
            progress: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("limit", &self.limit)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Whether an event of that time is compared.
    #[must_use]
    pub fn covers(&self, at: Micros) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }

    pub(crate) fn say(&self, what: &str) {
        if let Some(progress) = &self.progress {
            progress(what);
        }
    }
}
