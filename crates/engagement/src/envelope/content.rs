//! Rows of the content table.
//!
//! Invariant: Debezium's placeholder for an unchanged value never becomes a value.

use std::borrow::Cow;
use std::mem::take;

use super::cell::Cell;
use super::meta::{self, Meta, Op, Operation};
use super::raw::{Raw, Row};
use super::{CdcRecord, Reject, RejectKind, TableSchema};
use crate::event::Micros;

/// How many columns of the content table are read.
pub(super) const COLUMNS: usize = 6;

pub(super) fn columns(schema: &TableSchema) -> [Box<str>; COLUMNS] {
    [
        schema.content_id.as_str(),
        "slug",
        "title",
        "content_type",
        "length_seconds",
        "publish_ts",
    ]
    .map(Box::from)
}

/// A text column of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Toast<'a> {
    /// The value; `None` for NULL.
    Value(Option<Cow<'a, str>>),
    /// Stored out of line, did not change, and the before image does not say either.
    Unchanged,
}

/// A change of one row of the content table. After a deletion only the id counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentChange<'a> {
    /// Operation, LSNs, transaction, commit time.
    pub meta: Meta,
    /// Primary key: text as it is, integers in decimal.
    pub id: Cow<'a, str>,
    /// Slug.
    pub slug: Toast<'a>,
    /// Title.
    pub title: Toast<'a>,
    /// Type, open set.
    pub content_type: Toast<'a>,
    /// Length in seconds.
    pub length_seconds: Option<i64>,
    /// When it was published.
    pub publish_ts: Option<Micros>,
}

pub(super) fn read<'a>(
    raw: &mut Raw<'a, COLUMNS>,
    schema: &TableSchema,
) -> Result<CdcRecord<ContentChange<'a>>, Reject> {
    let op = match meta::operation(&raw.op)? {
        Operation::Row(op) => op,
        Operation::Truncate => return Ok(CdcRecord::Truncate),
        Operation::Message => {
            let prefix = take(&mut raw.message_prefix).text("message.prefix")?;
            return Ok(CdcRecord::Message(prefix.unwrap_or_default().into_owned()));
        }
    };
    let meta = meta::read(op, raw)?;
    let row = match op {
        Op::Delete => raw
            .before
            .take()
            .ok_or_else(|| Reject::missing("before", "at least the primary key"))?,
        _ => {
            let mut after = raw
                .after
                .take()
                .ok_or_else(|| Reject::missing("after", "the row"))?;
            keep_unchanged(&mut after, raw.before.take());
            after
        }
    };
    change(meta, row, schema).map(CdcRecord::Change)
}

/// Values that Debezium left out because they did not change come from the before image when it has them.
fn keep_unchanged<'a>(after: &mut Row<'a, COLUMNS>, before: Option<Row<'a, COLUMNS>>) {
    let Some(before) = before else { return };
    for (cell, before) in after.iter_mut().zip(before) {
        if cell.is_placeholder() && before != Cell::Missing {
            *cell = before;
        }
    }
}

fn change<'a>(
    meta: Meta,
    row: Row<'a, COLUMNS>,
    schema: &TableSchema,
) -> Result<ContentChange<'a>, Reject> {
    let [id, slug, title, content_type, length_seconds, publish_ts] = row;
    let id = id.id(&schema.content_id)?.filter(|id| !id.is_empty());
    Ok(ContentChange {
        meta,
        id: id.ok_or_else(|| no_key(&schema.content_id))?,
        slug: toast(slug, "slug")?,
        title: toast(title, "title")?,
        content_type: toast(content_type, "content_type")?,
        length_seconds: length_seconds.integer("length_seconds")?,
        publish_ts: publish_ts.time("publish_ts", schema.time_unit)?,
    })
}

fn toast<'a>(cell: Cell<'a>, field: &str) -> Result<Toast<'a>, Reject> {
    if cell.is_placeholder() {
        return Ok(Toast::Unchanged);
    }
    cell.text(field).map(Toast::Value)
}

fn no_key(column: &str) -> Reject {
    let message = format!(
        "{column} is missing or empty, expected the primary key: is another column the key (content_id)?"
    );
    Reject::new(RejectKind::MissingPrimaryKey, message)
}
