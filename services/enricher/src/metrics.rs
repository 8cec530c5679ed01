//! What the enricher counts.
//!
//! Invariant: labels are of fixed, small sets; the handles used per record are looked up once.

use engagement::event::{EnrichedEvent, EnrichmentStatus, Origin};
use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, gauge};

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
    pub(crate) duplicates: Counter,
    pub(crate) misses: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        describe();
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

fn describe() {
    describe_counter!(EVENTS_ENRICHED, "Enriched events handed to the producer.");
    describe_gauge!(CATALOG_ENTRIES, "Contents in the catalog.");
    describe_counter!(CATALOG_MISSES, "Contents that the catalog did not know.");
    describe_counter!(
        CONTENT_REJECTED,
        "Records of the content topic that were not understood."
    );
    describe_counter!(SKIPPED, "Records that need no output.");
    describe_counter!(
        CONNECTOR_RESTARTS,
        "Failed connectors or tasks that were started again."
    );
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

pub(crate) fn connector_restarted() {
    counter!(CONNECTOR_RESTARTS).increment(1);
}

pub(crate) fn skipped(reason: &'static str) {
    counter!(SKIPPED, "reason" => reason).increment(1);
}
