//! [`EnrichedEvent`] to and from `engagement.v1.EnrichedEvent`.
//!
//! Invariant: the derived fields are written for other readers and never read back; the integers are the truth.

use engagement_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

use super::DecodeError;
use crate::event::{
    Anomaly, EnrichedEvent, EnrichmentStatus, Lane, Micros, Origin, Previous, Source,
};

pub(super) fn encode(event: &EnrichedEvent) -> Vec<u8> {
    to_message(event).encode_to_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<EnrichedEvent, DecodeError> {
    from_message(v1::EnrichedEvent::decode(bytes)?)
}

fn to_message(event: &EnrichedEvent) -> v1::EnrichedEvent {
    v1::EnrichedEvent {
        event_id: event.event_id.clone(),
        content_id: event.content_id.clone(),
        user_id: event.user_id.clone(),
        event_type: event.event_type.clone(),
        device: event.device.clone(),
        content_type: event.content_type.clone(),
        event_ts: Some(timestamp(event.event_ts)),
        processed_at: Some(timestamp(event.processed_at)),
        publish_ts: event.publish_ts.map(timestamp),
        duration_ms: event.duration_ms,
        length_seconds: event.length_seconds,
        engagement_seconds: event.engagement_seconds(),
        engagement_ratio: event.engagement_ratio(),
        engagement_percent: event.engagement_percent(),
        content_title: event.content_title.clone(),
        content_slug: event.content_slug.clone(),
        raw_payload: event.raw_payload.clone().map(String::into_bytes),
        enrichment_status: status(event.enrichment_status).into(),
        origin: origin(event.origin).into(),
        revision: event.revision,
        deleted: event.deleted,
        moved: event.moved,
        previous: event.previous.as_ref().map(previous),
        anomalies: event.anomalies.iter().map(|a| anomaly(*a).into()).collect(),
        source: Some(source(&event.source)),
    }
}

fn previous(p: &Previous) -> v1::Previous {
    v1::Previous {
        event_id: p.event_id.clone(),
        event_ts: Some(timestamp(p.event_ts)),
        content_id: p.content_id.clone(),
        event_type: p.event_type.clone(),
        duration_ms: p.duration_ms,
    }
}

fn source(s: &Source) -> v1::Source {
    v1::Source {
        lane: lane(s.lane).into(),
        epoch: u32::from(s.epoch),
        partition: s.partition,
        offset: s.offset,
        prev: s.prev,
        commit_lsn: s.commit_lsn,
        lsn: s.lsn,
        tx_id: s.tx_id,
        committed_at: Some(timestamp(s.committed_at)),
        snapshot: s.snapshot,
    }
}

fn timestamp(at: Micros) -> Timestamp {
    let nanos = at.0.rem_euclid(1_000_000) * 1000;
    Timestamp {
        seconds: at.seconds(),
        nanos: i32::try_from(nanos).unwrap_or(0),
    }
}

const fn lane(lane: Lane) -> v1::Lane {
    match lane {
        Lane::Live => v1::Lane::Live,
        Lane::Backfill => v1::Lane::Backfill,
        Lane::Redrive => v1::Lane::Redrive,
    }
}

const fn status(status: EnrichmentStatus) -> v1::EnrichmentStatus {
    match status {
        EnrichmentStatus::Ok => v1::EnrichmentStatus::Ok,
        EnrichmentStatus::Missing => v1::EnrichmentStatus::Missing,
        EnrichmentStatus::NoContent => v1::EnrichmentStatus::NoContent,
    }
}

const fn origin(origin: Origin) -> v1::Origin {
    match origin {
        Origin::Stream => v1::Origin::Stream,
        Origin::Snapshot => v1::Origin::Snapshot,
        Origin::Backfill => v1::Origin::Backfill,
    }
}

const fn anomaly(anomaly: Anomaly) -> v1::Anomaly {
    match anomaly {
        Anomaly::DurationNegative => v1::Anomaly::DurationNegative,
        Anomaly::Over100Percent => v1::Anomaly::Over100Percent,
        Anomaly::EventTsFuture => v1::Anomaly::EventTsFuture,
        Anomaly::EventTsAncient => v1::Anomaly::EventTsAncient,
        Anomaly::UnknownEventType => v1::Anomaly::UnknownEventType,
    }
}

fn from_message(m: v1::EnrichedEvent) -> Result<EnrichedEvent, DecodeError> {
    Ok(EnrichedEvent {
        enrichment_status: read_status(m.enrichment_status())?,
        origin: read_origin(m.origin())?,
        anomalies: m.anomalies().filter_map(read_anomaly).collect(),
        event_id: if m.event_id.is_empty() {
            return Err(DecodeError::Missing("event_id"));
        } else {
            m.event_id
        },
        content_id: m.content_id,
        user_id: m.user_id,
        event_type: m.event_type,
        device: m.device,
        content_type: m.content_type,
        event_ts: required("event_ts", m.event_ts)?,
        processed_at: required("processed_at", m.processed_at)?,
        publish_ts: m
            .publish_ts
            .map(|at| micros("publish_ts", at))
            .transpose()?,
        duration_ms: m.duration_ms,
        length_seconds: m.length_seconds,
        content_title: m.content_title,
        content_slug: m.content_slug,
        raw_payload: m.raw_payload.map(text).transpose()?,
        revision: m.revision,
        deleted: m.deleted,
        moved: m.moved,
        previous: m.previous.map(read_previous).transpose()?,
        source: read_source(m.source.ok_or(DecodeError::Missing("source"))?)?,
    })
}

fn read_previous(p: v1::Previous) -> Result<Previous, DecodeError> {
    Ok(Previous {
        event_id: p.event_id,
        event_ts: required("previous.event_ts", p.event_ts)?,
        content_id: p.content_id,
        event_type: p.event_type,
        duration_ms: p.duration_ms,
    })
}

fn read_source(s: v1::Source) -> Result<Source, DecodeError> {
    Ok(Source {
        lane: read_lane(s.lane())?,
        epoch: u8::try_from(s.epoch)
            .map_err(|_| invalid("source.epoch", s.epoch.to_string(), "0 to 255"))?,
        partition: s.partition,
        offset: s.offset,
        prev: s.prev,
        commit_lsn: s.commit_lsn,
        lsn: s.lsn,
        tx_id: s.tx_id,
        committed_at: required("source.committed_at", s.committed_at)?,
        snapshot: s.snapshot,
    })
}

fn required(field: &'static str, at: Option<Timestamp>) -> Result<Micros, DecodeError> {
    micros(field, at.ok_or(DecodeError::Missing(field))?)
}

fn micros(field: &'static str, at: Timestamp) -> Result<Micros, DecodeError> {
    let seconds = at.seconds.checked_mul(1_000_000);
    let micros = seconds.and_then(|s| s.checked_add(i64::from(at.nanos) / 1000));
    match (micros, at.nanos) {
        (Some(micros), 0..1_000_000_000) => Ok(Micros(micros)),
        _ => Err(invalid(
            field,
            format!("{} s + {} ns", at.seconds, at.nanos),
            "a timestamp that fits 64-bit microseconds",
        )),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, DecodeError> {
    String::from_utf8(bytes)
        .map_err(|_| invalid("raw_payload", "bytes that are no UTF-8", "JSON text"))
}

fn read_lane(lane: v1::Lane) -> Result<Lane, DecodeError> {
    match lane {
        v1::Lane::Live => Ok(Lane::Live),
        v1::Lane::Backfill => Ok(Lane::Backfill),
        v1::Lane::Redrive => Ok(Lane::Redrive),
        v1::Lane::Unspecified => Err(unknown("source.lane")),
    }
}

fn read_status(status: v1::EnrichmentStatus) -> Result<EnrichmentStatus, DecodeError> {
    match status {
        v1::EnrichmentStatus::Ok => Ok(EnrichmentStatus::Ok),
        v1::EnrichmentStatus::Missing => Ok(EnrichmentStatus::Missing),
        v1::EnrichmentStatus::NoContent => Ok(EnrichmentStatus::NoContent),
        v1::EnrichmentStatus::Unspecified => Err(unknown("enrichment_status")),
    }
}

fn read_origin(origin: v1::Origin) -> Result<Origin, DecodeError> {
    match origin {
        v1::Origin::Stream => Ok(Origin::Stream),
        v1::Origin::Snapshot => Ok(Origin::Snapshot),
        v1::Origin::Backfill => Ok(Origin::Backfill),
        v1::Origin::Unspecified => Err(unknown("origin")),
    }
}

const fn read_anomaly(anomaly: v1::Anomaly) -> Option<Anomaly> {
    match anomaly {
        v1::Anomaly::DurationNegative => Some(Anomaly::DurationNegative),
        v1::Anomaly::Over100Percent => Some(Anomaly::Over100Percent),
        v1::Anomaly::EventTsFuture => Some(Anomaly::EventTsFuture),
        v1::Anomaly::EventTsAncient => Some(Anomaly::EventTsAncient),
        v1::Anomaly::UnknownEventType => Some(Anomaly::UnknownEventType),
        v1::Anomaly::Unspecified => None,
    }
}

fn unknown(field: &'static str) -> DecodeError {
    invalid(
        field,
        "no value this version knows",
        "a value of event.proto; a newer writer needs a newer reader",
    )
}

fn invalid(field: &'static str, found: impl Into<String>, expected: &'static str) -> DecodeError {
    DecodeError::Invalid {
        field,
        found: found.into(),
        expected,
    }
}
