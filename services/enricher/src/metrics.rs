//! What the enricher counts.
//!
//! Invariant: labels are of fixed, small sets; the handles used per record are looked up once.

use engagement::envelope::RejectKind;
use engagement::event::{EnrichedEvent, EnrichmentStatus, Origin};
use metrics::{Counter, Histogram, counter, gauge};
use platform::SlotState;
use service::metrics::{Label, Metric, STAGE, STAGE_BUCKETS, Unit};

/// Enriched events handed to the producer. Labels: `status` (ok, missing, `no_content`), `origin` (stream, snapshot).
pub const EVENTS_ENRICHED: &str = "engage_events_enriched_total";
/// Contents in the catalog. Labels: none.
pub const CATALOG_ENTRIES: &str = "engage_catalog_entries";
/// Contents that an event named and the catalog did not know, before the lookup. Labels: none.
pub const CATALOG_MISSES: &str = "engage_catalog_misses_total";
/// Records of the content topic that were not understood. Labels: `reason`.
pub const CONTENT_REJECTED: &str = "engage_content_rejected_total";
/// Records that need no output. Labels: `reason` (tombstone, message, listed).
pub const SKIPPED: &str = "engage_records_skipped_total";

/// Failed connectors or tasks that were started again. Labels: none.
pub const CONNECTOR_RESTARTS: &str = "engage_connector_restarts_total";
/// 1 while the connector and all its tasks run. Labels: `connector`.
pub const CONNECTOR_RUNNING: &str = "engage_connector_running";
/// WAL that the replication slot holds back, in bytes. Labels: `slot`.
pub const SLOT_RETAINED: &str = "engage_slot_retained_bytes";
/// WAL that the connector has not confirmed, in bytes. Labels: `slot`.
pub const SLOT_UNCONFIRMED: &str = "engage_slot_unconfirmed_bytes";
/// 0 reserved, 1 extended, 2 unreserved, 3 lost, 4 there is no slot. Labels: `slot`.
pub const SLOT_WAL_STATUS: &str = "engage_slot_wal_status";
/// 1 while somebody reads the slot. Labels: `slot`.
pub const SLOT_ACTIVE: &str = "engage_slot_active";
/// Looks at the connector or the slot that were not answered. Labels: `dependency` (connect, postgres).
pub const LOOKS_FAILED: &str = "engage_capture_looks_failed_total";

const REJECTS: &[&str] = &[
    RejectKind::MalformedJson.name(),
    RejectKind::WrongType.name(),
    RejectKind::MissingField.name(),
    RejectKind::MissingPrimaryKey.name(),
    RejectKind::AbsurdTimestamp.name(),
    RejectKind::UnknownOperation.name(),
    RejectKind::WrongKey.name(),
];
const LETTERS: &[&str] = &[
    RejectKind::MalformedJson.name(),
    RejectKind::WrongType.name(),
    RejectKind::MissingField.name(),
    RejectKind::MissingPrimaryKey.name(),
    RejectKind::AbsurdTimestamp.name(),
    RejectKind::UnknownOperation.name(),
    "too_large",
    "refused",
];
const SLOT: &[Label] = &[Label::any("slot", "the replication slot")];

/// What only the enricher exports, with its part of the shared ones.
pub const OWN: &[Metric] = &[
    service::metrics::FRESHNESS_METRIC,
    Metric::histogram(
        STAGE,
        Unit::Seconds,
        STAGE_BUCKETS,
        "Time per event in one stage: `capture` from the commit to Kafka (one event a batch), `enrich` from taken to handed to the producer.",
    )
    .with(&[Label::one_of("stage", &["capture", "enrich"])]),
    Metric::counter(EVENTS_ENRICHED, "Enriched events handed to the producer.").with(&[
        Label::one_of("status", &["ok", "missing", "no_content"]),
        Label::one_of("origin", &["stream", "snapshot"]),
    ]),
    Metric::gauge(CATALOG_ENTRIES, Unit::Count, "Contents in the catalog."),
    Metric::counter(
        CATALOG_MISSES,
        "Contents that an event named and the catalog did not know, before Postgres was asked.",
    ),
    Metric::counter(
        CONTENT_REJECTED,
        "Records of the content topic that were not understood; Postgres is asked for their rows.",
    )
    .with(&[Label::one_of("reason", REJECTS)]),
    Metric::counter(SKIPPED, "Records of the change topic that need no output.")
        .with(&[Label::one_of("reason", &["tombstone", "message", "listed", "redriven"])]),
    service::metrics::duplicates_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["resent"]),
    ]),
    service::metrics::dead_letters_metric(&[
        Label::service("service"),
        Label::one_of("reason", LETTERS),
    ]),
    Metric::counter(
        CONNECTOR_RESTARTS,
        "Failed connectors or tasks that this process has started again.",
    ),
    Metric::gauge(
        CONNECTOR_RUNNING,
        Unit::State,
        "1 while the connector and all its tasks run; only with CONNECT_URL.",
    )
    .with(&[Label::any("connector", "the connector")]),
    Metric::gauge(
        SLOT_RETAINED,
        Unit::Bytes,
        "WAL on the database's disk because of the replication slot; only with CONNECT_URL and DATABASE_URL.",
    )
    .with(SLOT),
    Metric::gauge(
        SLOT_UNCONFIRMED,
        Unit::Bytes,
        "WAL that the connector has not confirmed; only with CONNECT_URL and DATABASE_URL.",
    )
    .with(SLOT),
    Metric::gauge(
        SLOT_WAL_STATUS,
        Unit::State,
        "0 reserved, 1 extended, 2 unreserved, 3 lost, 4 there is no such slot; only with CONNECT_URL and DATABASE_URL.",
    )
    .with(SLOT),
    Metric::gauge(
        SLOT_ACTIVE,
        Unit::State,
        "1 while the connector reads the slot; only with CONNECT_URL and DATABASE_URL.",
    )
    .with(SLOT),
    Metric::counter(
        LOOKS_FAILED,
        "Looks at the connector or its slot that were not answered; the gauges keep what was seen last.",
    )
    .with(&[Label::one_of("dependency", &["connect", "postgres"])]),
];

const STATUSES: [EnrichmentStatus; 3] = [
    EnrichmentStatus::Ok,
    EnrichmentStatus::Missing,
    EnrichmentStatus::NoContent,
];
const ORIGINS: [Origin; 2] = [Origin::Stream, Origin::Snapshot];

/// The handles that lanes use.
#[derive(Clone)]
pub(crate) struct Meters {
    enriched: [[Counter; 2]; 3],
    /// Commit in Postgres to acknowledged by the broker, once per commit.
    pub(crate) freshness: Histogram,
    /// Time per record from taken to handed to the producer.
    pub(crate) stage: Histogram,
    /// Commit in Postgres to the record in Kafka, once per batch.
    pub(crate) capture: Histogram,
    pub(crate) duplicates: Counter,
    pub(crate) misses: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let enriched = STATUSES.map(|status| {
            ORIGINS.map(|origin| {
                let (status, origin) = (status.name().to_lowercase(), origin.name().to_lowercase());
                counter!(EVENTS_ENRICHED, "status" => status, "origin" => origin)
            })
        });
        let duplicates = service::metrics::DUPLICATES_DROPPED;
        Self {
            enriched,
            freshness: service::metrics::freshness("enricher"),
            stage: service::metrics::stage("enrich"),
            capture: service::metrics::stage("capture"),
            duplicates: counter!(duplicates, "service" => "enricher", "reason" => "resent"),
            misses: counter!(CATALOG_MISSES),
        }
    }

    pub(crate) fn enriched(&self, event: &EnrichedEvent) {
        let status = STATUSES
            .iter()
            .position(|status| *status == event.enrichment_status)
            .unwrap_or(0);
        let origin = usize::from(event.origin == Origin::Snapshot);
        self.enriched[status][origin].increment(1);
    }
}

pub(crate) fn catalog_entries(entries: usize) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a catalog in memory is far below 2^53 rows"
    )]
    gauge!(CATALOG_ENTRIES).set(entries as f64);
}

pub(crate) fn content_rejected(reason: &'static str) {
    counter!(CONTENT_REJECTED, "reason" => reason).increment(1);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge; WAL far below 2^53 bytes"
)]
pub(crate) fn slot(name: &str, state: &SlotState) {
    let set = |metric: &'static str, value: f64| {
        gauge!(metric, "slot" => name.to_owned()).set(value);
    };
    set(SLOT_WAL_STATUS, f64::from(state.wal_status.level()));
    set(SLOT_RETAINED, state.retained_bytes as f64);
    set(SLOT_UNCONFIRMED, state.unconfirmed_bytes as f64);
    set(SLOT_ACTIVE, f64::from(u8::from(state.is_active)));
}

pub(crate) fn connector_running(name: &str, is_running: bool) {
    gauge!(CONNECTOR_RUNNING, "connector" => name.to_owned()).set(f64::from(u8::from(is_running)));
}

pub(crate) fn look_failed(dependency: &'static str) {
    counter!(LOOKS_FAILED, "dependency" => dependency).increment(1);
}

pub(crate) fn connector_restarted() {
    counter!(CONNECTOR_RESTARTS).increment(1);
}

pub(crate) fn skipped(reason: &'static str) {
    counter!(SKIPPED, "reason" => reason).increment(1);
}
