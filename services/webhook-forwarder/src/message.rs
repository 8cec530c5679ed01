//! From an enriched event to the message an endpoint gets. Pure.
//!
//! Invariant: id and body depend on the record alone, so that every repeat, after a retry or after
//! a restart, is the same message byte for byte.

use std::fmt::Write as _;

use bytes::Bytes;
use engagement::event::{EnrichedEvent, Micros};
use engagement::profile::{Profile, RenderOptions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use stream::trace::Subject;

use crate::schedule::OrderKey;

/// Bytes of the hash that make the id: 128 bits.
const ID_BYTES: usize = 16;

/// What is sent, and what is needed to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The `webhook-id`.
    pub id: String,
    /// The body, JSON.
    pub body: Bytes,
    /// What keeps order among itself.
    pub key: OrderKey,
    /// When the change was committed in Postgres, for freshness; what a snapshot brings has no commit of its own.
    pub committed_at: Option<Micros>,
    /// The event, for traces.
    pub subject: Subject,
    /// The backfill that brings it; `None`: the live stream does.
    pub run: Option<i64>,
}

/// What is delivered one after the other.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The events of one content, as they were committed. A content is then as fast as one request after the other.
    #[default]
    Content,
    /// The changes of one event only: events of one content may overtake each other.
    Event,
}

/// How messages look, per endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageShape {
    /// What keeps order among itself.
    pub order: Order,
    /// The profile of the event.
    pub profile: Profile,
    /// Put it into the Standard Webhooks body `{type, timestamp, uid, data}`.
    pub envelope: bool,
    /// Payload switch, and `<db>.<table>` of the event uid.
    pub render: RenderOptions,
}

/// The Standard Webhooks body, with the event uid beside its three fields.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    /// When the event happened: a fact of the event, not of the attempt.
    timestamp: String,
    uid: &'a str,
    data: &'a RawValue,
}

impl MessageShape {
    /// The message of an event.
    ///
    /// # Errors
    /// When the profile's rendering is no JSON, which would be a defect of the profile.
    pub fn message(&self, event: &EnrichedEvent) -> Result<Message, serde_json::Error> {
        let uid = event.uid(&self.render.database_table);
        Ok(Message {
            id: webhook_id(&uid, event.revision, event.operation().name()),
            body: self.body(event, &uid)?,
            key: self.order.key(event),
            committed_at: (!event.is_historical()).then_some(event.source.committed_at),
            subject: Subject::from(event),
            run: None,
        })
    }

    fn body(&self, event: &EnrichedEvent, uid: &str) -> Result<Bytes, serde_json::Error> {
        let data = self.profile.render(event, &self.render);
        if !self.envelope {
            return Ok(data.into());
        }
        let data: &RawValue = serde_json::from_slice(&data)?;
        let kind = format!("engagement_event.{}", event.operation().name());
        let timestamp = event.event_ts.to_string();
        let body = serde_json::to_vec(&Envelope {
            kind,
            timestamp,
            uid,
            data,
        })?;
        Ok(body.into())
    }
}

/// The id of a message: a hash of event uid, revision and operation, without a `.` (the signed
/// content is separated by dots).
#[must_use]
pub fn webhook_id(uid: &str, revision: u64, operation: &str) -> String {
    let digest = Sha256::digest(format!("{operation}/{revision}/{uid}"));
    let mut id = String::with_capacity(4 + 2 * ID_BYTES);
    id.push_str("msg_");
    for byte in &digest[..ID_BYTES] {
        // writing to a String cannot fail
        let _ = write!(id, "{byte:02x}");
    }
    id
}

impl Order {
    /// An event without content keeps order only with itself.
    fn key(self, event: &EnrichedEvent) -> OrderKey {
        match (self, &event.content_id) {
            (Self::Content, Some(content)) => format!("content/{content}").into(),
            _ => format!("event/{}", event.event_id).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Micros;
    use engagement::testing::{Sample, sample};
    use serde_json::Value;

    fn shape(profile: Profile, envelope: bool) -> MessageShape {
        MessageShape {
            order: Order::Content,
            profile,
            envelope,
            render: RenderOptions::default(),
        }
    }

    fn json(message: &Message) -> Value {
        serde_json::from_slice(&message.body).unwrap()
    }

    #[test]
    fn the_standard_body_carries_type_time_of_the_event_uid_and_data() {
        let message = shape(Profile::Canonical, true).message(&sample()).unwrap();
        let body = json(&message);
        assert_eq!(body["type"], "engagement_event.created");
        assert_eq!(body["timestamp"], "2026-01-08T14:21:52Z");
        assert_eq!(body["uid"], "engage.engagement_events:1001");
        assert_eq!(body["data"]["event_id"], "1001");
        assert_eq!(body["data"].get("raw_payload"), None);
    }

    #[test]
    fn without_the_envelope_the_body_is_the_profile() {
        let message = shape(Profile::PercentageNested, false)
            .message(&sample())
            .unwrap();
        assert_eq!(
            json(&message),
            Profile::PercentageNested.value(&sample(), &RenderOptions::default())
        );
    }

    #[test]
    fn the_id_is_stable_has_no_dot_and_differs_by_uid_revision_and_operation() {
        let id = |event: &EnrichedEvent| {
            shape(Profile::Canonical, true)
                .message(event)
                .map(|m| m.id)
                .unwrap()
        };
        let event = sample();
        assert_eq!(
            id(&event),
            webhook_id("engage.engagement_events:1001", 42_000, "created")
        );
        assert!(!id(&event).contains('.') && id(&event).len() == 36);
        let others = [
            Sample::new().event_id(1002).build(),
            Sample::new().at_position(0, 43).build(),
            Sample::new().deleted().build(),
            Sample::new().replacing(&event).build(),
        ];
        let mut ids: Vec<_> = others.iter().map(id).collect();
        ids.push(id(&event));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn the_id_does_not_depend_on_how_the_record_was_processed() {
        let mut later = sample();
        later.processed_at = Micros(later.processed_at.0 + 1);
        let shape = shape(Profile::Canonical, true);
        assert_eq!(
            shape.message(&sample()).unwrap().id,
            shape.message(&later).unwrap().id
        );
    }

    #[test]
    fn events_of_a_content_keep_order_if_wanted_and_the_changes_of_an_event_always_do() {
        let with = Sample::new().content_id("7").build();
        let without = Sample::new().no_content().build();
        let keys = |order: Order| [&with, &without].map(|event| order.key(event).to_string());
        assert_eq!(keys(Order::Content), ["content/7", "event/1001"]);
        assert_eq!(keys(Order::Event), ["event/1001", "event/1001"]);
    }
}
