//! The JSON of a change record, read once into cells, and its three forms made one.
//!
//! Invariant: one pass over the text, no allocation but for text with JSON escapes and for the two rarer forms.

use std::fmt;

use serde::de::DeserializeSeed;

use super::cell::Cell;
use super::fields::RawFields;
use super::object::{Object, ObjectSeed};
use super::{Reject, RejectKind};

/// The cells of the columns that were asked for, in their order.
pub(super) type Row<'a, const N: usize> = [Cell<'a>; N];

/// A change record.
pub(super) struct Raw<'a, const N: usize> {
    pub(super) op: Cell<'a>,
    pub(super) before: Option<Row<'a, N>>,
    pub(super) after: Option<Row<'a, N>>,
    pub(super) source: SourceCells<'a>,
    /// Debezium's own time, where the source has none.
    pub(super) ts_ms: Cell<'a>,
    pub(super) message_prefix: Cell<'a>,
    pub(super) payload: Option<Payload<'a, N>>,
    pub(super) flat: Option<Box<Flat<'a, N>>>,
    /// From `ExtractNewRecordState`.
    pub(super) flattened: bool,
}

/// The fields of `source` that matter here.
pub(super) struct SourceCells<'a> {
    pub(super) lsn: Cell<'a>,
    pub(super) tx_id: Cell<'a>,
    pub(super) ts_ms: Cell<'a>,
    pub(super) ts_us: Cell<'a>,
    pub(super) sequence: Cell<'a>,
}

impl SourceCells<'_> {
    const EMPTY: Self = Self {
        lsn: Cell::Missing,
        tx_id: Cell::Missing,
        ts_ms: Cell::Missing,
        ts_us: Cell::Missing,
        sequence: Cell::Missing,
    };
}

/// What stands below `payload`.
pub(super) enum Payload<'a, const N: usize> {
    Null,
    Raw(Box<Raw<'a, N>>),
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
            source: SourceCells::EMPTY,
            ts_ms: Cell::Missing,
        }
    }
}

pub(super) const fn empty_row<'a, const N: usize>() -> Row<'a, N> {
    [const { Cell::Missing }; N]
}

impl<'a, const N: usize> Raw<'a, N> {
    pub(super) const fn new() -> Self {
        Self {
            op: Cell::Missing,
            before: None,
            after: None,
            source: SourceCells::EMPTY,
            ts_ms: Cell::Missing,
            message_prefix: Cell::Missing,
            payload: None,
            flat: None,
            flattened: false,
        }
    }

    /// Reads a record's value; false for JSON's `null`, a tombstone of some converters.
    pub(super) fn parse(&mut self, text: &'a str, columns: &[Box<str>; N]) -> Result<bool, Reject> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = RawFields {
            columns,
            wrapped: false,
            raw: self,
        };
        let read = ObjectSeed::new(fields).deserialize(&mut json);
        match read.and_then(|read| json.end().map(|()| read)) {
            Ok(Object::Read) => Ok(self.settle()),
            Ok(Object::Null) => Ok(false),
            Ok(Object::Other(found)) => Err(malformed(&found)),
            Err(error) => Err(malformed(&format_args!("no JSON ({error})"))),
        }
    }

    /// Brings the wrapped and the flattened form into the plain one; false when nothing is wrapped.
    fn settle(&mut self) -> bool {
        match self.payload.take() {
            Some(Payload::Null) if self.is_wrapper() => return false,
            Some(Payload::Raw(payload)) if self.is_wrapper() => *self = *payload,
            _ => {}
        }
        if let Some(flat) = self.flat.take_if(|flat| flat.is_complete()) {
            self.unflatten(*flat);
        }
        true
    }

    /// `schema` and `payload` and nothing of a change.
    fn is_wrapper(&self) -> bool {
        self.op == Cell::Missing && !self.flat.as_ref().is_some_and(|flat| flat.is_complete())
    }

    fn unflatten(&mut self, flat: Flat<'a, N>) {
        let gone = flat.is_gone();
        self.flattened = true;
        (self.source, self.ts_ms) = (flat.source, flat.ts_ms);
        self.op = match flat.op {
            _ if gone => Cell::Text("d".into()),
            // __deleted alone does not say whether the row is new
            Cell::Missing => Cell::Text("u".into()),
            op => op,
        };
        (self.before, self.after) = if gone {
            (Some(flat.row), None)
        } else {
            (None, Some(flat.row))
        };
    }
}

impl<const N: usize> Flat<'_, N> {
    /// The underscored fields decide: a table may have columns named `op` or `payload`.
    fn is_complete(&self) -> bool {
        self.op != Cell::Missing || self.deleted != Cell::Missing
    }

    fn is_gone(&self) -> bool {
        let says = |cell: &Cell<'_>, word| matches!(cell, Cell::Text(text) if text == word);
        self.deleted == Cell::Bool(true) || says(&self.deleted, "true") || says(&self.op, "d")
    }
}

fn malformed(found: &dyn fmt::Display) -> Reject {
    let message = format!("the value is {found}, expected a JSON object of Debezium's");
    Reject::new(RejectKind::MalformedJson, message)
}
