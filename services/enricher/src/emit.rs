//! An enriched event as a record of the output.
//!
//! Invariant: key and headers say the same as the body: content id, position, format.

use std::sync::Arc;

use bytes::Bytes;
use engagement::event::EnrichedEvent;
use engagement::wire::{self, Format};
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE, Headers, TRACEPARENT, TRACESTATE};
use stream::{OutRecord, Record};

/// The record; topic and partition are filled in by the producer's lane.
pub(crate) fn record(source: &Record, event: &EnrichedEvent, format: Format) -> OutRecord {
    let mut headers = Headers::with_capacity(4);
    let position = Bytes::from(event.source.position().to_string());
    headers.push((ENGAGEMENT_SOURCE.to_owned(), Some(position)));
    headers.push((
        CONTENT_TYPE.to_owned(),
        Some(Bytes::from_static(format.content_type().as_bytes())),
    ));
    let traced = source
        .headers
        .iter()
        .filter(|(name, _)| name == TRACEPARENT || name == TRACESTATE);
    headers.extend(traced.cloned());
    OutRecord {
        topic: Arc::clone(&source.topic),
        partition: Some(source.partition),
        key: event
            .content_id
            .as_ref()
            .map(|id| Bytes::copy_from_slice(id.as_bytes())),
        payload: Some(Bytes::from(wire::encode(event, format))),
        headers,
        timestamp_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;
    use stream::headers::last_text;

    use super::*;

    fn source(headers: Headers) -> Record {
        let topic = Arc::from("cdc.public.engagement_events");
        Record {
            topic,
            partition: 3,
            offset: 42,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers,
        }
    }

    #[test]
    fn key_and_headers_say_what_the_body_says() {
        let event = Sample::new().at_position(3, 42).content_id("7").build();
        let out = record(&source(Vec::new()), &event, Format::Json);
        assert_eq!(out.key.as_deref(), Some(&b"7"[..]));
        assert_eq!(
            last_text(&out.headers, ENGAGEMENT_SOURCE),
            Some("live/0/3/42")
        );
        assert_eq!(
            last_text(&out.headers, CONTENT_TYPE),
            Some("application/json")
        );
        assert_eq!(
            wire::decode(&out.payload.unwrap(), Format::Json).unwrap(),
            event
        );
    }

    #[test]
    fn an_event_without_content_has_no_key() {
        let out = record(
            &source(Vec::new()),
            &Sample::new().no_content().build(),
            Format::Protobuf,
        );
        assert_eq!(out.key, None);
    }

    #[test]
    fn trace_headers_travel_on_and_others_do_not() {
        let headers = vec![
            (TRACEPARENT.to_owned(), Some(Bytes::from_static(b"x"))),
            ("other".to_owned(), None),
        ];
        let out = record(&source(headers), &Sample::new().build(), Format::Protobuf);
        assert_eq!(last_text(&out.headers, TRACEPARENT), Some("x"));
        assert_eq!(out.headers.len(), 3);
    }
}
