//! The headers of one attempt. Pure.
//!
//! Invariant: id and body are the message's; only timestamp and signature are of the attempt.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use stream::backfill::RUN;
use stream::headers::{Headers, TRACEPARENT, TRACESTATE, last};

use crate::endpoint::Endpoint;
use crate::message::Message;
use crate::signature::signature_header;

/// Header with the message's identity.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// Header with the second of the attempt.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Header with one signature per secret.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers of an attempt made at `now` (microseconds since 1970), in the trace that `trace` names.
#[must_use]
pub fn headers(endpoint: &Endpoint, message: &Message, now: i64, trace: &Headers) -> HeaderMap {
    let timestamp = now.div_euclid(1_000_000);
    let mut headers = endpoint.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
    let signature = signature_header(&endpoint.keys, &message.id, timestamp, &message.body);
    if let Some(run) = message.run {
        headers.insert(HeaderName::from_static(RUN), run.into());
    }
    for (name, value) in [
        (WEBHOOK_ID, Some(message.id.as_bytes())),
        (WEBHOOK_SIGNATURE, signature.as_deref().map(str::as_bytes)),
        (
            HeaderName::from_static(TRACEPARENT),
            last(trace, TRACEPARENT),
        ),
        (HeaderName::from_static(TRACESTATE), last(trace, TRACESTATE)),
    ] {
        // foreign trace headers may hold anything; what is no header value is left out
        if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointConfig;
    use bytes::Bytes;
    use engagement::testing::sample;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn endpoint() -> Endpoint {
        let config = EndpointConfig {
            name: "crm".into(),
            url: Some("https://crm.example.com/".parse().unwrap()),
            secrets: vec![SECRET.into()],
            bearer_token: Some("t0ken".into()),
            ..EndpointConfig::default()
        };
        Endpoint::judge(&config, "", "engage.engagement_events").unwrap()
    }

    #[test]
    fn an_attempt_carries_identity_time_signature_trace_and_static_headers() {
        let endpoint = endpoint();
        let message = endpoint.shape.message(&sample()).unwrap();
        let trace = vec![(
            TRACEPARENT.to_owned(),
            Some(Bytes::from_static(PARENT.as_bytes())),
        )];
        let headers = headers(&endpoint, &message, 1_767_882_112_999_999, &trace);
        let signature = signature_header(&endpoint.keys, &message.id, 1_767_882_112, &message.body);
        assert_eq!(headers["webhook-id"], message.id.as_str());
        assert_eq!(headers["webhook-timestamp"], "1767882112");
        assert_eq!(headers["webhook-signature"], signature.unwrap().as_str());
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["authorization"], "Bearer t0ken");
        assert_eq!(headers.get("tracestate"), None);
    }

    #[test]
    fn what_a_backfill_brings_names_its_run_and_what_is_live_names_none() {
        let endpoint = endpoint();
        let live = endpoint.shape.message(&sample()).unwrap();
        let past = Message {
            run: Some(1_767_882_112_123),
            ..live.clone()
        };
        let run = |message| {
            headers(&endpoint, message, 0, &Vec::new())
                .get(RUN)
                .cloned()
        };
        assert_eq!(run(&live), None);
        assert_eq!(run(&past).unwrap(), "1767882112123");
    }

    #[test]
    fn a_trace_header_that_is_no_header_value_is_left_out() {
        let endpoint = endpoint();
        let message = endpoint.shape.message(&sample()).unwrap();
        let trace = vec![(TRACESTATE.to_owned(), Some(Bytes::from_static(b"a\nb")))];
        assert_eq!(
            headers(&endpoint, &message, 0, &trace).get("tracestate"),
            None
        );
    }
}
