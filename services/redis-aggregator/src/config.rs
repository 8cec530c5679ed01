//! What can be configured, section by section; every field has a default that works on one machine.
//!
//! Invariant: a value that makes no sense is refused at start, by name, with what would be right.

use std::num::NonZeroUsize;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use service::TlsFiles;
use stream::dead_letter;
use stream::settings::KafkaSettings;

use crate::board::Leaderboard;
use crate::reader_keys::ReaderKeys;
pub use crate::weights::Weights;
use crate::window::{Bounds, micros};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to reach the broker.
    pub kafka: KafkaSettings,
    /// What is read.
    pub input: Input,
    /// The server that holds the aggregates.
    pub redis: Redis,
    /// How records are gathered.
    pub batch: Batching,
    /// Event time.
    pub window: Window,
    /// The keys that readers read, but for the leaderboards.
    pub keys: ReaderKeys,
    /// Publishing of leaderboards.
    pub publish: Publish,
    /// The leaderboards: `[[leaderboard]]`. Naming one replaces the default list.
    #[serde(rename = "leaderboard")]
    pub leaderboards: Leaderboards,
    /// Points per event type, for leaderboards with `score = "weighted"`.
    pub weights: Weights,
    /// When a partition stops instead of sending everything to the dead letters.
    pub dead_letters: DeadLetterLimits,
}

/// What is read, and where what cannot be counted goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// The topic of enriched events.
    pub enriched_topic: String,
    /// Where records go that cannot be counted, with their original bytes.
    pub dead_letter_topic: String,
    /// The consumer group. Its commits show the lag; the position that counts is in Redis.
    pub group_id: String,
    /// Count from the start of the log even where it no longer reaches back to its first record. Without it, a partition
    /// with an empty Redis and an expired beginning stops: its totals would lack what has expired.
    pub partial_totals: bool,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            enriched_topic: "engagement.enriched.v1".into(),
            dead_letter_topic: dead_letter::topic("redis-aggregator"),
            group_id: "redis-aggregator".into(),
            partial_totals: false,
        }
    }
}

/// The server that holds the aggregates.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://[user:password@]host:port[/database]`, `rediss://` for TLS. In cluster mode several nodes, separated by commas.
    pub url: SecretString,
    /// With `rediss://`: the authorities to trust, and this client's certificate.
    pub tls: TlsFiles,
    /// The URL names nodes of a Redis Cluster.
    pub cluster: bool,
    /// What the keys of our state start with; two deployments on one server need two.
    pub prefix: String,
    /// How long a connection may take to open.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long an answer may take. What was not answered has usually run: the position is read again.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
    /// How long the server is waited for at start before the process gives up (exit 69).
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: SecretString::from("redis://127.0.0.1:6379"),
            tls: TlsFiles::default(),
            cluster: false,
            prefix: "eng:".into(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// How records are gathered into batches, per partition.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// At most so many records in one script call.
    pub max_records: NonZeroUsize,
    /// How long the first record of a batch waits for more.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_records: NonZeroUsize::new(500).unwrap_or(NonZeroUsize::MIN),
            wait: Duration::from_millis(20),
        }
    }
}

/// Event time; see [`crate::window`] for what the watermark is.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Window {
    /// Length of a bucket: how finely windows move. Fixed once there is state.
    #[serde(with = "humantime_serde")]
    pub bucket: Duration,
    /// How far the local clock may be ahead of the newest commit: the heartbeat interval of the source.
    #[serde(with = "humantime_serde")]
    pub slack: Duration,
    /// After how long without any event the local clock counts alone.
    #[serde(with = "humantime_serde")]
    pub idle_after: Duration,
    /// How often an idle partition looks whether buckets have expired.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bucket: Duration::from_secs(10),
            slack: Duration::from_secs(10),
            idle_after: Duration::from_secs(2),
            tick: Duration::from_millis(500),
        }
    }
}

impl Window {
    /// Length of a bucket in microseconds.
    #[must_use]
    pub fn bucket_us(&self) -> i64 {
        micros(self.bucket).max(1)
    }

    /// How far the local clock is believed.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        Bounds {
            slack: self.slack,
            idle_after: self.idle_after,
        }
    }
}

/// Publishing of leaderboards, by one process at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publish {
    /// How often; 250 ms to 1 s.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(250),
        }
    }
}

/// The leaderboards.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Leaderboards(pub Vec<Leaderboard>);

impl Default for Leaderboards {
    fn default() -> Self {
        Self(Leaderboard::defaults())
    }
}

/// When a partition stops instead of sending everything to the dead letters.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterLimits {
    /// When more than half of so many records in a row cannot be counted, the partition stops.
    pub window: NonZeroUsize,
}

impl Default for DeadLetterLimits {
    fn default() -> Self {
        Self {
            window: NonZeroUsize::new(100).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

impl Config {
    /// Everything that makes no sense, one sentence each with the setting's name.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.keys.problems();
        let mut refuse = |wrong: bool, text: String| problems.extend(wrong.then_some(text));
        let bucket = self.window.bucket_us();
        refuse(
            bucket < 100_000 || 60_000_000 % bucket != 0,
            format!(
                "window.bucket = {:?} does not divide a minute, or is below 100 ms; 10s is usual",
                self.window.bucket
            ),
        );
        let every = self.publish.every;
        let sensible = Duration::from_millis(10)..=Duration::from_secs(10);
        refuse(
            !sensible.contains(&every),
            format!("publish.every = {every:?} is not between 10ms and 10s"),
        );
        refuse(
            self.redis.prefix.is_empty() || self.redis.prefix.contains(['{', '}']),
            "redis.prefix is empty or holds a brace; eng: is usual".into(),
        );
        let weights = self.weights.milli();
        refuse(
            weights.iter().any(|milli| !(0..=1_000_000).contains(milli)),
            "weights must lie between 0 and 1000".into(),
        );
        for board in self.published() {
            refuse(
                board.window.is_zero() || micros(board.window) % bucket != 0,
                format!(
                    "leaderboard {:?}: window {:?} is no multiple of window.bucket {:?}",
                    board.key, board.window, self.window.bucket
                ),
            );
            refuse(
                board.top == 0 || board.top > 10_000,
                format!(
                    "leaderboard {:?}: top = {} is not between 1 and 10000",
                    board.key, board.top
                ),
            );
            refuse(
                board.ttl < 2 * every,
                format!(
                    "leaderboard {:?}: ttl {:?} is shorter than two publications",
                    board.key, board.ttl
                ),
            );
            refuse(
                !board.member.contains("{id}"),
                format!(
                    "leaderboard {:?}: member {:?} does not name {{id}}",
                    board.key, board.member
                ),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense_and_share_one_window() {
        let config = Config::default();
        assert_eq!(config.problems(), Vec::<String>::new());
        let spans = config.spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].buckets, 60);
        assert_eq!(spans[0].scores.len(), 4);
        assert_eq!(config.weights.milli(), [1000, 500, 3000, 300, 0]);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let mut config = Config::default();
        config.window.bucket = Duration::from_secs(7);
        config.publish.every = Duration::ZERO;
        config.leaderboards.0[0].member = "all".into();
        let problems = config.problems().join("\n");
        for name in [
            "window.bucket",
            "publish.every",
            "top:content:10m",
            "member",
        ] {
            assert!(problems.contains(name), "{name} in {problems}");
        }
    }
}
