//! What can be configured, as it is written: file, environment and flags all end here.
//!
//! Invariant: reading it decides nothing; [`crate::endpoint`] judges it as a whole, so that all
//! problems are named at once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use engagement::profile::Profile;
use secrecy::SecretString;
use serde::Deserialize;
use service::config::EnvKey;
use stream::{KafkaSettings, dead_letter};
use url::Url;

use crate::address::Cidr;
use crate::message::Order;

/// Everything the forwarder can be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the broker.
    pub kafka: KafkaSettings,
    /// What is read.
    pub input: Input,
    /// The endpoints, `[[endpoint]]` in TOML.
    #[serde(rename = "endpoint")]
    pub endpoints: Vec<EndpointConfig>,
    /// One endpoint by environment (`WEBHOOK_URL` ..), for simple deployments; named `default` unless it says otherwise.
    pub webhook: Option<EndpointConfig>,
}

/// Environment variables beside those that every service has.
pub const ENV: &[EnvKey] = &[
    EnvKey::plain("KAFKA_ENRICHED_TOPIC", "input.enriched_topic"),
    EnvKey::plain("KAFKA_BACKFILL_TOPIC", "input.backfill_topic"),
    EnvKey::plain("KAFKA_GROUP_ID", "input.group_id"),
    EnvKey::plain("KAFKA_DEAD_LETTER_TOPIC", "input.dead_letter_topic"),
    EnvKey::plain("WEBHOOK_NAME", "webhook.name"),
    EnvKey::plain("WEBHOOK_URL", "webhook.url"),
    EnvKey::secret("WEBHOOK_SECRET", "webhook.secret"),
    EnvKey::secret("WEBHOOK_BEARER_TOKEN", "webhook.bearer_token"),
    EnvKey::plain("WEBHOOK_PROFILE", "webhook.profile"),
    EnvKey::plain("WEBHOOK_ORDER", "webhook.order"),
    EnvKey::plain("WEBHOOK_START", "webhook.start"),
    EnvKey::plain("WEBHOOK_ALLOW_INSECURE", "webhook.allow_insecure"),
    EnvKey::plain("WEBHOOK_ALLOW_PRIVATE", "webhook.allow_private"),
];

/// What is read, and where what cannot be delivered goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// The topic of enriched events.
    pub enriched_topic: String,
    /// What backfills bring; read for endpoints with `historical = true` only. Empty: for none.
    pub backfill_topic: String,
    /// Where records go that cannot be delivered, with their original bytes.
    pub dead_letter_topic: String,
    /// Each endpoint reads in its own group, `<group_id>.<name>`.
    pub group_id: String,
    /// `<database>.<table>` of the events: the first half of an event's uid, and so of a message's identity.
    pub database_table: String,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            enriched_topic: "engagement.enriched.v1".into(),
            backfill_topic: "engagement.backfill.v1".into(),
            dead_letter_topic: dead_letter::topic(crate::NAME),
            group_id: crate::NAME.into(),
            database_table: "engage.engagement_events".into(),
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its name: in the consumer group, metrics, logs and dead letters. Lower-case letters, digits, `-`.
    pub name: String,
    /// Where messages are posted to.
    pub url: Option<Url>,
    /// Signing secrets, `whsec_..`; all of them sign every message, so that a receiver can move from
    /// one to the next.
    pub secrets: Vec<SecretString>,
    /// Further signing secrets in one text, separated by white space: what `WEBHOOK_SECRET` sets.
    pub secret: Option<SecretString>,
    /// A file with signing secrets, one per line.
    pub secrets_file: Option<PathBuf>,
    /// Sent as `authorization: Bearer ..`.
    pub bearer_token: Option<SecretString>,
    /// A file that holds the bearer token.
    pub bearer_token_file: Option<PathBuf>,
    /// Further headers, the same on each message. Values are treated as secrets.
    pub headers: BTreeMap<String, SecretString>,
    /// Shape of the event.
    pub profile: Profile,
    /// Put the event into the Standard Webhooks body `{type, timestamp, uid, data}`. Unset: only
    /// `canonical` is; readers of the other profiles expect them bare.
    pub envelope: Option<bool>,
    /// Include `raw_payload`, which may hold personal data.
    pub raw_payload: bool,
    /// What is delivered one after the other.
    pub order: Order,
    /// Where a group without a position begins.
    pub start: Start,
    /// Send events of snapshots and backfills too.
    pub historical: bool,
    /// Send deletions.
    pub deletions: bool,
    /// Send also the deletion under the old content when an event moved to another content.
    pub moved: bool,
    /// Accept `http://`.
    pub allow_insecure: bool,
    /// Accept private and loopback addresses. Link-local ones (metadata services) stay refused.
    pub allow_private: bool,
    /// Blocks of addresses that are accepted whatever they are, as `10.1.0.0/16`.
    pub allow_addresses: Vec<Cidr>,
    /// Longest time for one attempt, response included.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Longest time to connect.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Requests under way at once, over all partitions of this process.
    pub concurrency: NonZeroU32,
    /// Most attempts per second of this process; unset = as fast as the endpoint answers.
    pub max_per_second: Option<NonZeroU32>,
    /// When and how often a record is tried again.
    pub retry: RetryConfig,
    /// When the endpoint as a whole is given a rest.
    pub breaker: BreakerConfig,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: None,
            secrets: Vec::new(),
            secret: None,
            secrets_file: None,
            bearer_token: None,
            bearer_token_file: None,
            headers: BTreeMap::new(),
            profile: Profile::Canonical,
            envelope: None,
            raw_payload: false,
            order: Order::default(),
            start: Start::Latest,
            historical: false,
            deletions: true,
            moved: false,
            allow_insecure: false,
            allow_private: false,
            allow_addresses: Vec::new(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            concurrency: NonZeroU32::new(16).unwrap_or(NonZeroU32::MIN),
            max_per_second: None,
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

/// Where a group begins that has no position on any partition.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the end: events from now on.
    #[default]
    Latest,
    /// At the oldest record that is kept.
    Earliest,
    /// Nowhere: this endpoint has run before, and its positions must be there. Worth setting once an
    /// endpoint runs: Kafka forgets the positions of a group that was away for
    /// `offsets.retention.minutes`, and a forgotten endpoint looks like a new one.
    Resume,
}

/// When and how often a record is tried again.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Wait before the second attempt; each further one waits twice as long.
    #[serde(with = "humantime_serde")]
    pub first_wait: Duration,
    /// Longest wait between two attempts.
    #[serde(with = "humantime_serde")]
    pub longest_wait: Duration,
    /// Transient failures (408, 425, 429, 5xx, timeouts, broken connections) of one record, each
    /// while others are delivered, after which it is dead-lettered.
    pub transient_failures: NonZeroU32,
    /// Permanent failures (other 4xx, 3xx) of one record after which it is dead-lettered.
    pub permanent_failures: NonZeroU32,
    /// Longest wait that a `Retry-After` can ask for.
    #[serde(with = "humantime_serde")]
    pub retry_after_max: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            transient_failures: NonZeroU32::new(8).unwrap_or(NonZeroU32::MIN),
            permanent_failures: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
            retry_after_max: Duration::from_secs(900),
        }
    }
}

/// When the endpoint as a whole is given a rest.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Transient failures in a row, over all records, that open it.
    pub failures: NonZeroU32,
    /// How long it stays open at first; each failed probe doubles it.
    #[serde(with = "humantime_serde")]
    pub open: Duration,
    /// Longest time between two probes.
    #[serde(with = "humantime_serde")]
    pub open_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints;
    use service::config::Loader;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let loader = Loader::new(ENV).file(Some(path.path()));
        let loader = loader.environment(environment.iter().copied());
        let loaded = loader.load_service::<Config>();
        loaded.map(|l| l.config.app).map_err(|e| e.to_string())
    }

    #[test]
    fn the_documented_endpoint_is_accepted() {
        let text = include_str!("../docs/architecture.md");
        let example = text.split("```toml").nth(1).unwrap().split("```").next();
        let config = load(example.unwrap(), &[]).unwrap();
        let endpoint = &config.endpoints[0];
        assert_eq!(endpoint.name, "crm");
        assert_eq!(endpoint.retry.retry_after_max, Duration::from_secs(900));
        assert_eq!(endpoint.allow_addresses, ["10.1.2.0/24".parse().unwrap()]);
    }

    #[test]
    fn one_endpoint_comes_from_the_environment_alone() {
        let variables = [
            ("WEBHOOK_URL", "http://127.0.0.1:5001/webhook"),
            (
                "WEBHOOK_SECRET",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDNzkzKzNqLmY=",
            ),
            ("WEBHOOK_START", "earliest"),
            ("WEBHOOK_ALLOW_INSECURE", "true"),
            ("WEBHOOK_ALLOW_PRIVATE", "true"),
        ];
        let endpoints = endpoints::judge(&load("", &variables).unwrap()).unwrap();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].name, "default");
        assert_eq!(endpoints[0].start, Start::Earliest);
        assert_eq!(endpoints[0].keys.len(), 2);
    }

    #[test]
    fn unknown_keys_are_refused_wherever_they_stand() {
        let error = load(
            "[[endpoint]]\nname = \"crm\"\nurll = \"https://a.b/\"\n",
            &[],
        );
        assert!(error.unwrap_err().contains("urll"));
        let error = load("[input]\nenriched_topics = \"x\"\n", &[]).unwrap_err();
        assert!(error.contains("enriched_topics"), "{error}");
    }
}
