//! The canonical profile back into an [`EnrichedEvent`].
//!
//! Invariant: the derived fields are not read; the integers are the truth.

use std::borrow::Cow;

use super::DecodeError;
use crate::event::{Anomaly, EnrichedEvent, EnrichmentStatus, Lane, Origin, Previous, Source};
use crate::profile::canonical::{self, Canonical};

pub(super) fn decode(bytes: &[u8]) -> Result<EnrichedEvent, DecodeError> {
    let c: Canonical<'_> = serde_json::from_slice(bytes)?;
    if c.event_id.is_empty() {
        return Err(DecodeError::Missing("event_id"));
    }
    Ok(EnrichedEvent {
        event_id: c.event_id.into_owned(),
        content_id: owned(c.content_id),
        user_id: owned(c.user_id),
        event_type: c.event_type.into_owned(),
        device: owned(c.device),
        content_type: owned(c.content_type),
        event_ts: c.event_ts,
        processed_at: c.processed_at,
        publish_ts: c.publish_ts,
        duration_ms: c.duration_ms,
        length_seconds: c.length_seconds,
        content_title: owned(c.content_title),
        content_slug: owned(c.content_slug),
        raw_payload: owned(c.raw_payload),
        enrichment_status: status(&c.enrichment_status)?,
        origin: origin(&c.origin)?,
        revision: c.revision,
        deleted: c.deleted,
        moved: c.moved,
        previous: c.previous.map(previous),
        anomalies: c
            .anomalies
            .iter()
            .filter_map(|name| anomaly(name))
            .collect(),
        source: source(&c.source)?,
    })
}

fn owned(text: Option<Cow<'_, str>>) -> Option<String> {
    text.map(Cow::into_owned)
}

fn previous(p: canonical::Previous<'_>) -> Previous {
    Previous {
        event_id: p.event_id.into_owned(),
        event_ts: p.event_ts,
        content_id: owned(p.content_id),
        event_type: p.event_type.into_owned(),
        duration_ms: p.duration_ms,
    }
}

fn source(s: &canonical::Source<'_>) -> Result<Source, DecodeError> {
    Ok(Source {
        lane: lane(&s.lane)?,
        epoch: s.epoch,
        partition: s.partition,
        offset: s.offset,
        prev: s.prev,
        commit_lsn: s.commit_lsn,
        lsn: s.lsn,
        tx_id: s.tx_id,
        committed_at: s.committed_at,
        snapshot: s.snapshot,
    })
}

fn lane(name: &str) -> Result<Lane, DecodeError> {
    match name {
        "LIVE" => Ok(Lane::Live),
        "BACKFILL" => Ok(Lane::Backfill),
        "REDRIVE" => Ok(Lane::Redrive),
        _ => Err(invalid("source.lane", name, "LIVE, BACKFILL or REDRIVE")),
    }
}

fn status(name: &str) -> Result<EnrichmentStatus, DecodeError> {
    match name {
        "OK" => Ok(EnrichmentStatus::Ok),
        "MISSING" => Ok(EnrichmentStatus::Missing),
        "NO_CONTENT" => Ok(EnrichmentStatus::NoContent),
        _ => Err(invalid(
            "enrichment_status",
            name,
            "OK, MISSING or NO_CONTENT",
        )),
    }
}

fn origin(name: &str) -> Result<Origin, DecodeError> {
    match name {
        "STREAM" => Ok(Origin::Stream),
        "SNAPSHOT" => Ok(Origin::Snapshot),
        "BACKFILL" => Ok(Origin::Backfill),
        _ => Err(invalid("origin", name, "STREAM, SNAPSHOT or BACKFILL")),
    }
}

fn anomaly(name: &str) -> Option<Anomaly> {
    Anomaly::ALL
        .into_iter()
        .find(|anomaly| anomaly.name() == name)
}

fn invalid(field: &'static str, found: &str, expected: &'static str) -> DecodeError {
    DecodeError::Invalid {
        field,
        found: format!("{:?}", found.chars().take(80).collect::<String>()),
        expected,
    }
}
