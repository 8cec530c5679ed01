//! Writes `engagement.v1.EnrichedEvent` straight from the event, without an owned copy of its texts.
//!
//! Invariant: the bytes are those of the generated code (a property test compares), fields in the order of their
//! numbers, defaults left out.

use super::enums;
use crate::event::{EnrichedEvent, Micros, Previous, Source};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

pub(super) fn event(event: &EnrichedEvent) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(capacity(event)));
    out.text(1, &event.event_id);
    out.optional_text(2, event.content_id.as_deref());
    out.optional_text(3, event.user_id.as_deref());
    out.text(4, &event.event_type);
    out.optional_text(5, event.device.as_deref());
    out.optional_text(6, event.content_type.as_deref());
    out.timestamp(7, event.event_ts);
    out.timestamp(8, event.processed_at);
    if let Some(at) = event.publish_ts {
        out.timestamp(9, at);
    }
    out.optional_integer(10, event.duration_ms);
    out.optional_integer(11, event.length_seconds);
    out.double(12, event.engagement_seconds());
    let ratio = event.ratio_e4();
    out.double(13, ratio.map(|n| crate::event::decimal(n, 1e4)));
    out.double(14, ratio.map(|n| crate::event::decimal(n, 1e2)));
    out.optional_text(15, event.content_title.as_deref());
    out.optional_text(16, event.content_slug.as_deref());
    out.optional_text(17, event.raw_payload.as_deref());
    out.enumeration(18, enums::status(event.enrichment_status).into());
    out.enumeration(19, enums::origin(event.origin).into());
    out.integer(20, event.revision);
    out.integer(21, u64::from(event.deleted));
    out.integer(22, u64::from(event.moved));
    if let Some(before) = &event.previous {
        out.message(23, &previous(before));
    }
    let mut codes = Writer(Vec::new());
    for anomaly in &event.anomalies {
        codes.varint(i32::from(enums::anomaly(*anomaly)).unsigned_abs().into());
    }
    if !codes.0.is_empty() {
        out.message(24, &codes.0);
    }
    out.nested(25, |out| source(out, &event.source));
    out.0
}

/// Enough for the texts and for everything else at its longest.
fn capacity(event: &EnrichedEvent) -> usize {
    let texts = [
        event.content_id.as_deref(),
        event.user_id.as_deref(),
        event.device.as_deref(),
        event.content_type.as_deref(),
        event.content_title.as_deref(),
        event.content_slug.as_deref(),
        event.raw_payload.as_deref(),
    ];
    let texts: usize = texts.iter().flatten().map(|text| text.len()).sum();
    300 + event.event_id.len() + event.event_type.len() + texts
}

fn previous(previous: &Previous) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(128));
    out.text(1, &previous.event_id);
    out.timestamp(2, previous.event_ts);
    out.optional_text(3, previous.content_id.as_deref());
    out.text(4, &previous.event_type);
    out.optional_integer(5, previous.duration_ms);
    out.0
}

fn source(out: &mut Writer, source: &Source) {
    out.enumeration(1, enums::lane(source.lane).into());
    out.integer(2, u64::from(source.epoch));
    out.integer(3, i64::from(source.partition).cast_unsigned());
    out.integer(4, source.offset.cast_unsigned());
    out.integer(5, source.prev.cast_unsigned());
    out.integer(6, source.commit_lsn);
    out.integer(7, source.lsn);
    out.optional_integer(8, source.tx_id);
    out.timestamp(9, source.committed_at);
    out.integer(10, u64::from(source.snapshot));
}

struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn tag(&mut self, field: u32, kind: u32) {
        match u8::try_from((field << 3) | kind) {
            Ok(tag) if tag < 0x80 => self.0.push(tag),
            _ => self.varint(u64::from((field << 3) | kind)),
        }
    }

    /// A field without presence: zero is left out.
    fn integer(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            self.varint(value);
        }
    }

    fn optional_integer(&mut self, field: u32, value: Option<i64>) {
        if let Some(value) = value {
            self.tag(field, VARINT);
            self.varint(value.cast_unsigned());
        }
    }

    fn enumeration(&mut self, field: u32, value: i32) {
        self.integer(field, i64::from(value).cast_unsigned());
    }

    fn double(&mut self, field: u32, value: Option<f64>) {
        if let Some(value) = value {
            self.tag(field, FIXED64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A field without presence: empty is left out.
    fn text(&mut self, field: u32, text: &str) {
        self.optional_text(field, Some(text).filter(|text| !text.is_empty()));
    }

    fn optional_text(&mut self, field: u32, text: Option<&str>) {
        if let Some(text) = text {
            self.message(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A message of at most 127 bytes, so that its length is one byte that can be filled in afterwards.
    fn nested(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.tag(field, BYTES);
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - at - 1;
        debug_assert!(length < 0x80, "numbers only, and few of them");
        self.0[at] = u8::try_from(length).unwrap_or(u8::MAX);
    }

    /// `google.protobuf.Timestamp`.
    fn timestamp(&mut self, field: u32, at: Micros) {
        self.nested(field, |out| {
            out.integer(1, at.seconds().cast_unsigned());
            out.integer(2, at.0.rem_euclid(1_000_000).unsigned_abs() * 1000);
        });
    }
}
