//! The join: a change of an event and what is known about its content become one enriched event.
//!
//! Invariant: one change in, one event out, and the same arguments give the same event.

use std::borrow::Cow;

use crate::catalog::ContentRef;
use crate::envelope::{EventChange, EventRow, Meta, Op};
use crate::event::{
    Anomaly, EnrichedEvent, EnrichmentStatus, Lane, Micros, Origin, Position, Previous, Source,
};

/// Event types that are not reported as unknown (the set is open, others pass).
pub const KNOWN_EVENT_TYPES: [&str; 4] = ["play", "pause", "finish", "click"];
/// An event this far ahead of the processing time is an anomaly: one minute of clock skew is none.
pub const FUTURE: Micros = Micros(60 * 1_000_000);
/// An event this old is an anomaly: ten years.
pub const ANCIENT: Micros = Micros(3_652 * 86_400 * 1_000_000);

/// Where the record goes in the chain. The caller's lineage decides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Position of the record that the event is made from.
    pub position: Position,
    /// Offset of the record before in the chain, -1 for the first.
    pub prev: i64,
    /// First half of the mark after this record (a snapshot record repeats the mark before it).
    pub commit_lsn: u64,
    /// Second half of the mark after this record.
    pub lsn: u64,
}

/// The revision of a change: the epoch in the top 8 bits, the LSN of the change below.
#[must_use]
pub const fn revision(epoch: u8, lsn: u64) -> u64 {
    ((epoch as u64) << 56) | (lsn & (u64::MAX >> 8))
}

/// Makes the event. `content` is `None` when it is unknown, or when the event names none.
///
/// `now` is the processing time; it also stands in for a commit time that the record does not carry.
#[must_use]
pub fn enrich(
    change: EventChange<'_>,
    content: Option<ContentRef<'_>>,
    place: Place,
    now: Micros,
) -> EnrichedEvent {
    let EventChange {
        meta,
        row,
        before,
        moved,
    } = change;
    let (status, content) = join(&row, content);
    EnrichedEvent {
        anomalies: anomalies(&row, content.length_seconds, now),
        event_id: row.event_id.into_owned(),
        content_id: row.content_id.map(Cow::into_owned),
        user_id: row.user_id.map(Cow::into_owned),
        event_type: row.event_type.map(Cow::into_owned).unwrap_or_default(),
        device: row.device.map(Cow::into_owned),
        content_type: content.content_type.map(str::to_owned),
        event_ts: row.event_ts,
        processed_at: now,
        publish_ts: content.publish_ts,
        duration_ms: row.duration_ms,
        length_seconds: content.length_seconds,
        content_title: content.title.map(str::to_owned),
        content_slug: content.slug.map(str::to_owned),
        raw_payload: row.raw_payload.map(Cow::into_owned),
        enrichment_status: status,
        origin: origin(place.position.lane, meta.op),
        revision: revision(place.position.epoch, meta.lsn),
        deleted: meta.op == Op::Delete,
        moved,
        previous: before.map(|row| previous(*row)),
        source: source(&meta, place, now),
    }
}

/// An event without a content takes nothing from one.
fn join<'a>(
    row: &EventRow<'_>,
    content: Option<ContentRef<'a>>,
) -> (EnrichmentStatus, ContentRef<'a>) {
    match (&row.content_id, content) {
        (None, _) => (EnrichmentStatus::NoContent, ContentRef::default()),
        (Some(_), None) => (EnrichmentStatus::Missing, ContentRef::default()),
        (Some(_), Some(content)) => (EnrichmentStatus::Ok, content),
    }
}

fn source(meta: &Meta, place: Place, now: Micros) -> Source {
    let Position {
        lane,
        epoch,
        partition,
        offset,
    } = place.position;
    Source {
        lane,
        epoch,
        partition,
        offset,
        prev: place.prev,
        commit_lsn: place.commit_lsn,
        lsn: place.lsn,
        tx_id: meta.tx_id,
        committed_at: meta.committed_at.unwrap_or(now),
        snapshot: meta.is_snapshot(),
    }
}

const fn origin(lane: Lane, op: Op) -> Origin {
    match (lane, op) {
        (Lane::Backfill, _) => Origin::Backfill,
        (_, Op::Read) => Origin::Snapshot,
        _ => Origin::Stream,
    }
}

fn previous(row: EventRow<'_>) -> Previous {
    Previous {
        event_id: row.event_id.into_owned(),
        event_ts: row.event_ts,
        content_id: row.content_id.map(Cow::into_owned),
        event_type: row.event_type.map(Cow::into_owned).unwrap_or_default(),
        duration_ms: row.duration_ms,
    }
}

/// What is odd about the event; in the order of [`Anomaly::ALL`].
fn anomalies(row: &EventRow<'_>, length_seconds: Option<i64>, now: Micros) -> Vec<Anomaly> {
    let age = now.0.saturating_sub(row.event_ts.0);
    let known = row
        .event_type
        .as_deref()
        .is_some_and(|name| KNOWN_EVENT_TYPES.contains(&name));
    let found = [
        (
            Anomaly::DurationNegative,
            row.duration_ms.is_some_and(|ms| ms < 0),
        ),
        (
            Anomaly::Over100Percent,
            exceeds(row.duration_ms, length_seconds),
        ),
        (Anomaly::EventTsFuture, age < -FUTURE.0),
        (Anomaly::EventTsAncient, age > ANCIENT.0),
        (Anomaly::UnknownEventType, !known),
    ];
    found
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(anomaly, _)| anomaly)
        .collect()
}

fn exceeds(duration_ms: Option<i64>, length_seconds: Option<i64>) -> bool {
    match (duration_ms, length_seconds) {
        (Some(ms), Some(seconds)) if seconds > 0 => i128::from(ms) > i128::from(seconds) * 1000,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
