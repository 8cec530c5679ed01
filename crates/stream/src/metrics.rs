//! Names of the metrics of this crate, with their labels.
//!
//! Invariant: labels are of low cardinality: topics, partitions, groups, services and fixed reasons.

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

/// Shows [`LINEAGE_VIOLATIONS_TOTAL`] as 0 from the start: an alert on its increase must not miss the first one.
pub(crate) fn no_lineage_violation_yet() {
    metrics::counter!(LINEAGE_VIOLATIONS_TOTAL).increment(0);
}

/// Counts a gap, a contradiction or a failed proof; the lane that found it stops.
pub fn lineage_violation() {
    metrics::counter!(LINEAGE_VIOLATIONS_TOTAL).increment(1);
}
