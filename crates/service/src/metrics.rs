//! Names, labels and buckets of the metrics that services share, and the recording of each in one call.
//! Invariant: a metric's name stands in one place only; the aliases for existing dashboards are added when `/metrics` is
//! written, so nothing is counted twice.
//!
//! The functions look their series up by label. In a loop per record keep the handle: [`freshness`], [`stage`].

use ::metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// Records read. Labels: `topic`. Also shown as `processed_events_total`.
pub const EVENTS_CONSUMED: &str = "engage_events_consumed_total";
/// Commit in Postgres to visible in a sink, in seconds. Labels: `sink`. Also shown as `processing_latency_seconds`.
pub const FRESHNESS: &str = "engage_freshness_seconds";
/// Time spent in one stage of the work, in seconds. Labels: `stage`.
pub const STAGE: &str = "engage_stage_seconds";
/// How far behind now the last finished record is, in seconds. Labels: `topic`, `partition`. Also `kafka_lag_seconds`.
pub const BEHIND: &str = "engage_behind_seconds";
/// Records between the position and the end of the partition. Labels: `topic`, `partition`.
pub const CONSUMER_LAG: &str = "engage_consumer_lag";
/// Rows in one write of a sink. Labels: `sink`.
pub const SINK_BATCH_ROWS: &str = "engage_sink_batch_rows";
/// Duration of one write of a sink, in seconds. Labels: `sink`.
pub const SINK_WRITE: &str = "engage_sink_write_seconds";
/// Failed writes of a sink. Labels: `sink`, `kind`. Also shown as `sink_errors_total`.
pub const SINK_ERRORS: &str = "engage_sink_errors_total";
/// Records recognised as duplicates and dropped. Labels: `service`, `reason`.
pub const DUPLICATES_DROPPED: &str = "engage_duplicates_dropped_total";
/// Records sent to a dead-letter topic. Labels: `service`, `reason`.
pub const DEAD_LETTERS: &str = "engage_dead_letters_total";
/// Contradictions in the lineage; each one stopped a lane. Labels: none.
pub const LINEAGE_VIOLATIONS: &str = "engage_lineage_violations_total";
/// Spans that were finished and not exported. Labels: `reason` (`queue_full`, `export_failed`).
pub const SPANS_DROPPED: &str = "engage_spans_dropped_total";
/// Events that were traced whatever the sampler says. Labels: `reason` (`dead_letter`, `retry`, `slow`).
pub const TRACES_KEPT: &str = "engage_traces_kept_total";
/// Events that should have been, beyond the number a second that is. Labels: `reason`.
pub const TRACES_LIMITED: &str = "engage_traces_limited_total";
/// Always 1. Labels: `version`, `git_sha`.
pub const BUILD_INFO: &str = "engage_build_info";
/// Resident memory in bytes (the name of Prometheus' own client libraries). Labels: none.
pub const RESIDENT_MEMORY: &str = "process_resident_memory_bytes";

/// Names shown a second time on `/metrics`, for dashboards older than these names: (ours, theirs).
pub const ALIASES: &[(&str, &str)] = &[
    (EVENTS_CONSUMED, "processed_events_total"),
    (FRESHNESS, "processing_latency_seconds"),
    (SINK_ERRORS, "sink_errors_total"),
    (BEHIND, "kafka_lag_seconds"),
];

/// Buckets of [`FRESHNESS`], 5 ms to 60 s; dense around the promises of 500 ms and 5 s.
pub const FRESHNESS_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0,
    60.0,
];
/// Buckets of [`SINK_WRITE`] and of every other histogram in seconds, 1 ms to 60 s.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Buckets of [`STAGE`], 1 us to 1 s.
pub const STAGE_BUCKETS: &[f64] = &[
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1e-1, 1.0,
];
/// Buckets of [`SINK_BATCH_ROWS`].
pub const ROWS_BUCKETS: &[f64] = &[1.0, 10.0, 50.0, 100.0, 500.0, 1e3, 5e3, 1e4, 5e4, 1e5];

/// The freshness histogram of `sink`, to keep and record into (seconds).
pub fn freshness(sink: &str) -> Histogram {
    histogram!(FRESHNESS, "sink" => sink.to_owned())
}

/// The histogram of one stage of the work, to keep and record into (seconds).
pub fn stage(stage: &str) -> Histogram {
    histogram!(STAGE, "stage" => stage.to_owned())
}

/// The counter of records read from `topic`, to keep and increment.
pub fn consumed(topic: &str) -> Counter {
    counter!(EVENTS_CONSUMED, "topic" => topic.to_owned())
}

/// `count` records were read from `topic`.
pub fn events_consumed(topic: &str, count: u64) {
    consumed(topic).increment(count);
}

/// An event became visible in `sink`, `seconds` after its commit in Postgres.
pub fn sink_freshness(sink: &str, seconds: f64) {
    freshness(sink).record(seconds);
}

/// One write of `rows` rows took `seconds`.
pub fn sink_write(sink: &str, rows: usize, seconds: f64) {
    #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^53 rows")]
    histogram!(SINK_BATCH_ROWS, "sink" => sink.to_owned()).record(rows as f64);
    histogram!(SINK_WRITE, "sink" => sink.to_owned()).record(seconds);
}

/// A write to `sink` failed; `kind` is one of a small fixed set (`outage`, `bad_row`, `configuration`, ..).
pub fn sink_error(sink: &str, kind: &'static str) {
    counter!(SINK_ERRORS, "sink" => sink.to_owned(), "kind" => kind).increment(1);
}

/// `count` duplicates were dropped by `service`.
pub fn duplicates_dropped(service: &'static str, reason: &'static str, count: u64) {
    counter!(DUPLICATES_DROPPED, "service" => service, "reason" => reason).increment(count);
}

/// A record was dead-lettered by `service`.
pub fn dead_letter(service: &'static str, reason: &'static str) {
    counter!(DEAD_LETTERS, "service" => service, "reason" => reason).increment(1);
}

/// A lineage contradiction was found.
pub fn lineage_violation() {
    counter!(LINEAGE_VIOLATIONS).increment(1);
}

/// Shows the counters of traces from the start.
pub(crate) fn begin_traces() {
    for reason in ["queue_full", "export_failed"] {
        counter!(SPANS_DROPPED, "reason" => reason).increment(0);
    }
    for reason in crate::traces::Kept::ALL {
        counter!(TRACES_KEPT, "reason" => reason.name()).increment(0);
        counter!(TRACES_LIMITED, "reason" => reason.name()).increment(0);
    }
}

/// The last finished record of the partition is `seconds` behind now.
pub fn behind(topic: &str, partition: i32, seconds: f64) {
    gauge!(BEHIND, "topic" => topic.to_owned(), "partition" => partition.to_string()).set(seconds);
}

/// Tells the recorder what the shared metrics mean.
pub(crate) fn describe() {
    describe_counter!(EVENTS_CONSUMED, "Records read.");
    describe_histogram!(
        FRESHNESS,
        "Seconds from the commit in Postgres to visible in the sink."
    );
    describe_histogram!(STAGE, "Seconds spent in one stage.");
    describe_gauge!(
        BEHIND,
        "Seconds that the last finished record is behind now."
    );
    describe_gauge!(
        CONSUMER_LAG,
        "Records between the position and the end of the partition."
    );
    describe_histogram!(SINK_BATCH_ROWS, "Rows in one write.");
    describe_histogram!(SINK_WRITE, "Seconds one write took.");
    describe_counter!(SINK_ERRORS, "Failed writes.");
    describe_counter!(DUPLICATES_DROPPED, "Duplicates recognised and dropped.");
    describe_counter!(DEAD_LETTERS, "Records sent to a dead-letter topic.");
    describe_counter!(
        LINEAGE_VIOLATIONS,
        "Contradictions in the lineage; each one stopped a lane."
    );
    describe_counter!(SPANS_DROPPED, "Spans finished and not exported.");
    describe_counter!(
        TRACES_KEPT,
        "Events traced whatever the sampler says: dead letters, retries, late ones."
    );
    describe_counter!(
        TRACES_LIMITED,
        "Events not traced although they were to be: too many in one second."
    );
    describe_gauge!(BUILD_INFO, "Always 1; the labels name the build.");
    describe_gauge!(RESIDENT_MEMORY, "Resident memory in bytes.");
}
