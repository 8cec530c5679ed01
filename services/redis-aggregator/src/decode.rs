//! A record of the enriched topic becomes an event, or a reason why it cannot.
//!
//! Invariant: a record that is not counted keeps its place in the chain whenever its position can be read.

use engagement::event::{EnrichedEvent, Position};
use engagement::wire::{self, Format};
use stream::Record;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE, last_text};

use crate::sums::{MAX_DURATION_MS, is_summable};

/// Why a record cannot be counted; it goes to the dead letters.
#[derive(Debug, thiserror::Error)]
pub enum Poison {
    /// A null value; the enriched topic has none.
    #[error("the record has no value; an enriched event is expected")]
    Empty,
    /// The bytes are no enriched event.
    #[error(transparent)]
    Malformed(#[from] wire::DecodeError),
    /// The duration cannot be summed exactly.
    #[error("duration_ms is {0}; sums are exact for at most {MAX_DURATION_MS} either way")]
    Duration(i64),
    /// The event stands in another partition than its source says.
    #[error(
        "the record says partition {0} of the change topic, but stands in another of the enriched topic"
    )]
    Partition(i32),
}

impl Poison {
    /// The reason in metrics and in the dead letter.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Malformed(_) => "malformed",
            Self::Duration(_) => "duration",
            Self::Partition(_) => "partition",
        }
    }
}

/// Reads the event.
///
/// # Errors
/// It is no enriched event, or one that cannot be counted.
pub fn decode(record: &Record) -> Result<EnrichedEvent, Poison> {
    let payload = record.payload.as_deref().ok_or(Poison::Empty)?;
    let event = wire::decode(payload, format_of(record, payload))?;
    if event.source.partition != record.partition {
        return Err(Poison::Partition(event.source.partition));
    }
    Ok(event)
}

/// A duration that cannot be summed. Such an event still takes away what it replaces, so it is passed on to the batch
/// (which adds nothing for it) and to the dead letters.
///
/// # Errors
/// The duration is beyond the bound.
pub fn check_duration(event: &EnrichedEvent) -> Result<(), Poison> {
    match event.duration_ms {
        Some(ms) if !is_summable(event.duration_ms) => Err(Poison::Duration(ms)),
        _ => Ok(()),
    }
}

/// The source position that a record carries in its header.
#[must_use]
pub fn header_position(record: &Record) -> Option<Position> {
    last_text(&record.headers, ENGAGEMENT_SOURCE)?.parse().ok()
}

/// By the header; without one, JSON begins with a brace, which no Protobuf event does.
fn format_of(record: &Record, payload: &[u8]) -> Format {
    last_text(&record.headers, CONTENT_TYPE)
        .and_then(Format::from_content_type)
        .unwrap_or(if payload.first() == Some(&b'{') {
            Format::Json
        } else {
            Format::Protobuf
        })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::{Sample, sample};

    use super::*;

    fn record(payload: Option<Vec<u8>>) -> Record {
        Record {
            topic: "engagement.enriched.v1".into(),
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            payload: payload.map(Bytes::from),
            headers: vec![(
                ENGAGEMENT_SOURCE.into(),
                Some(Bytes::from_static(b"live/0/0/42")),
            )],
        }
    }

    #[test]
    fn both_formats_are_read_with_and_without_a_content_type() {
        for format in [Format::Protobuf, Format::Json] {
            let mut record = record(Some(wire::encode(&sample(), format)));
            assert_eq!(decode(&record).unwrap(), sample());
            record
                .headers
                .push((CONTENT_TYPE.into(), Some(format.content_type().into())));
            assert_eq!(decode(&record).unwrap(), sample());
        }
    }

    #[test]
    fn what_cannot_be_counted_says_why_and_keeps_its_place() {
        let absurd = Sample::new().duration_ms(i64::MIN).build();
        let elsewhere = Sample::new().at_position(5, 1).build();
        for (payload, kind) in [
            (None, "empty"),
            (Some(b"\xff\xff".to_vec()), "malformed"),
            (Some(wire::encode(&absurd, Format::Protobuf)), "duration"),
            (
                Some(wire::encode(&elsewhere, Format::Protobuf)),
                "partition",
            ),
        ] {
            let record = record(payload);
            let decoded = decode(&record).and_then(|event| check_duration(&event));
            assert_eq!(decoded.unwrap_err().kind(), kind);
            assert_eq!(header_position(&record).unwrap().offset, 42);
        }
    }
}
