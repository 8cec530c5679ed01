//! Enriched events as bytes of either format, and everything that is made of an event.
//!
//! Invariant: an event that was read can be written, and reads back as itself.

use clickhouse_sink::row::{EventIdType, Row};
use engagement::event::EnrichedEvent;
use engagement::profile::{Profile, RenderOptions};
use engagement::wire::{Format, decode, encode};

const FORMATS: [Format; 2] = [Format::Protobuf, Format::Json];

pub(crate) fn run(data: &[u8]) {
    for format in FORMATS {
        match decode(data, format) {
            Ok(event) => survives(&event),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Both formats, every profile, every kind of row.
pub(crate) fn survives(event: &EnrichedEvent) {
    for format in FORMATS {
        let bytes = encode(event, format);
        match decode(&bytes, format) {
            Ok(again) => assert_eq!(&again, event, "{format:?}"),
            Err(error) => panic!("{event:?} as {format:?} cannot be read: {error}"),
        }
    }
    for raw_payload in [true, false] {
        let options = RenderOptions {
            raw_payload,
            ..RenderOptions::default()
        };
        for profile in Profile::ALL {
            let json = profile.render(event, &options);
            let value: Result<serde_json::Value, _> = serde_json::from_slice(&json);
            assert!(value.is_ok(), "{profile} renders {json:?}");
        }
    }
    for id_type in [EventIdType::Int64, EventIdType::Uuid, EventIdType::String] {
        if let Ok(row) = Row::of(event, id_type) {
            assert!(row.bytes().starts_with(row.key()));
            assert!(row.key().starts_with(row.id()));
        }
    }
}
