//! The enriched event as bytes: Protobuf, or the canonical profile as JSON.
//!
//! Invariant: `decode(encode(event))` is `event`, in both formats.

mod json;
mod protobuf;

use crate::event::EnrichedEvent;
use crate::profile::{Profile, RenderOptions};

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Format {
    /// `engagement.v1.EnrichedEvent` of `proto/engagement/v1/event.proto`.
    #[default]
    Protobuf,
    /// The canonical profile.
    Json,
}

impl Format {
    /// The value of the `content-type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// The format of a `content-type` header (parameters such as `; charset=utf-8` are ignored).
    #[must_use]
    pub fn from_content_type(value: &str) -> Option<Self> {
        let essence = value.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|format| essence.eq_ignore_ascii_case(format.content_type()))
    }
}

impl std::str::FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "protobuf" => Ok(Self::Protobuf),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// A name that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: protobuf or json")]
pub struct UnknownFormat(String);

/// Writes an event.
#[must_use]
pub fn encode(event: &EnrichedEvent, format: Format) -> Vec<u8> {
    match format {
        Format::Protobuf => protobuf::encode(event),
        Format::Json => Profile::Canonical.render(event, &RenderOptions::complete()),
    }
}

/// Reads an event.
///
/// # Errors
/// The bytes are not of this format, a field that every event has is missing, or an enumeration carries a value
/// that this version does not know (unknown anomalies are dropped instead: they say nothing about the rest).
pub fn decode(bytes: &[u8], format: Format) -> Result<EnrichedEvent, DecodeError> {
    match format {
        Format::Protobuf => protobuf::decode(bytes),
        Format::Json => json::decode(bytes),
    }
}

/// Why bytes are no enriched event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a Protobuf message of this type.
    #[error("the record is no engagement.v1.EnrichedEvent in Protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Not a JSON object of this shape.
    #[error("the record is no enriched event in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that every event has is missing.
    #[error("field {0} is missing; every enriched event has it")]
    Missing(&'static str),
    /// A field holds a value that does not fit.
    #[error("field {field} holds {found}, expected {expected}")]
    Invalid {
        /// Name of the field, dotted.
        field: &'static str,
        /// What was found.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
}

#[cfg(test)]
mod tests;
