//! What the canary measures.
//!
//! Invariant: the label `sink` is one of a fixed set, and every series of a sink that is read back is there from the start.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use service::metrics::{FRESHNESS_BUCKETS, Label, Metric, Unit};

/// Histogram `{sink}`: commit of a canary row to its value in the sink, in seconds.
pub(super) const SECONDS: &str = "engage_canary_seconds";
/// Counter `{sink,kind}`: rows that were not written, not seen in time, or seen with another value.
pub(super) const FAILURES: &str = "engage_canary_failures_total";
/// Counter: rows committed.
pub(super) const WRITTEN: &str = "engage_canary_written_total";
/// Gauge `{group,topic,partition}`: records after the group's commit, whether or not anybody has the partition.
pub(super) const GROUP_LAG: &str = "engage_group_lag";
/// Gauge `{group,topic,partition}`: age of the record at the group's commit, in seconds.
pub(super) const GROUP_BEHIND: &str = "engage_group_behind_seconds";
/// Gauge `{group}`: members of a consumer group.
pub(super) const GROUP_MEMBERS: &str = "engage_group_members";

const SINK: Label = Label::one_of("sink", &["clickhouse", "redis", "webhook"]);
const PARTITION: &[Label] = &[
    Label::any("group", "a consumer group"),
    Label::any("topic", "the topic it reads"),
    Label::any("partition", "its partition"),
];

/// All of it.
pub(super) const OWN: &[Metric] = &[
    Metric::histogram(
        SECONDS,
        Unit::Seconds,
        FRESHNESS_BUCKETS,
        "Commit of a canary row to its value read back from the sink.",
    )
    .with(&[SINK]),
    Metric::counter(
        FAILURES,
        "Canary rows that were refused by Postgres, not seen in time (late), or seen with another value (wrong).",
    )
    .with(&[
        Label::one_of("sink", &["postgres", "clickhouse", "redis", "webhook"]),
        Label::one_of("kind", &["refused", "late", "wrong"]),
    ]),
    Metric::counter(WRITTEN, "Canary rows committed."),
    Metric::gauge(
        GROUP_LAG,
        Unit::Count,
        "Records after the group's commit, seen from outside: also of a partition that nobody has.",
    )
    .with(PARTITION),
    Metric::gauge(
        GROUP_BEHIND,
        Unit::Seconds,
        "Age of the first record after the group's commit, seen from outside; 0 when there is none.",
    )
    .with(PARTITION),
    Metric::gauge(GROUP_MEMBERS, Unit::Count, "Members of the consumer group.")
        .with(&[Label::any("group", "a consumer group")]),
];

/// Shows the histogram of a sink before its first row.
pub(super) fn begin(sink: &'static str) {
    let _ = histogram!(SECONDS, "sink" => sink);
}

pub(super) fn written() {
    counter!(WRITTEN).increment(1);
}

pub(super) fn seen(sink: &'static str, after: Duration) {
    histogram!(SECONDS, "sink" => sink).record(after.as_secs_f64());
}

pub(super) fn failed(sink: &'static str, kind: &'static str) {
    counter!(FAILURES, "sink" => sink, "kind" => kind).increment(1);
}

pub(super) fn group_members(group: &str, members: usize) {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    gauge!(GROUP_MEMBERS, "group" => group.to_owned()).set(f64::from(members));
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge; offsets beyond 2^53 do not occur"
)]
pub(super) fn group_partition(group: &str, topic: &str, partition: i32, lag: i64, behind: f64) {
    let labels = [
        ("group", group.to_owned()),
        ("topic", topic.to_owned()),
        ("partition", partition.to_string()),
    ];
    gauge!(GROUP_LAG, &labels).set(lag as f64);
    gauge!(GROUP_BEHIND, &labels).set(behind);
}
