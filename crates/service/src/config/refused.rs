//! Why a value was refused, kept as data until it is told.
//! Invariant: what was expected is kept apart from the message, so that a secret's value can be left out.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::value::Path;

/// Why a value was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) path: Option<Path>,
    pub(super) message: String,
    pub(super) kind: Kind,
}

/// What kind of refusal it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another type or range was expected.
    Expected(String),
    /// A choice that does not exist.
    Choice(String, &'static [&'static str]),
    /// A required key is missing.
    Missing(&'static str),
    /// Anything else; the message says it.
    Other,
}

impl Refused {
    /// Names the place, unless a deeper one is named already.
    pub(super) fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }

    fn new(message: String, kind: Kind) -> Self {
        Self {
            path: None,
            message,
            kind,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), Kind::Other)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(
            format!("{unexpected} does not fit"),
            Kind::Expected(expected.to_string()),
        )
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(
            format!("{unexpected} does not fit"),
            Kind::Expected(expected.to_string()),
        )
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(
            format!("there is no choice `{variant}`"),
            Kind::Choice(variant.to_owned(), expected),
        )
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"), Kind::Missing(field))
    }
}
