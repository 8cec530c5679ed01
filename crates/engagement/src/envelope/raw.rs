//! The JSON of a change record, read once into cells; its three forms are told apart afterwards.
//!
//! Invariant: one pass over the text, no allocation but for text with JSON escapes.

use std::fmt;

use serde::de::DeserializeSeed;

use super::cell::Cell;
use super::fields::TopFields;
use super::object::{Object, ObjectSeed};
use super::{Reject, RejectKind};

/// The cells of the columns that were asked for, in their order.
pub(super) type Row<'a, const N: usize> = [Cell<'a>; N];

/// A record whose form is known.
pub(super) struct Raw<'a, const N: usize> {
    pub(super) op: Cell<'a>,
    pub(super) before: Option<Row<'a, N>>,
    pub(super) after: Option<Row<'a, N>>,
    pub(super) source: SourceCells<'a>,
    /// Debezium's own time, where the source has none.
    pub(super) ts_ms: Cell<'a>,
    pub(super) message_prefix: Cell<'a>,
    /// From `ExtractNewRecordState`.
    pub(super) flattened: bool,
}

/// The fields of `source` that matter here.
#[derive(Default)]
pub(super) struct SourceCells<'a> {
    pub(super) lsn: Cell<'a>,
    pub(super) tx_id: Cell<'a>,
    pub(super) ts_ms: Cell<'a>,
    pub(super) ts_us: Cell<'a>,
    pub(super) sequence: Cell<'a>,
}

/// Reads a record's value; `None` is JSON's `null`, a tombstone of some converters.
pub(super) fn parse<'a, const N: usize>(
    text: &'a str,
    columns: &[Box<str>; N],
) -> Result<Option<Raw<'a, N>>, Reject> {
    let malformed = |found: &dyn fmt::Display| {
        Reject::new(
            RejectKind::MalformedJson,
            format!("the value is {found}, expected a JSON object of Debezium's"),
        )
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let top = ObjectSeed::new(TopFields {
        columns,
        wrapped: false,
    })
    .deserialize(&mut json);
    let top = top.and_then(|top| json.end().map(|()| top));
    let mut top = match top.map_err(|error| malformed(&format_args!("no JSON ({error})")))? {
        Object::Fields(top) => top,
        Object::Null => return Ok(None),
        Object::Other(found) => return Err(malformed(&found)),
    };
    match top.payload.take() {
        Some(Payload::Null) if top.is_wrapper() => Ok(None),
        Some(Payload::Top(payload)) if top.is_wrapper() => Ok(Some(payload.settle())),
        _ => Ok(Some(top.settle())),
    }
}

/// Everything a record may carry at its top.
pub(super) struct Top<'a, const N: usize> {
    pub(super) op: Cell<'a>,
    pub(super) before: Option<Row<'a, N>>,
    pub(super) after: Option<Row<'a, N>>,
    pub(super) source: SourceCells<'a>,
    pub(super) ts_ms: Cell<'a>,
    pub(super) message_prefix: Cell<'a>,
    pub(super) payload: Option<Payload<'a, N>>,
    pub(super) flat: Option<Flat<'a, N>>,
}

pub(super) enum Payload<'a, const N: usize> {
    Null,
    Top(Box<Top<'a, N>>),
}

impl<'a, const N: usize> Payload<'a, N> {
    pub(super) fn of(value: Object<Top<'a, N>>) -> Option<Self> {
        match value {
            Object::Fields(top) => Some(Self::Top(Box::new(top))),
            Object::Null => Some(Self::Null),
            Object::Other(_) => None,
        }
    }
}

/// The flattened form: columns at the top, the rest with two underscores.
pub(super) struct Flat<'a, const N: usize> {
    pub(super) row: Row<'a, N>,
    pub(super) op: Cell<'a>,
    pub(super) deleted: Cell<'a>,
    pub(super) source: SourceCells<'a>,
    pub(super) ts_ms: Cell<'a>,
}

impl<const N: usize> Default for Flat<'_, N> {
    fn default() -> Self {
        Self {
            row: empty_row(),
            op: Cell::Missing,
            deleted: Cell::Missing,
            source: SourceCells::default(),
            ts_ms: Cell::Missing,
        }
    }
}

pub(super) fn empty_row<'a, const N: usize>() -> Row<'a, N> {
    std::array::from_fn(|_| Cell::Missing)
}

impl<'a, const N: usize> Top<'a, N> {
    pub(super) const fn new() -> Self {
        Self {
            op: Cell::Missing,
            before: None,
            after: None,
            source: SourceCells {
                lsn: Cell::Missing,
                tx_id: Cell::Missing,
                ts_ms: Cell::Missing,
                ts_us: Cell::Missing,
                sequence: Cell::Missing,
            },
            ts_ms: Cell::Missing,
            message_prefix: Cell::Missing,
            payload: None,
            flat: None,
        }
    }

    /// `schema` and `payload` and nothing of an envelope.
    fn is_wrapper(&self) -> bool {
        self.op == Cell::Missing && !self.is_flattened()
    }

    /// The underscored fields decide: a table may have columns named `op` or `payload`.
    fn is_flattened(&self) -> bool {
        self.flat
            .as_ref()
            .is_some_and(|flat| flat.op != Cell::Missing || flat.deleted != Cell::Missing)
    }

    fn settle(self) -> Raw<'a, N> {
        if !self.is_flattened() {
            let Self {
                op,
                before,
                after,
                source,
                ts_ms,
                message_prefix,
                ..
            } = self;
            return Raw {
                op,
                before,
                after,
                source,
                ts_ms,
                message_prefix,
                flattened: false,
            };
        }
        let Flat {
            row,
            op,
            deleted,
            source,
            ts_ms,
        } = self.flat.unwrap_or_default();
        let gone = matches!(&deleted, Cell::Bool(true))
            || matches!(&deleted, Cell::Text(text) if text == "true");
        let op = match op {
            _ if gone => Cell::Text("d".into()),
            // __deleted alone does not say whether the row is new
            Cell::Missing => Cell::Text("u".into()),
            op => op,
        };
        let (before, after) = if gone || is_delete(&op) {
            (Some(row), None)
        } else {
            (None, Some(row))
        };
        Raw {
            op,
            before,
            after,
            source,
            ts_ms,
            message_prefix: Cell::Missing,
            flattened: true,
        }
    }
}

fn is_delete(op: &Cell<'_>) -> bool {
    matches!(op, Cell::Text(text) if text == "d")
}
