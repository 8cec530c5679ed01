//! W3C trace context in record headers, and spans with OpenTelemetry's messaging names.
//!
//! Invariant: a header that does not parse is ignored; tracing never stops a record.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::headers::{self, Headers, TRACEPARENT, TRACESTATE};
use crate::record::Record;

/// The remote span that wrote the headers; `None` when there is none or it is malformed.
#[must_use]
pub fn extract(headers: &[(String, Option<bytes::Bytes>)]) -> Option<SpanContext> {
    let (trace, span, flags) = parse(headers::last_text(headers, TRACEPARENT)?)?;
    let state =
        headers::last_text(headers, TRACESTATE).and_then(|text| text.parse::<TraceState>().ok());
    let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.is_valid().then_some(context)
}

/// Writes the context into the headers, in place of what was there; an invalid one changes nothing.
pub fn inject(context: &SpanContext, headers: &mut Headers) {
    if !context.is_valid() {
        return;
    }
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    let parent = format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        flags.to_u8()
    );
    headers::set(headers, TRACEPARENT, parent);
    let state = context.trace_state().header();
    if !state.is_empty() {
        headers::set(headers, TRACESTATE, state);
    }
}

/// [`inject`] of a span of `tracing`; without an exporter the headers stay as they are.
pub fn inject_span(span: &Span, headers: &mut Headers) {
    inject(span.context().span().span_context(), headers);
}

/// A span for the work on one record, child of what its headers name.
///
/// Names after OpenTelemetry's messaging conventions (`messaging.system`, `messaging.destination.name`, ..).
#[must_use]
pub fn process_span(record: &Record, group: &str) -> Span {
    let span = tracing::info_span!(
        "process",
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.r#type = "process",
        messaging.destination.name = &*record.topic,
        messaging.destination.partition.id = record.partition,
        messaging.kafka.offset = record.offset,
        messaging.consumer.group.name = group,
    );
    if let Some(parent) = extract(&record.headers) {
        // only a disabled span cannot take a parent, and that one is not exported
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
    span
}

/// Links that a span may carry (the default limit of OpenTelemetry's SDKs).
const LINKS: usize = 128;

/// Makes a batch's span part of the first sampled trace that one of its records belongs to, so that it is exported with
/// it, and links it to the others: one sampled event is one trace up to each sink.
pub fn join(span: &Span, records: impl IntoIterator<Item = SpanContext>) {
    let mut sampled = records.into_iter().filter(SpanContext::is_sampled);
    if let Some(first) = sampled.next() {
        // only a disabled span cannot take a parent, and that one is not exported
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(first));
    }
    sampled.take(LINKS).for_each(|other| span.add_link(other));
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may append fields (W3C Trace Context, section 4).
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |part: &str, len: usize| {
        part.len() == len
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let shaped =
        lower_hex(version, 2) && lower_hex(trace, 32) && lower_hex(span, 16) && lower_hex(flags, 2);
    if !shaped || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    Some((
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &str, state: Option<&str>) -> Headers {
        let mut headers = vec![(
            TRACEPARENT.to_owned(),
            Some(Bytes::copy_from_slice(parent.as_bytes())),
        )];
        headers.extend(state.map(|s| {
            (
                TRACESTATE.to_owned(),
                Some(Bytes::copy_from_slice(s.as_bytes())),
            )
        }));
        headers
    }

    #[test]
    fn what_is_extracted_is_injected_unchanged() {
        let original = headers(PARENT, Some("vendor=abc"));
        let context = extract(&original).unwrap();
        assert!(context.is_remote() && context.is_sampled());
        let mut copy = headers("stale", None);
        inject(&context, &mut copy);
        assert_eq!(copy, original);
    }

    #[test]
    fn malformed_parents_are_ignored() {
        for bad in [
            "",
            "00",
            "00-0-0-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(extract(&headers(bad, None)), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_with_more_fields_is_understood() {
        assert!(
            extract(&headers(
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-ever",
                None
            ))
            .is_some()
        );
    }

    proptest! {
        #[test]
        fn no_header_panics(parent in "\\PC*", state in "\\PC*") {
            let _ = extract(&headers(&parent, Some(&state)));
        }
    }
}
