//! The receiver's part of a delivery's trace.
//!
//! Invariant: only a delivery that says it is traced has a span here.

use axum::http::{HeaderMap, StatusCode};
use service::traces::{KeyValue, NewSpan, SpanContext, SpanKind, Traces};
use stream::headers::TRACEPARENT;
use stream::trace;

/// A delivery that began at `began` (microseconds since 1970) was answered.
pub(super) fn received(headers: &HeaderMap, route: &str, began: i64, status: StatusCode) {
    if let Some(traces) = Traces::installed() {
        let now = service::clock::now();
        note(traces, headers, route, (began, now), status);
    }
}

fn note(
    traces: &Traces,
    headers: &HeaderMap,
    route: &str,
    (began, now): (i64, i64),
    status: StatusCode,
) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let parent = text(TRACEPARENT).and_then(trace::from_traceparent);
    let Some(parent) = parent.filter(SpanContext::is_sampled) else {
        return;
    };
    let id = text("webhook-id").unwrap_or_default();
    let span = NewSpan::new(format!("POST {route}"), SpanKind::Server, began)
        .below(&parent)
        .with([
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
            KeyValue::new("engage.webhook.id", id.to_owned()),
        ]);
    let mut span = traces.start(span);
    if status.is_server_error() {
        span.fail("server_error");
    }
    span.end(now);
}

#[cfg(test)]
mod tests {
    use service::config::Sampler;
    use service::traces::testing;

    use super::*;

    #[test]
    fn a_traced_delivery_gets_a_span_below_its_attempt_and_another_gets_none() {
        let (traces, finished) = testing::traces(Sampler::ParentAlwaysOff);
        for flag in ["00", "01"] {
            let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flag}");
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, parent.parse().unwrap());
            note(
                traces.unwrap(),
                &headers,
                "/webhook",
                (5, 9),
                StatusCode::OK,
            );
        }
        let [span] = finished.spans().try_into().unwrap();
        assert_eq!(span.name, "POST /webhook");
        assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    }
}
