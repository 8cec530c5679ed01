//! What can be set: section `[canary]`, or the options of the command.

use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// Section `[canary]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanarySettings {
    /// Pause between two rows.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// A row that a sink does not show after this time is a failure.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// How many contents the rows refer to, in turn: each lies in one partition of every topic.
    pub contents: NonZeroU16,
    /// The stores to read back from.
    pub sinks: Vec<Store>,
    /// The key that holds the last event of a content; `{id}` is its id.
    pub redis_key: String,
    /// A receiver of webhooks that shows what it got at `/events` (`engagectl webhook listen`). Without it, webhooks are not read back.
    pub receiver: Option<Url>,
    /// Consumer groups of the enriched topic whose lag is measured from outside, beside those of this pipeline.
    pub groups: Vec<String>,
    /// Pause between two measurements of the lag of all groups.
    #[serde(with = "humantime_serde")]
    pub groups_every: Duration,
}

/// A store that can be asked for a row.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// The table of `clickhouse-sink`.
    Clickhouse,
    /// The reader keys of `redis-aggregator`.
    Redis,
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            within: Duration::from_secs(60),
            contents: NonZeroU16::new(super::CONTENTS).unwrap_or(NonZeroU16::MIN),
            sinks: vec![Store::Clickhouse, Store::Redis],
            redis_key: "content:last:{id}".into(),
            receiver: None,
            groups: Vec::new(),
            groups_every: Duration::from_secs(15),
        }
    }
}
