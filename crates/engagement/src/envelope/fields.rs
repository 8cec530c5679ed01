//! Which fields of a change record go where.
//!
//! Invariant: a field that is not asked for is skipped without being built.

use serde::de::{IgnoredAny, MapAccess};

use super::cell::{Cell, CellSeed};
use super::object::{Fields, NameSeed, ObjectSeed};
use super::raw::{Flat, Payload, Row, SourceCells, Top, empty_row};

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

pub(super) struct TopFields<'s, const N: usize> {
    pub(super) columns: &'s [Box<str>; N],
    /// Already inside `payload`.
    pub(super) wrapped: bool,
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
