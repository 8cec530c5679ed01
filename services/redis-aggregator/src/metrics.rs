//! Metrics that only this service has; the shared ones are in `service::metrics`.
//!
//! Invariant: labels are of low cardinality, and each name stands here once.

use metrics::{counter, gauge, histogram};

/// The `sink` label of the shared metrics.
pub const SINK: &str = "redis-aggregator";
/// The `service` label of the shared metrics.
pub const SERVICE: &str = "redis-aggregator";

/// Counter: historical records that were left to a rebuild; see [`crate::history`].
pub const HISTORICAL_SKIPPED: &str = "engage_redis_historical_skipped_total";
/// Counter: snapshots that replaced an interrupted one, per partition.
pub const SNAPSHOTS_REPLACED: &str = "engage_redis_snapshots_replaced_total";
/// Counter: scripts sent again because it was in doubt whether they had run.
pub const DOUBTS: &str = "engage_redis_doubts_total";
/// Histogram: seconds one publication of the leaderboards took.
pub const PUBLISH_SECONDS: &str = "engage_redis_publish_seconds";
/// Gauge: 1 while this process publishes the leaderboards; 0 where another one does, or Redis refuses. No process with 1:
/// nobody publishes.
pub const PUBLISHING: &str = "engage_redis_publishing";

/// Gauge `{partition}`: 1 where this process began to count in the middle of a log (`input.partial_totals`).
pub const PARTIAL: &str = "engage_redis_partial_totals";

/// A partition is counted from the middle of its log on.
pub fn partial(partition: i32) {
    gauge!(PARTIAL, "partition" => partition.to_string()).set(1.0);
}

/// A historical record was left to a rebuild.
pub fn historical_skipped() {
    counter!(HISTORICAL_SKIPPED).increment(1);
}

/// A newer snapshot replaced what was counted.
pub fn snapshot_replaced() {
    counter!(SNAPSHOTS_REPLACED).increment(1);
}

/// A script is sent again.
pub fn doubt() {
    counter!(DOUBTS).increment(1);
}

/// A publication ended.
pub fn published(seconds: f64, done: bool) {
    histogram!(PUBLISH_SECONDS).record(seconds);
    gauge!(PUBLISHING).set(f64::from(u8::from(done)));
}
