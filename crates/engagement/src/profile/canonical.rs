//! `canonical`, which is also the JSON wire format, and `cloudevents` around it.
//!
//! Invariant: with the payload included nothing of an event is lost.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::RenderOptions;
use crate::event::{EnrichedEvent, Micros, Operation};

/// The canonical shape; borrowed when written, owned where JSON escapes make it so when read.
#[derive(Serialize, Deserialize)]
pub(crate) struct Canonical<'a> {
    pub(crate) event_id: Cow<'a, str>,
    pub(crate) content_id: Option<Cow<'a, str>>,
    pub(crate) user_id: Option<Cow<'a, str>>,
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) device: Option<Cow<'a, str>>,
    pub(crate) content_type: Option<Cow<'a, str>>,
    pub(crate) event_ts: Micros,
    pub(crate) processed_at: Micros,
    pub(crate) publish_ts: Option<Micros>,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) length_seconds: Option<i64>,
    #[serde(skip_deserializing)]
    engagement_seconds: Option<f64>,
    #[serde(skip_deserializing)]
    engagement_ratio: Option<f64>,
    #[serde(skip_deserializing)]
    engagement_percent: Option<f64>,
    pub(crate) content_title: Option<Cow<'a, str>>,
    pub(crate) content_slug: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw_payload: Option<Cow<'a, str>>,
    pub(crate) enrichment_status: Cow<'a, str>,
    pub(crate) origin: Cow<'a, str>,
    pub(crate) revision: u64,
    pub(crate) deleted: bool,
    #[serde(default)]
    pub(crate) moved: bool,
    pub(crate) previous: Option<Previous<'a>>,
    pub(crate) anomalies: Vec<Cow<'a, str>>,
    pub(crate) source: Source<'a>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Previous<'a> {
    pub(crate) event_id: Cow<'a, str>,
    pub(crate) event_ts: Micros,
    pub(crate) content_id: Option<Cow<'a, str>>,
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) duration_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Source<'a> {
    pub(crate) lane: Cow<'a, str>,
    pub(crate) epoch: u8,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) prev: i64,
    pub(crate) commit_lsn: u64,
    pub(crate) lsn: u64,
    pub(crate) tx_id: Option<i64>,
    pub(crate) committed_at: Micros,
    pub(crate) snapshot: bool,
}

impl<'a> Canonical<'a> {
    pub(crate) fn of(event: &'a EnrichedEvent, options: &RenderOptions) -> Self {
        Self {
            event_id: Cow::Borrowed(&event.event_id),
            content_id: borrowed(event.content_id.as_ref()),
            user_id: borrowed(event.user_id.as_ref()),
            event_type: Cow::Borrowed(&event.event_type),
            device: borrowed(event.device.as_ref()),
            content_type: borrowed(event.content_type.as_ref()),
            event_ts: event.event_ts,
            processed_at: event.processed_at,
            publish_ts: event.publish_ts,
            duration_ms: event.duration_ms,
            length_seconds: event.length_seconds,
            engagement_seconds: event.engagement_seconds(),
            engagement_ratio: event.engagement_ratio(),
            engagement_percent: event.engagement_percent(),
            content_title: borrowed(event.content_title.as_ref()),
            content_slug: borrowed(event.content_slug.as_ref()),
            raw_payload: borrowed(event.raw_payload.as_ref().filter(|_| options.raw_payload)),
            enrichment_status: Cow::Borrowed(event.enrichment_status.name()),
            origin: Cow::Borrowed(event.origin.name()),
            revision: event.revision,
            deleted: event.deleted,
            moved: event.moved,
            previous: event.previous.as_ref().map(Previous::of),
            anomalies: event
                .anomalies
                .iter()
                .map(|a| Cow::Borrowed(a.name()))
                .collect(),
            source: Source::of(&event.source),
        }
    }
}

fn borrowed(text: Option<&String>) -> Option<Cow<'_, str>> {
    text.map(|text| Cow::Borrowed(text.as_str()))
}

impl<'a> Previous<'a> {
    fn of(previous: &'a crate::event::Previous) -> Self {
        Self {
            event_id: Cow::Borrowed(&previous.event_id),
            event_ts: previous.event_ts,
            content_id: borrowed(previous.content_id.as_ref()),
            event_type: Cow::Borrowed(&previous.event_type),
            duration_ms: previous.duration_ms,
        }
    }
}

impl Source<'_> {
    fn of(source: &crate::event::Source) -> Self {
        Self {
            lane: Cow::Borrowed(match source.lane {
                crate::event::Lane::Live => "LIVE",
                crate::event::Lane::Backfill => "BACKFILL",
                crate::event::Lane::Redrive => "REDRIVE",
            }),
            epoch: source.epoch,
            partition: source.partition,
            offset: source.offset,
            prev: source.prev,
            commit_lsn: source.commit_lsn,
            lsn: source.lsn,
            tx_id: source.tx_id,
            committed_at: source.committed_at,
            snapshot: source.snapshot,
        }
    }
}

/// CloudEvents 1.0, structured mode (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>).
///
/// `source` + `id` are unique per message: the table, and event id, revision and operation.
#[derive(Serialize)]
pub(super) struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: Micros,
    datacontenttype: &'static str,
    data: Canonical<'a>,
}

impl<'a> CloudEvent<'a> {
    pub(super) fn of(event: &'a EnrichedEvent, options: &RenderOptions) -> Self {
        Self {
            specversion: "1.0",
            id: format!(
                "{}/{}/{}",
                event.event_id,
                event.revision,
                event.operation().name()
            ),
            source: format!("/engage/{}", options.database_table),
            kind: match event.operation() {
                Operation::Created => "engagement.event.created",
                Operation::Updated => "engagement.event.updated",
                Operation::Deleted => "engagement.event.deleted",
            },
            subject: event.content_id.as_deref().filter(|id| !id.is_empty()),
            time: event.event_ts,
            datacontenttype: "application/json",
            data: Canonical::of(event, options),
        }
    }
}
