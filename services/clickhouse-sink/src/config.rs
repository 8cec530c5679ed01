//! What can be configured, section by section; every field has a default that works on one machine.
//!
//! Invariant: a value that makes no sense is refused at start, by name, with what would be right.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use service::TlsFiles;
use service::config::EnvKey;
use stream::dead_letter;
use stream::settings::KafkaSettings;
use url::Url;

use crate::batch::Limits;
use crate::sql::Table;

/// What `engagectl init` creates in the configured database, beside the views on it.
const TABLE: &str = "events_enriched";

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker and the topics.
    pub kafka: Kafka,
    /// The server that holds the table.
    pub clickhouse: ClickHouse,
    /// How rows are gathered.
    pub batch: Batching,
}

/// Environment names of this service beside those that every service has.
pub const ENV: &[EnvKey] = &[
    EnvKey::plain("KAFKA_ENRICHED_TOPIC", "kafka.enriched_topic"),
    EnvKey::plain("KAFKA_BACKFILL_TOPIC", "kafka.backfill_topic"),
    EnvKey::plain("KAFKA_GROUP_ID", "kafka.group_id"),
    EnvKey::plain("CLICKHOUSE_URL", "clickhouse.url"),
    EnvKey::plain("CLICKHOUSE_USER", "clickhouse.user"),
    EnvKey::secret("CLICKHOUSE_PASSWORD", "clickhouse.password"),
    EnvKey::plain("CLICKHOUSE_DATABASE", "clickhouse.database"),
    EnvKey::plain("CLICKHOUSE_SSL_CA_LOCATION", "clickhouse.tls.ca"),
    EnvKey::plain(
        "CLICKHOUSE_SSL_CERTIFICATE_LOCATION",
        "clickhouse.tls.certificate",
    ),
    EnvKey::plain("CLICKHOUSE_SSL_KEY_LOCATION", "clickhouse.tls.key"),
];

/// The broker and the topics.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Kafka {
    /// How to reach the broker.
    #[serde(flatten)]
    pub connection: KafkaSettings,
    /// Enriched events.
    pub enriched_topic: String,
    /// Events that a backfill brings again, partitioned as the enriched topic; empty: none are read.
    pub backfill_topic: String,
    /// Where records go that cannot be stored, with their original bytes.
    pub dead_letter_topic: String,
    /// The consumer group.
    pub group_id: String,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            connection: KafkaSettings::default(),
            enriched_topic: "engagement.enriched.v1".into(),
            backfill_topic: "engagement.backfill.v1".into(),
            dead_letter_topic: dead_letter::topic("clickhouse-sink"),
            group_id: "clickhouse-sink".into(),
        }
    }
}

/// The server that holds the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouse {
    /// Its HTTP interface, `http://` or `https://`. One server or one replica, not a load balancer: what is read back
    /// must come from where it was written.
    pub url: Url,
    /// With `https://`: the authorities to trust, and this client's certificate.
    pub tls: TlsFiles,
    /// User; `engagectl access clickhouse` lists what it needs.
    pub user: String,
    /// Password.
    pub password: Option<SecretString>,
    /// Database.
    pub database: String,
    /// How long a request may take before its outcome counts as unknown.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long the server may take to answer at start before the process gives up (exit 69).
    #[serde(with = "humantime_serde")]
    pub startup: Duration,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self {
            url: Url::parse("http://127.0.0.1:8123").expect("the literal is a URL"),
            tls: TlsFiles::default(),
            user: "default".into(),
            password: None,
            database: "engagement".into(),
            request_timeout: Duration::from_secs(30),
            startup: Duration::from_secs(60),
        }
    }
}

impl ClickHouse {
    /// The table by its full name.
    #[must_use]
    pub fn table(&self) -> Table {
        Table {
            database: self.database.clone(),
            name: TABLE.to_owned(),
        }
    }
}

/// How rows are gathered.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// A batch of a Kafka partition is closed at so many rows ..
    pub rows: NonZeroUsize,
    /// .. or KiB in memory ..
    pub kib: NonZeroU32,
    /// .. or when this time has passed since the last ones left: the batches of all partitions leave together. The first one after
    /// a pause waits a tenth of it for company, one of a backlog lets two departures go.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// KiB that the open batches of all partitions may hold together; the one that asks for more is closed early.
    pub total_kib: NonZeroU32,
    /// Insert statements of this process at the same time; each holds what several partitions have.
    pub concurrent_inserts: NonZeroU32,
}

fn positive(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            rows: NonZeroUsize::new(50_000).unwrap_or(NonZeroUsize::MIN),
            kib: positive(2 * 1024),
            interval: Duration::from_millis(500),
            total_kib: positive(3 * 1024),
            concurrent_inserts: positive(2),
        }
    }
}

impl Batching {
    /// When a batch is full.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            rows: self.rows.get(),
            bytes: self.kib.get() as usize * 1024,
        }
    }
}

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {found}: {expected}")]
pub struct ConfigError {
    key: &'static str,
    found: String,
    expected: &'static str,
}

impl Config {
    /// Everything that makes no sense, without connecting.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigError> {
        let server = &self.clickhouse;
        let scheme = server.url.scheme();
        let checks = [
            (
                matches!(scheme, "http" | "https"),
                "clickhouse.url",
                server.url.to_string(),
                "the HTTP interface, such as http://127.0.0.1:8123",
            ),
            (
                !server.database.is_empty(),
                "clickhouse.database",
                String::new(),
                "a name, such as engagement",
            ),
            (
                server.request_timeout >= Duration::from_secs(1),
                "clickhouse.request_timeout",
                seconds(server.request_timeout),
                "at least 1s, or every busy moment of the server is an outage",
            ),
            (
                !self.batch.interval.is_zero(),
                "batch.interval",
                seconds(self.batch.interval),
                "more than zero, such as 1s",
            ),
        ];
        let bad = checks.into_iter().filter(|(fine, ..)| !fine);
        bad.map(|(_, key, found, expected)| ConfigError {
            key,
            found,
            expected,
        })
        .collect()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn every_value_that_makes_no_sense_is_named_at_once() {
        let mut config = Config::default();
        config.clickhouse.url = Url::parse("tcp://127.0.0.1:9000").unwrap();
        config.clickhouse.request_timeout = Duration::from_millis(500);
        let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("clickhouse.url = tcp://127.0.0.1:9000: the HTTP interface"),
            "{problems:?}"
        );
        assert_eq!(
            problems[1],
            "clickhouse.request_timeout = 0.5s: at least 1s, or every busy moment of the server is an outage"
        );
    }
}
