//! Metrics that only this service has; the shared ones are in `service::metrics`.
//!
//! Invariant: labels are of low cardinality, and each name stands here once.

use metrics::{counter, gauge, histogram};
use service::metrics::{Label, Metric, SECONDS_BUCKETS, Unit};

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

/// What only this sink exports, with its part of the shared ones.
pub const OWN: &[Metric] = &[
    service::metrics::FRESHNESS_METRIC,
    service::metrics::SINK_BATCH_ROWS_METRIC,
    service::metrics::SINK_WRITE_METRIC,
    service::metrics::sink_errors_metric(&[
        Label::service("sink"),
        Label::one_of("kind", &["outage"]),
    ]),
    service::metrics::duplicates_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["lineage"]),
    ]),
    service::metrics::dead_letters_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["empty", "malformed", "duration", "partition"]),
    ]),
    Metric::counter(
        HISTORICAL_SKIPPED,
        "Historical records that were left to a rebuild.",
    ),
    Metric::counter(
        SNAPSHOTS_REPLACED,
        "Snapshots, per partition, that replaced an interrupted one.",
    ),
    Metric::counter(
        DOUBTS,
        "Scripts sent again because it was in doubt whether they had run; the position in Redis settles it.",
    ),
    Metric::histogram(
        PUBLISH_SECONDS,
        Unit::Seconds,
        SECONDS_BUCKETS,
        "Duration of one publication of the leaderboards.",
    ),
    Metric::gauge(
        PUBLISHING,
        Unit::State,
        "1 in the process that publishes the leaderboards; in no process: nobody does.",
    ),
    Metric::gauge(
        PARTIAL,
        Unit::State,
        "1 where totals were begun in the middle of a log, which `input.partial_totals` allows.",
    )
    .with(&[Label::any("partition", "a partition of the enriched topic")]),
];

/// Shows [`PARTIAL`] of a partition, as it is.
pub fn opened(partition: i32) {
    gauge!(PARTIAL, "partition" => partition.to_string()).increment(0.0);
}

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
