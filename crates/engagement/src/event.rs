//! The enriched event, as the enricher makes it and every sink reads it.
//!
//! Invariant: it carries integers only; seconds, ratio and percent are derived from them where they are shown.

pub use crate::position::{Lane, Position, PositionError, Source};
pub use crate::time::{Micros, TimeError};

use crate::rounding;

/// One committed change of one row of `engagement_events`, joined with its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnrichedEvent {
    /// Primary key as canonical text: UUID in lower case, integers in decimal.
    pub event_id: String,
    /// Key of the content; `None` when the column is NULL.
    pub content_id: Option<String>,
    /// Key of the user; `None` when the column is NULL.
    pub user_id: Option<String>,
    /// Open set; empty (with [`Anomaly::UnknownEventType`]) when the column is NULL.
    pub event_type: String,
    /// Device as written by the application.
    pub device: Option<String>,
    /// Type of the content, open set.
    pub content_type: Option<String>,
    /// When it happened.
    pub event_ts: Micros,
    /// When this record was made.
    pub processed_at: Micros,
    /// When the content was published.
    pub publish_ts: Option<Micros>,
    /// Milliseconds, untouched.
    pub duration_ms: Option<i64>,
    /// Length of the content in seconds, untouched.
    pub length_seconds: Option<i64>,
    /// Title of the content.
    pub content_title: Option<String>,
    /// Slug of the content.
    pub content_slug: Option<String>,
    /// JSON text of the payload column; may hold personal data.
    pub raw_payload: Option<String>,
    /// Whether the content was found.
    pub enrichment_status: EnrichmentStatus,
    /// Where the change came from.
    pub origin: Origin,
    /// Epoch in the top 8 bits, LSN of the change below.
    pub revision: u64,
    /// The row was deleted; the other fields are those of the before image.
    pub deleted: bool,
    /// The change moved the event to another content: with `deleted` the half under the old key,
    /// without it the half under the new key. Readers keyed by event id ignore the deletion.
    pub moved: bool,
    /// The before image, on updates and deletes.
    pub previous: Option<Previous>,
    /// What is odd about this event.
    pub anomalies: Vec<Anomaly>,
    /// Where this record stands in its chain.
    pub source: Source,
}

impl EnrichedEvent {
    /// `duration_ms / 1000`; `None` if and only if the duration is.
    #[must_use]
    pub fn engagement_seconds(&self) -> Option<f64> {
        self.duration_ms.map(|ms| decimal(ms, 1e3))
    }

    /// The ratio in units of 0.0001, which is the percentage in units of 0.01; half-up from integers, never clamped.
    ///
    /// `None` when duration or length is missing or the length is not positive.
    #[must_use]
    pub fn ratio_e4(&self) -> Option<i64> {
        rounding::ratio(self.duration_ms?, self.length_seconds?, 4)
    }

    /// The ratio in units of 0.01, rounded once, from integers; `None` as [`Self::ratio_e4`].
    #[must_use]
    pub fn ratio_e2(&self) -> Option<i64> {
        rounding::ratio(self.duration_ms?, self.length_seconds?, 2)
    }

    /// The ratio with four decimal places.
    #[must_use]
    pub fn engagement_ratio(&self) -> Option<f64> {
        self.ratio_e4().map(|n| decimal(n, 1e4))
    }

    /// The percentage with two decimal places.
    #[must_use]
    pub fn engagement_percent(&self) -> Option<f64> {
        self.ratio_e4().map(|n| decimal(n, 1e2))
    }

    /// Identity of the event: `<db>.<table>:<event_id>`; `database_table` is the part before the colon.
    #[must_use]
    pub fn uid(&self, database_table: &str) -> String {
        format!("{database_table}:{}", self.event_id)
    }

    /// What happened to the event; with uid and revision the identity of a message.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match (self.deleted, self.moved || self.previous.is_some()) {
            (true, _) => Operation::Deleted,
            (false, true) => Operation::Updated,
            (false, false) => Operation::Created,
        }
    }

    /// May repeat with new positions (a snapshot or a backfill): idempotent by event id, not by position.
    #[must_use]
    pub const fn is_historical(&self) -> bool {
        matches!(self.origin, Origin::Snapshot | Origin::Backfill)
    }
}

/// The nearest `f64` of a decimal; prints back with the digits that went in (below 2^53).
pub(crate) fn decimal(units: i64, scale: f64) -> f64 {
    units as f64 / scale
}

/// What a change replaces, so that a reader can undo it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Primary key before the change.
    pub event_id: String,
    /// Event time before the change.
    pub event_ts: Micros,
    /// Content before the change.
    pub content_id: Option<String>,
    /// Event type before the change; empty when it was NULL.
    pub event_type: String,
    /// Duration before the change, milliseconds.
    pub duration_ms: Option<i64>,
}

/// What happened to an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// A new row, or a row read by a snapshot or backfill.
    Created,
    /// A new revision of a row.
    Updated,
    /// The row is gone.
    Deleted,
}

impl Operation {
    /// `created`, `updated`, `deleted`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// Whether the content was found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EnrichmentStatus {
    /// The content was found.
    Ok,
    /// The content is unknown; derived fields are absent.
    Missing,
    /// The event has no content.
    NoContent,
}

impl EnrichmentStatus {
    /// `OK`, `MISSING`, `NO_CONTENT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Missing => "MISSING",
            Self::NoContent => "NO_CONTENT",
        }
    }
}

/// Where a change came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The write-ahead log.
    Stream,
    /// Debezium's snapshot of the table.
    Snapshot,
    /// A backfill.
    Backfill,
}

impl Origin {
    /// `STREAM`, `SNAPSHOT`, `BACKFILL`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stream => "STREAM",
            Self::Snapshot => "SNAPSHOT",
            Self::Backfill => "BACKFILL",
        }
    }
}

/// What is odd about an event; it is kept anyway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Anomaly {
    /// `duration_ms` is below zero.
    DurationNegative,
    /// The duration exceeds the length (re-watching does).
    Over100Percent,
    /// `event_ts` is ahead of the processing time.
    EventTsFuture,
    /// `event_ts` is years before the processing time.
    EventTsAncient,
    /// `event_type` is none of the known ones, or NULL.
    UnknownEventType,
}

impl Anomaly {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DurationNegative,
        Self::Over100Percent,
        Self::EventTsFuture,
        Self::EventTsAncient,
        Self::UnknownEventType,
    ];

    /// `DURATION_NEGATIVE`, `OVER_100_PERCENT`, ..
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DurationNegative => "DURATION_NEGATIVE",
            Self::Over100Percent => "OVER_100_PERCENT",
            Self::EventTsFuture => "EVENT_TS_FUTURE",
            Self::EventTsAncient => "EVENT_TS_ANCIENT",
            Self::UnknownEventType => "UNKNOWN_EVENT_TYPE",
        }
    }
}
