//! Why a record is none of ours.
//!
//! Invariant: the message says which field, what was found and what would be right.

use std::fmt;

/// A record that cannot be processed; it goes to the dead letters with its original bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Reject {
    /// What is wrong, as a label with few values.
    pub kind: RejectKind,
    /// Field, found, expected.
    pub message: String,
}

impl Reject {
    /// A rejection with its full text.
    #[must_use]
    pub fn new(kind: RejectKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn wrong_type(field: &str, found: &str, expected: &str) -> Self {
        Self::new(
            RejectKind::WrongType,
            format!("{field} is {found}, expected {expected}"),
        )
    }

    pub(super) fn missing(field: &str, expected: &str) -> Self {
        Self::new(
            RejectKind::MissingField,
            format!("{field} is missing, expected {expected}"),
        )
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RejectKind {
    /// Not JSON, or not a JSON object.
    MalformedJson,
    /// A field holds another type or a value out of its range.
    WrongType,
    /// A field that is always there is not.
    MissingField,
    /// The row has no primary key.
    MissingPrimaryKey,
    /// A time before 1970 or after 2299.
    AbsurdTimestamp,
    /// An operation that is none of c r u d t m.
    UnknownOperation,
    /// The key does not carry the content's id: a setting of the connector, so the lane stops.
    WrongKey,
}

impl RejectKind {
    /// Label for metrics and dead letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::MissingPrimaryKey => "missing_primary_key",
            Self::AbsurdTimestamp => "absurd_timestamp",
            Self::UnknownOperation => "unknown_operation",
            Self::WrongKey => "wrong_key",
        }
    }
}

impl fmt::Display for RejectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
