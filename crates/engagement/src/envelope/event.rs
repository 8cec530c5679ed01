//! Rows of the event table.
//!
//! Invariant: a row that comes out has a primary key and a plausible time.

use std::borrow::Cow;
use std::mem::take;

use super::cell::Cell;
use super::meta::{self, Op, Operation};
use super::raw::{Raw, Row};
use super::{CdcRecord, EventChange, Input, Reject, RejectKind, TableSchema, key};
use crate::event::Micros;

/// How many columns of the event table are read.
pub(super) const COLUMNS: usize = 8;

/// The columns in the order of [`EventRow`], which is the table's usual one.
pub(super) fn columns(schema: &TableSchema) -> [Box<str>; COLUMNS] {
    let TableSchema {
        event_key,
        content_key,
        ..
    } = schema;
    [
        event_key.as_str(),
        content_key,
        "user_id",
        "event_type",
        "event_ts",
        "duration_ms",
        "device",
        "raw_payload",
    ]
    .map(Box::from)
}

/// A row of the event table; text is borrowed from the record where JSON lets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRow<'a> {
    /// Primary key: text as it is, integers in decimal.
    pub event_id: Cow<'a, str>,
    /// Key of the content.
    pub content_id: Option<Cow<'a, str>>,
    /// Key of the user.
    pub user_id: Option<Cow<'a, str>>,
    /// Open set; `None` for NULL.
    pub event_type: Option<Cow<'a, str>>,
    /// When it happened.
    pub event_ts: Micros,
    /// Milliseconds.
    pub duration_ms: Option<i64>,
    /// Device.
    pub device: Option<Cow<'a, str>>,
    /// JSON text.
    pub raw_payload: Option<Cow<'a, str>>,
}

pub(super) fn read<'a>(
    raw: &mut Raw<'a, COLUMNS>,
    schema: &TableSchema,
    input: Input<'a>,
) -> Result<CdcRecord<EventChange<'a>>, Reject> {
    let op = match meta::operation(&raw.op)? {
        Operation::Row(op) => op,
        Operation::Truncate => return Ok(CdcRecord::Truncate),
        Operation::Message => {
            let prefix = take(&mut raw.message_prefix).text("message.prefix")?;
            return Ok(CdcRecord::Message(prefix.unwrap_or_default().into_owned()));
        }
    };
    let meta = meta::read(op, raw)?;
    let (row, before) = images(op, raw, schema)?;
    key::check(input.key, &schema.content_key, row.content_id.as_deref())?;
    Ok(CdcRecord::Change(EventChange {
        meta,
        row,
        before,
        moved: input.moved,
    }))
}

/// The row, and what it replaces when the record carries all of that.
fn images<'a>(
    op: Op,
    raw: &mut Raw<'a, COLUMNS>,
    schema: &TableSchema,
) -> Result<(EventRow<'a>, Option<Box<EventRow<'a>>>), Reject> {
    if op == Op::Delete {
        let before = raw
            .before
            .as_mut()
            .ok_or_else(|| Reject::missing("before", FULL))?;
        let row = row(before, "before", schema)?;
        return Ok((row.clone(), Some(Box::new(row))));
    }
    let after = raw
        .after
        .as_mut()
        .ok_or_else(|| Reject::missing("after", "the row"))?;
    keep_unchanged(after, raw.before.as_ref());
    // A before image that does not parse was refused when it came, so no reader holds it.
    let before = raw.before.as_mut().filter(|_| op == Op::Update);
    let before = before.and_then(|before| row(before, "before", schema).ok());
    Ok((row(after, "after", schema)?, before.map(Box::new)))
}

const FULL: &str = "the row before the change: ALTER TABLE .. REPLICA IDENTITY FULL";

/// Values that Debezium left out because they did not change come from the before image, or are NULL.
fn keep_unchanged<'a>(after: &mut Row<'a, COLUMNS>, before: Option<&Row<'a, COLUMNS>>) {
    for (index, cell) in after
        .iter_mut()
        .enumerate()
        .filter(|(_, cell)| cell.is_placeholder())
    {
        *cell = before
            .map(|before| before[index].clone())
            .unwrap_or_default();
    }
}

fn row<'a>(
    row: &mut Row<'a, COLUMNS>,
    image: &str,
    schema: &TableSchema,
) -> Result<EventRow<'a>, Reject> {
    for cell in row.iter_mut().filter(|cell| cell.is_placeholder()) {
        *cell = Cell::Null;
    }
    let [
        event_id,
        content_id,
        user_id,
        event_type,
        event_ts,
        duration_ms,
        device,
        raw_payload,
    ] = row;
    let key = take(event_id)
        .id(&schema.event_key)?
        .filter(|id| !id.is_empty());
    Ok(EventRow {
        event_id: key.ok_or_else(|| no_key(image, &schema.event_key))?,
        content_id: take(content_id).id(&schema.content_key)?,
        user_id: take(user_id).id("user_id")?,
        event_type: take(event_type).text("event_type")?,
        event_ts: take(event_ts)
            .time("event_ts", schema.time_unit)?
            .ok_or_else(|| no_time(image))?,
        duration_ms: take(duration_ms).integer("duration_ms")?,
        device: take(device).text("device")?,
        raw_payload: take(raw_payload).text("raw_payload")?,
    })
}

fn no_key(image: &str, column: &str) -> Reject {
    let message = format!(
        "{image}.{column} is missing or empty, expected the primary key: is another column the key (event_key)?"
    );
    Reject::new(RejectKind::MissingPrimaryKey, message)
}

fn no_time(image: &str) -> Reject {
    let expected = if image == "before" {
        FULL
    } else {
        "when the event happened"
    };
    Reject::missing(&format!("{image}.event_ts"), expected)
}
