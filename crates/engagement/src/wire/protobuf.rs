//! [`EnrichedEvent`] to and from `engagement.v1.EnrichedEvent`.
//!
//! Invariant: the derived fields are written for other readers and never read back; the integers are the truth.

mod encode;
mod enums;

use engagement_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

use super::DecodeError;
use crate::event::{EnrichedEvent, Micros, Previous, Source};

pub(super) fn encode(event: &EnrichedEvent) -> Vec<u8> {
    encode::event(event)
}

pub(super) fn decode(bytes: &[u8]) -> Result<EnrichedEvent, DecodeError> {
    from_message(v1::EnrichedEvent::decode(bytes)?)
}

fn from_message(m: v1::EnrichedEvent) -> Result<EnrichedEvent, DecodeError> {
    Ok(EnrichedEvent {
        enrichment_status: enums::read_status(m.enrichment_status())?,
        origin: enums::read_origin(m.origin())?,
        anomalies: m.anomalies().filter_map(enums::read_anomaly).collect(),
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
        lane: enums::read_lane(s.lane())?,
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
    let micros = i128::from(at.seconds) * 1_000_000 + i128::from(at.nanos) / 1000;
    match (i64::try_from(micros), at.nanos) {
        (Ok(micros), 0..1_000_000_000) => Ok(Micros(micros)),
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

fn invalid(field: &'static str, found: impl Into<String>, expected: &'static str) -> DecodeError {
    DecodeError::Invalid {
        field,
        found: found.into(),
        expected,
    }
}
