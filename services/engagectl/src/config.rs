//! The configuration of `engagectl`: where the servers are.

use ::verify::RedisSource;
use platform::{
    ClickHouseSettings, Component, ConnectSettings, DatabaseSettings, Settings, TopicSettings,
};
use serde::{Deserialize, Serialize};
use service::config::{EnvKey, Loader};
use service::{Failure, TlsFiles};
use stream::settings::KafkaSettings;
use url::Url;

use crate::canary::CanarySettings;
use crate::cli::Cli;
use crate::erase::EraseSettings;

/// One section for each server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker.
    pub kafka: KafkaSettings,
    /// The topics.
    pub topics: TopicSettings,
    /// The source database.
    pub database: DatabaseSettings,
    /// Kafka Connect.
    pub connect: ConnectSettings,
    /// ClickHouse.
    pub clickhouse: ClickHouseSettings,
    /// Redis.
    pub redis: RedisSettings,
    /// The consumer groups.
    pub groups: Groups,
    /// Where traces are looked up.
    pub jaeger: JaegerSettings,
    /// The canary.
    pub canary: CanarySettings,
    /// Erasing persons.
    pub erase: EraseSettings,
}

/// Where Jaeger is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JaegerSettings {
    /// Its pages and query API (`JAEGER_URL`).
    #[serde(serialize_with = "service::config::hidden_url")]
    pub url: Url,
}

impl Default for JaegerSettings {
    fn default() -> Self {
        Self {
            url: Url::parse("http://127.0.0.1:16686").expect("the literal is a URL"),
        }
    }
}

/// Names of the groups whose positions are not found by looking: everything else that has one is a plain reader.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// The enricher's; empty where there is none.
    pub enricher: String,
    /// The aggregator's, whose position stands in Redis; empty where there is none.
    pub redis: String,
    /// The ClickHouse sink's.
    pub clickhouse: String,
    /// What the groups of webhook endpoints begin with, before the dot.
    pub webhooks: String,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            enricher: "enricher".into(),
            redis: "redis-aggregator".into(),
            clickhouse: "clickhouse-sink".into(),
            webhooks: "webhook-forwarder".into(),
        }
    }
}

/// Where Redis is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://..` or `rediss://..` (`REDIS_URL`).
    #[serde(serialize_with = "service::config::hidden_url")]
    pub url: Url,
    /// With `rediss://`: the authorities to trust, and this client's certificate.
    pub tls: TlsFiles,
    /// What every key of the aggregates' state starts with.
    pub prefix: String,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: Url::parse("redis://127.0.0.1:6379").expect("the literal is a URL"),
            tls: TlsFiles::default(),
            prefix: "eng:".into(),
        }
    }
}

impl RedisSettings {
    /// Where to read from, for comparisons.
    pub(crate) fn source(&self) -> RedisSource {
        RedisSource {
            tls: self.tls.clone(),
            prefix: self.prefix.clone(),
            ..RedisSource::new(self.url.clone())
        }
    }

    /// A client; nothing is opened yet.
    pub(crate) fn client(&self) -> Result<redis::Client, ::verify::Error> {
        self.source().client()
    }

    /// Host and port, without credentials.
    pub(crate) fn address(&self) -> String {
        let (host, port) = (self.url.host_str(), self.url.port());
        format!("{}:{}", host.unwrap_or_default(), port.unwrap_or(6379))
    }
}

/// The environment names of the tool, beside those of `[kafka]`.
pub const ENV: &[EnvKey] = &[
    EnvKey::secret("DATABASE_URL", "database.url"),
    EnvKey::secret("ENGAGE_CDC_PASSWORD", "database.cdc_password"),
    EnvKey::plain("KAFKA_CDC_TOPIC", "topics.cdc"),
    EnvKey::plain("KAFKA_CONTENT_TOPIC", "topics.content"),
    EnvKey::plain("KAFKA_ENRICHED_TOPIC", "topics.enriched"),
    EnvKey::plain("KAFKA_BACKFILL_TOPIC", "topics.backfill"),
    EnvKey::plain("KAFKA_ERASURES_TOPIC", "topics.erasures"),
    EnvKey::plain("CONNECT_URL", "connect.url"),
    EnvKey::plain("CLICKHOUSE_URL", "clickhouse.url"),
    EnvKey::plain("CLICKHOUSE_USER", "clickhouse.user"),
    EnvKey::secret("CLICKHOUSE_PASSWORD", "clickhouse.password"),
    EnvKey::plain("CLICKHOUSE_DATABASE", "clickhouse.database"),
    EnvKey::plain("JAEGER_URL", "jaeger.url"),
    EnvKey::plain("CLICKHOUSE_SSL_CA_LOCATION", "clickhouse.tls.ca"),
    EnvKey::plain(
        "CLICKHOUSE_SSL_CERTIFICATE_LOCATION",
        "clickhouse.tls.certificate",
    ),
    EnvKey::plain("CLICKHOUSE_SSL_KEY_LOCATION", "clickhouse.tls.key"),
    EnvKey::secret("REDIS_URL", "redis.url"),
    EnvKey::plain("REDIS_SSL_CA_LOCATION", "redis.tls.ca"),
    EnvKey::plain("REDIS_SSL_CERTIFICATE_LOCATION", "redis.tls.certificate"),
    EnvKey::plain("REDIS_SSL_KEY_LOCATION", "redis.tls.key"),
    EnvKey::plain("CANARY_EVERY", "canary.every"),
    EnvKey::plain("CANARY_WITHIN", "canary.within"),
    EnvKey::plain("CANARY_RECEIVER", "canary.receiver"),
    EnvKey::secret("ERASE_KEY", "erase.key"),
];

impl Config {
    /// Where configuration comes from for this command line.
    pub(crate) fn loader(cli: &Cli) -> Loader {
        Loader::new(ENV)
            .file(cli.config.as_deref())
            .process_environment()
            .set(cli.set.iter().cloned())
    }

    /// Loads defaults, file, environment and `--set`, in this order.
    ///
    /// # Errors
    /// All that is wrong with them at once (64).
    pub fn load(cli: &Cli) -> Result<Self, Failure> {
        let loaded = Self::loader(cli)
            .load::<Self>()
            .map_err(|e| e.into_failure("engagectl"))?;
        for warning in loaded.warnings {
            eprintln!("warning: {warning}");
        }
        Ok(loaded.config)
    }

    /// What is planned and created, without the components to skip.
    #[must_use]
    pub fn platform(&self, skip: &[Component]) -> Settings {
        Settings {
            kafka: self.kafka.clone(),
            topics: self.topics.clone(),
            database: self.database.clone(),
            connect: (!skip.contains(&Component::Connect)).then(|| self.connect.clone()),
            clickhouse: (!skip.contains(&Component::ClickHouse)).then(|| self.clickhouse.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_name_sets_a_key_that_exists() {
        let known = service::config::known_keys::<Config>();
        for key in ENV {
            assert!(
                known.iter().any(|k| k == key.key),
                "{} sets {}, known are {known:?}",
                key.name,
                key.key
            );
        }
    }
}
