//! Change records, bytes in, typed values out.
//!
//! Three forms are told apart by their content: Debezium's envelope plain, the same under `schema`/`payload`
//! (`schemas.enable=true`), and flattened (`ExtractNewRecordState`). Columns that are not asked for are skipped.
//! Invariant: any bytes give a value or a [`Reject`] that says field, found and expected; never a panic.

mod cell;
mod content;
mod event;
mod fields;
mod key;
mod meta;
mod object;
mod raw;
mod reject;

use std::borrow::Cow;

pub use content::{ContentChange, Toast};
pub use event::EventRow;
pub use meta::{Meta, Op};
pub use reject::{Reject, RejectKind};

/// Names of the key columns and the meaning of numeric times.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableSchema {
    /// Primary key of the event table: `id` (default) or `event_id`.
    pub event_key: String,
    /// Column of the event table that names the content: `content_id` (default).
    pub content_key: String,
    /// Primary key of the content table: `id` (default) or `content_id`.
    pub content_id: String,
    /// What a numeric time counts.
    pub time_unit: TimeUnit,
}

impl Default for TableSchema {
    fn default() -> Self {
        Self {
            event_key: "id".into(),
            content_key: "content_id".into(),
            content_id: "id".into(),
            time_unit: TimeUnit::Auto,
        }
    }
}

/// What a numeric time column counts since 1970 (Debezium's `time.precision.mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// By size: below 1.1e13 milliseconds, below 1.1e16 microseconds, else nanoseconds. Right from May 1970 to 2318.
    #[default]
    Auto,
    /// Milliseconds (`connect`, or `adaptive` with precision up to 3).
    Millis,
    /// Microseconds (`adaptive`, `microseconds`).
    Micros,
    /// Nanoseconds (`nanoseconds`).
    Nanos,
}

/// A record of a change topic, as Kafka hands it over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The record has one of the headers that [`is_move_header`] knows.
    pub moved: bool,
}

/// Debezium's headers on the two halves of a change of the record key.
#[must_use]
pub fn is_move_header(name: &str) -> bool {
    matches!(name, "__debezium.newkey" | "__debezium.oldkey")
}

/// What a record of a change topic is.
#[derive(Clone, PartialEq, Debug)]
pub enum CdcRecord<T> {
    /// A row was inserted, read, updated or deleted.
    Change(T),
    /// A null value: follows a deletion, for compaction; in the flattened form it may be the deletion.
    Tombstone,
    /// A logical message (`pg_logical_emit_message`), with its prefix.
    Message(String),
    /// The table was truncated.
    Truncate,
}

/// A change of one row of the event table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventChange<'a> {
    /// Operation, LSNs, transaction, commit time.
    pub meta: Meta,
    /// The row: the after image, or the before image of a deletion.
    pub row: EventRow<'a>,
    /// The before image of an update or deletion, when the record carries all of it.
    pub before: Option<Box<EventRow<'a>>>,
    /// One half of a change of the record key.
    pub moved: bool,
}

/// Reads the records of both change topics.
#[derive(Clone, Debug)]
pub struct Parser {
    schema: TableSchema,
    event_columns: [Box<str>; event::COLUMNS],
    content_columns: [Box<str>; content::COLUMNS],
}

impl Parser {
    /// A parser for tables with these key columns.
    #[must_use]
    pub fn new(schema: TableSchema) -> Self {
        Self {
            event_columns: event::columns(&schema),
            content_columns: content::columns(&schema),
            schema,
        }
    }

    /// Reads a record of the event topic, and checks that its key carries the content's id.
    ///
    /// # Errors
    /// [`Reject`] for every record that is none; [`RejectKind::WrongKey`] is a setting of the connector.
    pub fn event<'a>(&self, input: Input<'a>) -> Result<CdcRecord<EventChange<'a>>, Reject> {
        let Some(text) = utf8(input.payload)? else {
            return Ok(CdcRecord::Tombstone);
        };
        let mut raw = raw::Raw::new();
        if !raw.parse(text, &self.event_columns)? {
            return Ok(CdcRecord::Tombstone);
        }
        event::read(&mut raw, &self.schema, input)
    }

    /// Reads a record of the content topic.
    ///
    /// # Errors
    /// [`Reject`] for every record that is none.
    pub fn content<'a>(&self, input: Input<'a>) -> Result<CdcRecord<ContentChange<'a>>, Reject> {
        let Some(text) = utf8(input.payload)? else {
            return Ok(CdcRecord::Tombstone);
        };
        let mut raw = raw::Raw::new();
        if !raw.parse(text, &self.content_columns)? {
            return Ok(CdcRecord::Tombstone);
        }
        content::read(&mut raw, &self.schema)
    }

    /// The id that the key of a record of the content topic names: what a tombstone is about.
    ///
    /// # Errors
    /// [`RejectKind::WrongKey`] when the key names none.
    pub fn content_key<'a>(&self, key: Option<&'a [u8]>) -> Result<Cow<'a, str>, Reject> {
        key::id(key, &self.schema.content_id)
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(TableSchema::default())
    }
}

fn utf8(payload: Option<&[u8]>) -> Result<Option<&str>, Reject> {
    match payload {
        None | Some([]) => Ok(None),
        Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|error| {
            let at = error.valid_up_to();
            Reject::new(
                RejectKind::MalformedJson,
                format!("the value is no UTF-8 from byte {at}, expected JSON"),
            )
        }),
    }
}

#[cfg(test)]
mod tests;
