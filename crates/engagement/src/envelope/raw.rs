//! The JSON of a change record, read once into cells; its three forms are told apart afterwards.
//!
//! Invariant: one pass over the text, no allocation but for text with JSON escapes.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess};

use super::cell::{Cell, CellSeed};
use super::object::{Fields, NameSeed, Object, ObjectSeed};
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
struct Top<'a, const N: usize> {
    op: Cell<'a>,
    before: Option<Row<'a, N>>,
    after: Option<Row<'a, N>>,
    source: SourceCells<'a>,
    ts_ms: Cell<'a>,
    message_prefix: Cell<'a>,
    payload: Option<Payload<'a, N>>,
    flat: Option<Flat<'a, N>>,
}

enum Payload<'a, const N: usize> {
    Null,
    Top(Box<Top<'a, N>>),
}

impl<'a, const N: usize> Payload<'a, N> {
    fn of(value: Object<Top<'a, N>>) -> Option<Self> {
        match value {
            Object::Fields(top) => Some(Self::Top(Box::new(top))),
            Object::Null => Some(Self::Null),
            Object::Other(_) => None,
        }
    }
}

/// The flattened form: columns at the top, the rest with two underscores.
struct Flat<'a, const N: usize> {
    row: Row<'a, N>,
    op: Cell<'a>,
    deleted: Cell<'a>,
    source: SourceCells<'a>,
    ts_ms: Cell<'a>,
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

fn empty_row<'a, const N: usize>() -> Row<'a, N> {
    std::array::from_fn(|_| Cell::Missing)
}

impl<'a, const N: usize> Top<'a, N> {
    const fn new() -> Self {
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

/// Index of a column; Debezium keeps the table's order, so the one after the last is tried first.
fn column<const N: usize>(columns: &[Box<str>; N], next: usize, name: &str) -> Option<usize> {
    (next..N)
        .chain(0..next)
        .find(|index| &*columns[*index] == name)
}

struct RowFields<'s, const N: usize> {
    columns: &'s [Box<str>; N],
}

impl<'de, const N: usize> Fields<'de> for RowFields<'_, N> {
    type Out = Row<'de, N>;

    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        let (mut row, mut next) = (empty_row(), 0);
        while let Some(index) =
            map.next_key_seed(NameSeed(|name: &str| column(self.columns, next, name)))?
        {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            row[index] = map.next_value_seed(CellSeed)?;
            next = index + 1;
        }
        Ok(row)
    }
}

struct SourceFields;

impl<'de> Fields<'de> for SourceFields {
    type Out = SourceCells<'de>;

    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        let mut cells = SourceCells::default();
        while let Some(field) = map.next_key_seed(NameSeed(SourceField::named))? {
            match field {
                Some(field) => *cells.slot(field) = map.next_value_seed(CellSeed)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(cells)
    }
}

#[derive(Clone, Copy)]
enum SourceField {
    Lsn,
    TxId,
    TsMs,
    TsUs,
    Sequence,
}

impl SourceField {
    fn named(name: &str) -> Option<Self> {
        match name {
            "lsn" => Some(Self::Lsn),
            "txId" => Some(Self::TxId),
            "ts_ms" => Some(Self::TsMs),
            "ts_us" => Some(Self::TsUs),
            "sequence" => Some(Self::Sequence),
            _ => None,
        }
    }
}

impl<'a> SourceCells<'a> {
    const fn slot(&mut self, field: SourceField) -> &mut Cell<'a> {
        match field {
            SourceField::Lsn => &mut self.lsn,
            SourceField::TxId => &mut self.tx_id,
            SourceField::TsMs => &mut self.ts_ms,
            SourceField::TsUs => &mut self.ts_us,
            SourceField::Sequence => &mut self.sequence,
        }
    }
}

struct MessageFields;

impl<'de> Fields<'de> for MessageFields {
    type Out = Cell<'de>;

    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        let mut prefix = Cell::Missing;
        while let Some(is_prefix) = map.next_key_seed(NameSeed(|name: &str| name == "prefix"))? {
            match is_prefix {
                true => prefix = map.next_value_seed(CellSeed)?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(prefix)
    }
}

struct TopFields<'s, const N: usize> {
    columns: &'s [Box<str>; N],
    /// Already inside `payload`.
    wrapped: bool,
}

enum TopField {
    Op,
    Before,
    After,
    Source,
    TsMs,
    Message,
    Payload,
    Column(usize),
    FlatOp,
    FlatDeleted,
    FlatTsMs,
    FlatSource(SourceField),
    Other,
}

impl TopField {
    fn named<const N: usize>(columns: &[Box<str>; N], next: usize, name: &str) -> Self {
        match name {
            "op" => Self::Op,
            "before" => Self::Before,
            "after" => Self::After,
            "source" => Self::Source,
            "ts_ms" => Self::TsMs,
            "message" => Self::Message,
            "payload" => Self::Payload,
            "__op" => Self::FlatOp,
            "__deleted" => Self::FlatDeleted,
            "__ts_ms" => Self::FlatTsMs,
            _ => Self::flat(name)
                .or_else(|| column(columns, next, name).map(Self::Column))
                .unwrap_or(Self::Other),
        }
    }

    /// `__source_lsn` and `__lsn` alike: `add.fields=source.lsn` and `add.fields=lsn`.
    fn flat(name: &str) -> Option<Self> {
        let name = name.strip_prefix("__")?;
        SourceField::named(name.strip_prefix("source_").unwrap_or(name)).map(Self::FlatSource)
    }
}

impl<'de, const N: usize> Fields<'de> for TopFields<'_, N> {
    type Out = Top<'de, N>;

    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Out, A::Error> {
        let (columns, mut next) = (self.columns, 0);
        let mut top = Top::new();
        let row = || ObjectSeed::new(RowFields { columns });
        while let Some(field) =
            map.next_key_seed(NameSeed(|name: &str| TopField::named(columns, next, name)))?
        {
            match field {
                TopField::Op => top.op = map.next_value_seed(CellSeed)?,
                TopField::Before => top.before = map.next_value_seed(row())?.fields(),
                TopField::After => top.after = map.next_value_seed(row())?.fields(),
                TopField::Source => top.source = part(&mut map, SourceFields)?,
                TopField::TsMs => top.ts_ms = map.next_value_seed(CellSeed)?,
                TopField::Message => top.message_prefix = part(&mut map, MessageFields)?,
                TopField::Payload if !self.wrapped => {
                    let inner = ObjectSeed::new(TopFields {
                        columns,
                        wrapped: true,
                    });
                    top.payload = Payload::of(map.next_value_seed(inner)?);
                }
                TopField::Payload | TopField::Other => drop(map.next_value::<IgnoredAny>()?),
                TopField::Column(index) => {
                    top.flat.get_or_insert_default().row[index] = map.next_value_seed(CellSeed)?;
                    next = index + 1;
                }
                flat => {
                    *top.flat.get_or_insert_default().slot(&flat) =
                        map.next_value_seed(CellSeed)?;
                }
            }
        }
        Ok(top)
    }
}

/// An object's fields; whatever else stands there counts as missing.
fn part<'de, F, A>(map: &mut A, fields: F) -> Result<F::Out, A::Error>
where
    F: Fields<'de, Out: Default>,
    A: MapAccess<'de>,
{
    Ok(map
        .next_value_seed(ObjectSeed::new(fields))?
        .fields()
        .unwrap_or_default())
}

impl<'a, const N: usize> Flat<'a, N> {
    const fn slot(&mut self, field: &TopField) -> &mut Cell<'a> {
        match field {
            TopField::FlatDeleted => &mut self.deleted,
            TopField::FlatTsMs => &mut self.ts_ms,
            TopField::FlatSource(field) => self.source.slot(*field),
            _ => &mut self.op,
        }
    }
}
