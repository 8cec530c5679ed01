//! The shapes in which events leave for readers with different expectations (one golden file each).
//!
//! Invariant: every figure is rounded once, from integers, so all profiles agree on an event.

pub(crate) mod canonical;
mod legacy;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use canonical::Canonical;

use crate::event::EnrichedEvent;

/// An output shape. Names in configuration are those of `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Profile {
    /// `canonical`: all fields, RFC 3339 times.
    #[default]
    Canonical,
    /// `ratio4`: `engagement_pct` is the ratio with four places.
    Ratio4,
    /// `ratio2`: `engagement_pct` is the ratio with two places; integer-like ids are numbers.
    Ratio2,
    /// `percent2`: `engagement_pct` is the percentage with two places; with title, slug, publication and payload.
    Percent2,
    /// `percentage`: `engagement_percentage`, flat.
    Percentage,
    /// `percentage-nested`: the same, content and derived fields under `metadata`.
    PercentageNested,
    /// `cloudevents`: CloudEvents 1.0, structured mode, around `canonical`.
    Cloudevents,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 7] = [
        Self::Canonical,
        Self::Ratio4,
        Self::Ratio2,
        Self::Percent2,
        Self::Percentage,
        Self::PercentageNested,
        Self::Cloudevents,
    ];

    /// The name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Ratio4 => "ratio4",
            Self::Ratio2 => "ratio2",
            Self::Percent2 => "percent2",
            Self::Percentage => "percentage",
            Self::PercentageNested => "percentage-nested",
            Self::Cloudevents => "cloudevents",
        }
    }

    /// The event as JSON text, fields in the order of the contract.
    #[must_use]
    pub fn render(self, event: &EnrichedEvent, options: &RenderOptions) -> Vec<u8> {
        match self {
            Self::Canonical => bytes(&Canonical::of(event, options)),
            Self::Ratio4 => bytes(&legacy::Ratio4::of(event)),
            Self::Ratio2 => bytes(&legacy::Ratio2::of(event)),
            Self::Percent2 => bytes(&legacy::Percent2::of(event, options)),
            Self::Percentage => bytes(&legacy::Percentage::of(event)),
            Self::PercentageNested => bytes(&legacy::Nested::of(event)),
            Self::Cloudevents => bytes(&canonical::CloudEvent::of(event, options)),
        }
    }

    /// The event as a JSON value, for embedding in a larger body.
    #[must_use]
    pub fn value(self, event: &EnrichedEvent, options: &RenderOptions) -> Value {
        serde_json::from_slice(&self.render(event, options)).unwrap_or(Value::Null)
    }
}

fn bytes(shape: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(768);
    let written = serde_json::to_writer(&mut out, shape);
    debug_assert!(written.is_ok(), "plain structures always serialize");
    out
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

impl<'de> serde::Deserialize<'de> for Profile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Profile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A name that is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown profile {0:?}: canonical, ratio4, ratio2, percent2, percentage, percentage-nested or cloudevents"
)]
pub struct UnknownProfile(String);

/// What a rendering includes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderOptions {
    /// Include `raw_payload` (canonical, percent2, cloudevents); it may hold personal data. Off by default.
    pub raw_payload: bool,
    /// `<db>.<table>`, the first half of the event uid (cloudevents).
    pub database_table: String,
}

impl RenderOptions {
    /// Everything, as on the wire.
    #[must_use]
    pub fn complete() -> Self {
        Self {
            raw_payload: true,
            ..Self::default()
        }
    }
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            raw_payload: false,
            database_table: "engage.engagement_events".into(),
        }
    }
}

#[cfg(test)]
mod tests;
