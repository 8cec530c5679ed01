//! From a record of the enriched topic to the event it carries. Pure.
//!
//! Invariant: whatever the bytes are, the answer is an event or a reason.

use engagement::event::EnrichedEvent;
use engagement::wire::{self, DecodeError, Format};
use stream::Record;
use stream::headers::{CONTENT_TYPE, last_text};

/// Why a record is no event.
#[derive(Debug, thiserror::Error)]
pub enum Poison {
    /// A tombstone, or a record of somebody else.
    #[error("the record has no value")]
    Empty,
    /// A format that no version of ours writes.
    #[error("content-type {0:?} is neither application/x-protobuf nor application/json")]
    ContentType(String),
    /// Not an event.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
}

/// The event of a record; Protobuf where no header says otherwise.
///
/// # Errors
/// [`Poison`]: it will never be one.
pub fn decode(record: &Record) -> Result<EnrichedEvent, Poison> {
    let payload = record.payload.as_deref().ok_or(Poison::Empty)?;
    let format = match last_text(&record.headers, CONTENT_TYPE) {
        None => Format::default(),
        Some(name) => Format::from_content_type(name)
            .ok_or_else(|| Poison::ContentType(name.chars().take(80).collect()))?,
    };
    Ok(wire::decode(payload, format)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use engagement::testing::sample;

    use super::*;

    fn record(payload: Option<Vec<u8>>, content_type: Option<&str>) -> Record {
        let text = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let headers = content_type.map(|name| (CONTENT_TYPE.to_owned(), text(name)));
        Record {
            topic: Arc::from("t"),
            partition: 3,
            offset: 9,
            timestamp_ms: None,
            key: None,
            payload: payload.map(Bytes::from),
            headers: headers.into_iter().collect(),
        }
    }

    #[test]
    fn both_formats_are_read_by_their_header_and_protobuf_without_one() {
        let protobuf = wire::encode(&sample(), Format::Protobuf);
        let json = wire::encode(&sample(), Format::Json);
        for (payload, content_type) in [
            (protobuf.clone(), None),
            (protobuf, Some("application/x-protobuf")),
            (json, Some("application/json; charset=utf-8")),
        ] {
            assert_eq!(
                decode(&record(Some(payload), content_type)).unwrap(),
                sample(),
                "{content_type:?}"
            );
        }
    }

    #[test]
    fn anything_else_is_poison_with_a_reason() {
        let poison = [
            (record(None, None), "no value"),
            (record(Some(b"garbage".to_vec()), None), "Protobuf"),
            (
                record(Some(b"{}".to_vec()), Some("application/json")),
                "JSON",
            ),
            (
                record(Some(b"{}".to_vec()), Some("text/plain")),
                "text/plain",
            ),
        ];
        for (record, expected) in poison {
            let error = decode(&record).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
