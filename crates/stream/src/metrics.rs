//! The metrics of this crate: names, labels, meaning. A service that uses lanes, dead letters or the producer lists
//! [`READER`] and [`PRODUCER`] among its own.
//!
//! Invariant: labels are of low cardinality: topics, partitions, groups, services and fixed reasons.

use service::metrics::{Label, Metric, Unit};

/// Counter `{topic}`: records handed to lanes.
pub const EVENTS_CONSUMED_TOTAL: &str = "engage_events_consumed_total";
/// Gauge `{topic,partition,group}`: age in seconds of the oldest record not yet done; 0 when caught up.
pub const BEHIND_SECONDS: &str = "engage_behind_seconds";
/// Gauge `{topic,partition,group}`: records between the frontier and the end of the partition.
pub const CONSUMER_LAG: &str = "engage_consumer_lag";
/// Gauge `{topic,partition,group}`: 1 while the lane is stopped and a human must repair.
pub const LANE_STOPPED: &str = "engage_lane_stopped";
/// Counter `{topic,group}`: lanes started again after a failure.
pub const LANE_RETRIES_TOTAL: &str = "engage_lane_retries_total";
/// Gauge `{topic,group}`: partitions that this process has.
pub const PARTITIONS_ASSIGNED: &str = "engage_partitions_assigned";
/// Counter `{service,reason}`: records written to a dead-letter topic.
pub const DEAD_LETTERS_TOTAL: &str = "engage_dead_letters_total";
/// Counter `{service,reason}`: records recognised as re-sent; counted by the service that drops them.
pub const DUPLICATES_DROPPED_TOTAL: &str = "engage_duplicates_dropped_total";
/// Counter: gaps, contradictions and failed resume proofs.
pub const LINEAGE_VIOLATIONS_TOTAL: &str = "engage_lineage_violations_total";
/// Counter `{topic}`: records acknowledged by the broker.
pub const PRODUCED_TOTAL: &str = "engage_records_produced_total";
/// Counter `{reason}`: producers given up after a failed or stalled delivery.
pub const PRODUCER_VOID_TOTAL: &str = "engage_producer_void_total";

const LANE: &[Label] = &[
    Label::any("topic", "the topic read"),
    Label::any("partition", "its partition"),
    Label::any("group", "the consumer group"),
];
const LANES: &[Label] = &[
    Label::any("topic", "the topic read"),
    Label::any("group", "the consumer group"),
];

/// What every process exports that reads a topic in lanes.
pub const READER: &[Metric] = &[
    Metric::counter(
        EVENTS_CONSUMED_TOTAL,
        "Records read and handed to the work of their partition.",
    )
    .with(&[Label::any("topic", "the topic read")])
    .also("processed_events_total"),
    Metric::gauge(
        BEHIND_SECONDS,
        Unit::Seconds,
        "Age of the oldest record of the partition that is not done; 0 when caught up. Only from the process that has the partition.",
    )
    .with(LANE)
    .also("kafka_lag_seconds"),
    Metric::gauge(
        CONSUMER_LAG,
        Unit::Count,
        "Records of the partition that are not done. Only from the process that has the partition.",
    )
    .with(LANE),
    Metric::gauge(
        LANE_STOPPED,
        Unit::State,
        "1 while the partition is stopped and a person must repair; the log and /readyz name the reason and the command.",
    )
    .with(LANE),
    Metric::counter(
        LANE_RETRIES_TOTAL,
        "Partitions opened again after a failure that passes by itself.",
    )
    .with(LANES),
    Metric::gauge(
        PARTITIONS_ASSIGNED,
        Unit::Count,
        "Partitions that this process has; 0: a spare member, or waiting for its group.",
    )
    .with(LANES),
    Metric::counter(
        LINEAGE_VIOLATIONS_TOTAL,
        "Gaps, contradictions and failed proofs in the chain of records; each one stopped a partition.",
    ),
];

/// What every process exports that writes records: enriched events or dead letters.
pub const PRODUCER: &[Metric] = &[
    Metric::counter(PRODUCED_TOTAL, "Records acknowledged by the broker.")
        .with(&[Label::any("topic", "the topic written, once anything was written")]),
    Metric::counter(
        PRODUCER_VOID_TOTAL,
        "Producers given up after a failed or stalled delivery; their partitions resume from the log.",
    )
    .with(&[Label::one_of("reason", crate::producer::VOID_REASONS)]),
];

/// Shows the counters of lanes as 0 from the start: an alert on their increase must not miss the first one.
pub(crate) fn nothing_yet(topic: &str, group: &str) {
    metrics::counter!(LINEAGE_VIOLATIONS_TOTAL).increment(0);
    metrics::counter!(EVENTS_CONSUMED_TOTAL, "topic" => topic.to_owned()).increment(0);
    metrics::counter!(LANE_RETRIES_TOTAL, "topic" => topic.to_owned(), "group" => group.to_owned())
        .increment(0);
    partitions_assigned(topic, group, 0);
}

/// So many partitions of the topic are this process's.
pub(crate) fn partitions_assigned(topic: &str, group: &str, partitions: usize) {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    metrics::gauge!(PARTITIONS_ASSIGNED, "topic" => topic.to_owned(), "group" => group.to_owned())
        .set(f64::from(partitions));
}

/// Counts a gap, a contradiction or a failed proof; the lane that found it stops.
pub fn lineage_violation() {
    metrics::counter!(LINEAGE_VIOLATIONS_TOTAL).increment(1);
}
