//! W3C trace context in record headers, and spans with OpenTelemetry's messaging names.
//!
//! Invariant: a header that does not parse is ignored; tracing never stops a record.

mod late;
mod letter;
mod names;
mod watched;

use engagement::event::{EnrichedEvent, Micros, Origin, Position};
use service::traces::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub use late::{PROMISE_MICROS, late_root};
pub(crate) use letter::LetterSpans;
pub use names::{Operation, of_record};
pub use watched::Watched;

use crate::headers::{self, Headers, TRACEPARENT, TRACESTATE};
use crate::record::Record;

/// What a trace says of the event it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its key as text.
    pub event_id: String,
    /// The change it was made from.
    pub position: Position,
    /// When that was committed.
    pub committed_at: Micros,
    /// It came as it happened: only such an event can be late.
    pub live: bool,
}

impl From<&EnrichedEvent> for Subject {
    fn from(event: &EnrichedEvent) -> Self {
        Self {
            event_id: event.event_id.clone(),
            position: event.source.position(),
            committed_at: event.source.committed_at,
            live: event.origin == Origin::Stream,
        }
    }
}

/// The trace of the change at this position: every process that knows the event finds the same one, also for an event whose
/// records carry none.
#[must_use]
pub fn trace_id(position: Position, committed_at: Micros) -> TraceId {
    let Position {
        lane,
        epoch,
        partition,
        offset,
    } = position;
    let chain = (lane as u64) << 48 | u64::from(epoch) << 40 | u64::from(partition.cast_unsigned());
    let parts = [
        chain,
        offset.cast_unsigned(),
        committed_at.0.cast_unsigned(),
    ];
    hashed(parts)
}

/// The trace of a record of which nothing is known but where it lies.
pub(crate) fn trace_id_of_record(record: &Record) -> TraceId {
    let topic = record
        .topic
        .bytes()
        .fold(0_u64, |hash, byte| mix(hash ^ u64::from(byte)));
    let written = record.timestamp_ms.unwrap_or_default().cast_unsigned();
    let place = record.offset.cast_unsigned() ^ u64::from(record.partition.cast_unsigned()) << 40;
    hashed([topic, place, written])
}

/// 128 bits that are spread evenly, so that a share of the ids is a share of the events.
fn hashed(parts: [u64; 3]) -> TraceId {
    let fold = |seed: u64| parts.iter().fold(seed, |hash, part| mix(hash ^ part));
    let (high, low) = (fold(0x656e_6761_6765), fold(0x0074_7261_6365));
    // all zeros is no valid id
    TraceId::from(u128::from(high) << 64 | u128::from(low.max(1)))
}

/// The finaliser of splitmix64.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

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
    headers::set(headers, TRACEPARENT, traceparent(context));
    let state = context.trace_state().header();
    if !state.is_empty() {
        headers::set(headers, TRACESTATE, state);
    }
}

/// The value of the header that names this span.
#[must_use]
pub fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        flags.to_u8()
    )
}

/// The span that such a value names; `None` where it is malformed.
#[must_use]
pub fn from_traceparent(text: &str) -> Option<SpanContext> {
    let (trace, span, flags) = parse(text)?;
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
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

    #[test]
    fn the_trace_of_a_change_is_its_own_and_always_the_same() {
        let at = |partition, offset, committed| {
            let position = Position {
                lane: engagement::event::Lane::Live,
                epoch: 0,
                partition,
                offset,
            };
            trace_id(position, Micros(committed))
        };
        assert_eq!(at(3, 42, 7), at(3, 42, 7));
        let others = [at(3, 43, 7), at(4, 42, 7), at(3, 42, 8)];
        assert!(others.iter().all(|other| *other != at(3, 42, 7)));
        let low_half = (0..4000)
            .filter(|n| at(1, *n, 9).to_bytes()[8] < 128)
            .count();
        assert!((1800..2200).contains(&low_half), "{low_half} of 4000");
    }

    proptest! {
        #[test]
        fn no_header_panics(parent in "\\PC*", state in "\\PC*") {
            let _ = extract(&headers(&parent, Some(&state)));
        }
    }
}
