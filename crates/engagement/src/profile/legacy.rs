//! The shapes that readers of earlier designs expect.
//!
//! Invariant: the fields are the contract's and nothing else, but `"deleted": true` on a deletion, which none
//! of these shapes could say otherwise.

use serde::{Serialize, Serializer};

use super::RenderOptions;
use crate::event::{EnrichedEvent, Micros, decimal};
use crate::integer;

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The event type; empty on the wire is NULL in the table.
fn event_type(event: &EnrichedEvent) -> Option<&str> {
    Some(event.event_type.as_str()).filter(|text| !text.is_empty())
}

#[derive(Serialize)]
pub(super) struct Ratio4<'a> {
    id: &'a str,
    content_id: Option<&'a str>,
    user_id: Option<&'a str>,
    event_type: Option<&'a str>,
    event_ts: Micros,
    duration_ms: Option<i64>,
    device: Option<&'a str>,
    content_type: Option<&'a str>,
    length_seconds: Option<i64>,
    engagement_seconds: Option<f64>,
    engagement_pct: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
}

impl<'a> Ratio4<'a> {
    pub(super) fn of(event: &'a EnrichedEvent) -> Self {
        Self {
            id: &event.event_id,
            content_id: event.content_id.as_deref(),
            user_id: event.user_id.as_deref(),
            event_type: event_type(event),
            event_ts: event.event_ts,
            duration_ms: event.duration_ms,
            device: event.device.as_deref(),
            content_type: event.content_type.as_deref(),
            length_seconds: event.length_seconds,
            engagement_seconds: event.engagement_seconds(),
            engagement_pct: event.engagement_ratio(),
            deleted: event.deleted,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Ratio2<'a> {
    event_id: Id<'a>,
    content_id: Option<Id<'a>>,
    user_id: Option<Id<'a>>,
    event_type: Option<&'a str>,
    event_ts: String,
    duration_ms: Option<i64>,
    device: Option<&'a str>,
    content_type: Option<&'a str>,
    length_seconds: Option<i64>,
    engagement_seconds: Option<f64>,
    engagement_pct: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
}

impl<'a> Ratio2<'a> {
    pub(super) fn of(event: &'a EnrichedEvent) -> Self {
        Self {
            event_id: Id(&event.event_id),
            content_id: event.content_id.as_deref().map(Id),
            user_id: event.user_id.as_deref().map(Id),
            event_type: event_type(event),
            event_ts: event.event_ts.to_plain(),
            duration_ms: event.duration_ms,
            device: event.device.as_deref(),
            content_type: event.content_type.as_deref(),
            length_seconds: event.length_seconds,
            engagement_seconds: event
                .length_seconds
                .and_then(|_| event.engagement_seconds()),
            engagement_pct: event.ratio_e2().map(|n| decimal(n, 1e2)),
            deleted: event.deleted,
        }
    }
}

/// A key that is written as a number when it is the canonical text of one.
struct Id<'a>(&'a str);

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match integer::canonical(self.0) {
            Some(number) => serializer.serialize_i64(number),
            None => serializer.serialize_str(self.0),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Percent2<'a> {
    event_id: &'a str,
    content_id: Option<&'a str>,
    user_id: Option<&'a str>,
    event_type: Option<&'a str>,
    event_ts: Micros,
    duration_ms: Option<i64>,
    device: Option<&'a str>,
    content_type: Option<&'a str>,
    length_seconds: Option<i64>,
    engagement_seconds: Option<f64>,
    engagement_pct: Option<f64>,
    content_title: Option<&'a str>,
    content_slug: Option<&'a str>,
    publish_ts: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_payload: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
}

impl<'a> Percent2<'a> {
    pub(super) fn of(event: &'a EnrichedEvent, options: &RenderOptions) -> Self {
        Self {
            event_id: &event.event_id,
            content_id: event.content_id.as_deref(),
            user_id: event.user_id.as_deref(),
            event_type: event_type(event),
            event_ts: event.event_ts,
            duration_ms: event.duration_ms,
            device: event.device.as_deref(),
            content_type: event.content_type.as_deref(),
            length_seconds: event.length_seconds,
            engagement_seconds: event.engagement_seconds(),
            engagement_pct: event.engagement_percent(),
            content_title: event.content_title.as_deref(),
            content_slug: event.content_slug.as_deref(),
            publish_ts: event.publish_ts,
            raw_payload: options.raw_payload.then_some(event.raw_payload.as_deref()),
            deleted: event.deleted,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Percentage<'a> {
    content_id: Option<&'a str>,
    content_title: Option<&'a str>,
    content_type: Option<&'a str>,
    content_length_seconds: Option<i64>,
    user_id: Option<&'a str>,
    event_type: Option<&'a str>,
    engagement_seconds: Option<f64>,
    engagement_percentage: Option<f64>,
    device: Option<&'a str>,
    processed_at: Micros,
    event_id: &'a str,
    event_ts: Micros,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
}

impl<'a> Percentage<'a> {
    pub(super) fn of(event: &'a EnrichedEvent) -> Self {
        Self {
            content_id: event.content_id.as_deref(),
            content_title: event.content_title.as_deref(),
            content_type: event.content_type.as_deref(),
            content_length_seconds: event.length_seconds,
            user_id: event.user_id.as_deref(),
            event_type: event_type(event),
            engagement_seconds: event.engagement_seconds(),
            engagement_percentage: event.engagement_percent(),
            device: event.device.as_deref(),
            processed_at: event.processed_at,
            event_id: &event.event_id,
            event_ts: event.event_ts,
            deleted: event.deleted,
        }
    }
}

/// Event fields at the top, content and derived fields under `metadata`.
#[derive(Serialize)]
pub(super) struct Nested<'a> {
    event_id: &'a str,
    content_id: Option<&'a str>,
    user_id: Option<&'a str>,
    event_type: Option<&'a str>,
    event_ts: Micros,
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    content_title: Option<&'a str>,
    content_type: Option<&'a str>,
    content_length_seconds: Option<i64>,
    engagement_seconds: Option<f64>,
    engagement_percentage: Option<f64>,
    processed_at: Micros,
}

impl<'a> Nested<'a> {
    pub(super) fn of(event: &'a EnrichedEvent) -> Self {
        Self {
            event_id: &event.event_id,
            content_id: event.content_id.as_deref(),
            user_id: event.user_id.as_deref(),
            event_type: event_type(event),
            event_ts: event.event_ts,
            device: event.device.as_deref(),
            deleted: event.deleted,
            metadata: Metadata {
                content_title: event.content_title.as_deref(),
                content_type: event.content_type.as_deref(),
                content_length_seconds: event.length_seconds,
                engagement_seconds: event.engagement_seconds(),
                engagement_percentage: event.engagement_percent(),
                processed_at: event.processed_at,
            },
        }
    }
}
