//! One JSON value of a row, and what it may become.
//!
//! Invariant: nothing is rounded: a number that does not fit is refused, not approximated.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Reject, RejectKind, TimeUnit};
use crate::event::Micros;

/// What Debezium writes for a TOASTed column that did not change (`unavailable.value.placeholder`).
const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// 2300-01-01T00:00:00Z in microseconds.
const LATEST: i64 = 10_413_792_000_000_000;

/// A JSON value; text is borrowed unless JSON escapes it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Cell<'a> {
    #[default]
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// An object or an array.
    Composite,
}

impl<'a> Cell<'a> {
    pub(super) fn is_placeholder(&self) -> bool {
        matches!(self, Self::Text(text) if text == PLACEHOLDER)
    }

    /// `None` for NULL and for a column that is not there.
    pub(super) fn text(self, field: &str) -> Result<Option<Cow<'a, str>>, Reject> {
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            other => Err(other.refuse(field, "text")),
        }
    }

    /// A key: text as it is, integers in decimal.
    pub(super) fn id(self, field: &str) -> Result<Option<Cow<'a, str>>, Reject> {
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Int(number) => Ok(Some(Cow::Owned(number.to_string()))),
            Self::Uint(number) => Ok(Some(Cow::Owned(number.to_string()))),
            other => Err(other.refuse(field, "an integer or text")),
        }
    }

    /// Integers as numbers, as text (`decimal.handling.mode=string`) or as floats without a fraction (`double`).
    pub(super) fn integer(self, field: &str) -> Result<Option<i64>, Reject> {
        const EXPECTED: &str =
            "a 64-bit integer (NUMERIC columns need decimal.handling.mode=string)";
        match &self {
            Self::Missing | Self::Null => return Ok(None),
            Self::Int(number) => return Ok(Some(*number)),
            Self::Text(text) => {
                if let Some(number) = integer_in(text) {
                    return Ok(Some(number));
                }
            }
            // the integers that an f64 holds exactly
            Self::Float(x) if x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0 => {
                return Ok(Some(*x as i64));
            }
            _ => {}
        }
        Err(self.refuse(field, EXPECTED))
    }

    pub(super) fn unsigned(self, field: &str) -> Result<Option<u64>, Reject> {
        let number = self.integer(field)?;
        let unsigned = number.map(u64::try_from).transpose();
        unsigned.map_err(|_| {
            Self::Int(number.unwrap_or(0)).refuse(field, "a number that is not negative")
        })
    }

    /// ISO 8601 text (no zone = UTC) or a number since 1970; refused before 1970 and after 2299.
    pub(super) fn time(self, field: &str, unit: TimeUnit) -> Result<Option<Micros>, Reject> {
        let at = match &self {
            Self::Missing | Self::Null => return Ok(None),
            Self::Text(text) => text.parse().ok(),
            Self::Int(number) => Some(from_number(*number, unit)),
            _ => None,
        };
        let Some(at) = at else {
            return Err(self.refuse(
                field,
                "ISO 8601 such as 2026-01-08T14:21:52Z, or a number since 1970",
            ));
        };
        if (0..LATEST).contains(&at.0) {
            return Ok(Some(at));
        }
        let found = self.describe();
        Err(Reject::new(
            RejectKind::AbsurdTimestamp,
            format!("{field} is {found}, expected a time from 1970 to 2299"),
        ))
    }

    fn refuse(&self, field: &str, expected: &str) -> Reject {
        Reject::wrong_type(field, &self.describe(), expected)
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Missing => "missing".into(),
            Self::Null => "null".into(),
            Self::Bool(flag) => format!("the boolean {flag}"),
            Self::Int(number) => format!("the number {number}"),
            Self::Uint(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Text(text) => format!("the text {:?}", text.chars().take(60).collect::<String>()),
            Self::Composite => "an object or array".into(),
        }
    }
}

/// `7000`, `-3`, `7000.00`: NUMERIC as text; digits after the point must be zero.
fn integer_in(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    fraction
        .bytes()
        .all(|digit| digit == b'0')
        .then(|| whole.parse().ok())
        .flatten()
}

const fn from_number(number: i64, unit: TimeUnit) -> Micros {
    match unit {
        TimeUnit::Millis => Micros::from_millis(number),
        TimeUnit::Micros => Micros(number),
        TimeUnit::Auto if number < 11_000_000_000_000 => Micros::from_millis(number),
        TimeUnit::Auto if number < 11_000_000_000_000_000 => Micros(number),
        TimeUnit::Nanos | TimeUnit::Auto => Micros(number.div_euclid(1000)),
    }
}

/// Reads any JSON value as a [`Cell`].
#[derive(Clone, Copy)]
pub(super) struct CellSeed;

impl<'de> DeserializeSeed<'de> for CellSeed {
    type Value = Cell<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Cell<'de>, E> {
        Ok(i64::try_from(number).map_or(Cell::Uint(number), Cell::Int))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Composite)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Cell<'de>, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Composite)
    }
}
