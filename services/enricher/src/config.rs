//! What can be configured, section by section; every field has a default that works on one machine.
//!
//! Invariant: a value that makes no sense is refused at start, by name.

use std::num::NonZeroUsize;
use std::time::Duration;

use engagement::envelope::TableSchema;
use engagement::wire::Format;
use platform::ConnectSettings;
use secrecy::SecretString;
use serde::Deserialize;
use service::config::EnvKey;
use stream::dead_letter;
use stream::settings::KafkaSettings;

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the broker.
    pub kafka: KafkaSettings,
    /// What is read.
    pub input: Input,
    /// What is written.
    pub output: Output,
    /// The source database, asked only for contents that the content topic did not bring.
    pub database: Database,
    /// The connector to start again when it has failed; without it, somebody else does.
    pub connect: Option<ConnectSettings>,
    /// Names of the key columns, meaning of numeric times.
    pub schema: TableSchema,
    /// Epoch and exceptions of the lineage.
    pub lineage: Lineage,
}

/// What is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// Change events of `engagement_events`.
    pub cdc_topic: String,
    /// Change events of `content`; compacted.
    pub content_topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Records taken from a partition at once.
    pub batch: NonZeroUsize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            cdc_topic: "cdc.public.engagement_events".into(),
            content_topic: "cdc.public.content".into(),
            group_id: "enricher".into(),
            batch: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// What is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Where enriched events go; as many partitions as the change topic.
    pub topic: String,
    /// Where records go that cannot be enriched, with their original bytes; as many partitions as the change topic.
    pub dead_letter_topic: String,
    /// How enriched events are written.
    pub format: OutputFormat,
    /// Largest enriched record, bytes; one beyond it is dead-lettered. Below the topic's `max.message.bytes`.
    pub max_record_bytes: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            topic: "engagement.enriched.v1".into(),
            dead_letter_topic: dead_letter::topic("enricher"),
            format: OutputFormat::Protobuf,
            max_record_bytes: 4 << 20,
        }
    }
}

/// The source database.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/database`. Without it, unknown contents are waited for but not looked up.
    #[serde(deserialize_with = "service::config::postgres_url_option")]
    pub url: Option<SecretString>,
    /// The content table, with its schema.
    pub content_table: String,
    /// How long a partition waits, per 30 s, for contents while Postgres cannot be asked; also the longest question.
    #[serde(with = "humantime_serde")]
    pub content_wait: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            content_table: "public.content".into(),
            content_wait: Duration::from_secs(2),
        }
    }
}

/// Epoch and exceptions of the lineage.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lineage {
    /// The epoch to write. Higher than the one found adopts the CDC topic as it is now: it is read from its start and
    /// the mark is forgotten. Unset: as found in the output or in the commit metadata, 0 at first.
    pub epoch: Option<u8>,
    /// Records of the CDC topic to pass over, as `partition/offset`: a TRUNCATE whose repair is done.
    pub skip: Vec<String>,
}

/// How enriched events are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// `engagement.v1.EnrichedEvent`.
    #[default]
    Protobuf,
    /// The canonical profile.
    Json,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Protobuf => Self::Protobuf,
            OutputFormat::Json => Self::Json,
        }
    }
}

/// What the configuration itself gets wrong, without connecting anywhere: text and remedy of each problem.
#[must_use]
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let kafka = config
        .kafka
        .problems()
        .into_iter()
        .map(|problem| (problem.to_string(), "correct the setting".to_owned()));
    let skip = config
        .lineage
        .skip
        .iter()
        .filter(|text| skipped(text).is_none())
        .map(|text| {
            (
                format!("lineage.skip has {text:?}"),
                "write it as partition/offset, such as 3/4711".to_owned(),
            )
        });
    kafka.chain(skip).collect()
}

/// `partition/offset` of an entry of [`Lineage::skip`].
#[must_use]
pub fn skipped(text: &str) -> Option<(i32, i64)> {
    let (partition, offset) = text.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// Environment variables beside those of the shared sections.
pub const ENV: &[EnvKey] = &[
    EnvKey::plain("KAFKA_CDC_TOPIC", "input.cdc_topic"),
    EnvKey::plain("KAFKA_CONTENT_TOPIC", "input.content_topic"),
    EnvKey::plain("KAFKA_GROUP_ID", "input.group_id"),
    EnvKey::plain("KAFKA_ENRICHED_TOPIC", "output.topic"),
    EnvKey::plain("KAFKA_DEAD_LETTER_TOPIC", "output.dead_letter_topic"),
    EnvKey::plain("ENRICHED_FORMAT", "output.format"),
    EnvKey::secret("DATABASE_URL", "database.url"),
    EnvKey::plain("CONTENT_TABLE", "database.content_table"),
    EnvKey::plain("CONTENT_WAIT", "database.content_wait"),
    EnvKey::plain("EVENT_KEY", "schema.event_key"),
    EnvKey::plain("CONTENT_KEY", "schema.content_id"),
    EnvKey::plain("EVENT_CONTENT_KEY", "schema.content_key"),
    EnvKey::plain("CONNECT_URL", "connect.url"),
    EnvKey::plain("CONNECT_CONNECTOR", "connect.name"),
    EnvKey::plain("LINEAGE_EPOCH", "lineage.epoch"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problem() {
        assert_eq!(problems(&Config::default()), vec![]);
    }

    #[test]
    fn a_record_to_skip_is_named_by_partition_and_offset() {
        assert_eq!(skipped("3/4711"), Some((3, 4711)));
        let mut config = Config::default();
        config.lineage.skip = vec!["3:4711".into()];
        assert_eq!(problems(&config).len(), 1);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<Config>(r#"{"output": {"topics": "x"}}"#).unwrap_err();
        assert!(error.to_string().contains("topics"), "{error}");
    }
}
