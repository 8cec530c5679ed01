//! What this sink counts. The names that all sinks share stand in `service::metrics`.
//!
//! Invariant: labels are of fixed sets.

use std::time::Duration;

use engagement::event::Micros;
use metrics::{Histogram, counter};
use service::metrics::{Label, Metric};

use crate::plan::Entry;

/// The value of label `sink`.
pub const SINK: &str = "clickhouse-sink";
/// The value of label `service`, and the name of the binary.
pub const SERVICE: &str = "clickhouse-sink";
/// Counter, no labels: read-backs, each one after a doubt (an assignment, a lost answer, an outage).
pub const READ_BACKS: &str = "engage_clickhouse_read_backs_total";

/// What only this sink exports, with its part of the shared ones.
pub const OWN: &[Metric] = &[
    service::metrics::FRESHNESS_METRIC,
    service::metrics::SINK_BATCH_ROWS_METRIC,
    service::metrics::SINK_WRITE_METRIC,
    service::metrics::sink_errors_metric(&[
        Label::service("sink"),
        Label::one_of(
            "kind",
            &[
                "bad_row",
                "configuration",
                "superseded",
                "unreachable",
                "unclear",
                "unavailable",
            ],
        ),
    ]),
    service::metrics::duplicates_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["position", "read_back"]),
    ]),
    service::metrics::dead_letters_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["malformed", "unstorable", "refused"]),
    ]),
    Metric::counter(
        READ_BACKS,
        "Looks into the table before a write in doubt: after an assignment, a lost answer, an outage.",
    ),
];

/// A statement that wrote `rows` rows was acknowledged after this time.
pub fn inserted(rows: u64, took: Duration) {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    service::metrics::sink_write(SINK, rows, took.as_secs_f64());
}

/// The metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    freshness: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            freshness: service::metrics::freshness(SINK),
        }
    }
}

impl Metrics {
    /// These entries can be seen in the table now. Those of a snapshot have no commit of their own.
    pub fn visible<'a>(&self, entries: impl Iterator<Item = &'a Entry>, now: Micros) {
        for entry in entries.filter(|entry| !entry.by_id) {
            let age = now.0.saturating_sub(entry.committed_at.0).max(0);
            self.freshness
                .record(Duration::from_micros(age.unsigned_abs()).as_secs_f64());
        }
    }

    /// A request had no clean answer, of this kind.
    pub fn failed(&self, kind: &'static str) {
        service::metrics::sink_error(SINK, kind);
    }

    /// A record at or below the last position of its partition was dropped.
    pub fn duplicate(&self) {
        service::metrics::duplicates_dropped(SERVICE, "position", 1);
    }

    /// The table was read back and held so many rows already.
    pub fn read_back(&self, held: usize) {
        counter!(READ_BACKS).increment(1);
        service::metrics::duplicates_dropped(SERVICE, "read_back", held as u64);
    }
}
