//! The record's key: does it carry the content's id?
//!
//! Invariant: a key that does not is a setting of the connector, not a bad record, and says which one.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess};

use super::cell::{Cell, CellSeed};
use super::object::{Fields, NameSeed, Object, ObjectSeed};
use super::{Reject, RejectKind};

/// Whether a record of the event topic has the key of its row's content.
pub(super) fn check(
    key: Option<&[u8]>,
    column: &str,
    content_id: Option<&str>,
) -> Result<(), Reject> {
    if content_id.is_some_and(|id| is_plain_object(key, column, id)) {
        return Ok(());
    }
    let found = read(key, column);
    let agrees = match (&found, content_id) {
        (Found::Nothing, id) => id.is_none(),
        (Found::Id(found), Some(id)) => found == id,
        (Found::Id(_) | Found::Lacking | Found::Broken, _) => false,
    };
    if agrees {
        Ok(())
    } else {
        Err(wrong(&found, key, column))
    }
}

/// The id that the key of a record of the content topic names.
pub(super) fn id<'a>(key: Option<&'a [u8]>, column: &str) -> Result<Cow<'a, str>, Reject> {
    match read(key, column) {
        Found::Id(id) => Ok(id),
        found => Err(wrong(&found, key, column)),
    }
}

/// The usual form, compared without parsing it.
fn is_plain_object(key: Option<&[u8]>, column: &str, id: &str) -> bool {
    let inner = || {
        key?.strip_prefix(b"{\"")?
            .strip_prefix(column.as_bytes())?
            .strip_prefix(b"\":")
    };
    match inner() {
        Some([b'"', value @ .., b'"', b'}']) => value == id.as_bytes() && !value.contains(&b'\\'),
        Some([value @ .., b'}']) => value == id.as_bytes() && value.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

enum Found<'a> {
    Id(Cow<'a, str>),
    /// No key, or NULL.
    Nothing,
    /// An object without the column.
    Lacking,
    /// Neither JSON nor text.
    Broken,
}

fn read<'a>(key: Option<&'a [u8]>, column: &str) -> Found<'a> {
    let Some(bytes) = key.filter(|bytes| !bytes.is_empty()) else {
        return Found::Nothing;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Found::Broken;
    };
    match text.as_bytes()[0] {
        b'{' => object(text, column),
        b'"' => json(text).map_or(Found::Id(Cow::Borrowed(text)), found),
        _ if text == "null" => Found::Nothing,
        _ => Found::Id(Cow::Borrowed(text)),
    }
}

fn json(text: &str) -> Option<Cell<'_>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let cell = CellSeed.deserialize(&mut json).ok()?;
    json.end().ok().map(|()| cell)
}

fn object<'a>(text: &'a str, column: &str) -> Found<'a> {
    let (mut json, mut cell) = (serde_json::Deserializer::from_str(text), Cell::Missing);
    let fields = KeyFields {
        column,
        wrapped: false,
        found: &mut cell,
    };
    let read = ObjectSeed::new(fields).deserialize(&mut json);
    match read.and_then(|read| json.end().map(|()| read)) {
        Ok(Object::Read) => found(cell),
        _ => Found::Broken,
    }
}

fn found(cell: Cell<'_>) -> Found<'_> {
    match cell {
        Cell::Missing => Found::Lacking,
        Cell::Null => Found::Nothing,
        cell => cell
            .id("key")
            .ok()
            .flatten()
            .map_or(Found::Broken, Found::Id),
    }
}

/// The column at the top, or below `payload`.
struct KeyFields<'s, 'a> {
    column: &'s str,
    wrapped: bool,
    found: &'s mut Cell<'a>,
}

enum KeyField {
    Column,
    Payload,
    Other,
}

impl KeyField {
    fn named(column: &str, name: &str) -> Self {
        match name {
            name if name == column => Self::Column,
            "payload" => Self::Payload,
            _ => Self::Other,
        }
    }
}

impl<'de> Fields<'de> for KeyFields<'_, 'de> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            column,
            wrapped,
            found,
        } = self;
        while let Some(field) =
            map.next_key_seed(NameSeed(|name: &str| KeyField::named(column, name)))?
        {
            match field {
                KeyField::Column => *found = map.next_value_seed(CellSeed)?,
                KeyField::Payload if !wrapped => {
                    let inner = KeyFields {
                        column,
                        wrapped: true,
                        found: &mut *found,
                    };
                    map.next_value_seed(ObjectSeed::new(inner))?;
                }
                KeyField::Payload | KeyField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn wrong(found: &Found<'_>, key: Option<&[u8]>, column: &str) -> Reject {
    let shown: String = String::from_utf8_lossy(key.unwrap_or_default())
        .chars()
        .take(80)
        .collect();
    let what = match found {
        Found::Id(_) => "another value than the row",
        Found::Nothing => "no value",
        Found::Lacking => "no such field",
        Found::Broken => "no readable value",
    };
    Reject::new(
        RejectKind::WrongKey,
        format!(
            "the key {shown:?} has {what} for {column}, expected {{\"{column}\":<the row's {column}>}}: \
             set message.key.columns=<schema>.<table>:{column} on the connector"
        ),
    )
}
