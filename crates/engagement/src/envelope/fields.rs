//! Which fields of a change record go where.
//!
//! Invariant: a field that is not asked for is skipped without being built.

use serde::de::{IgnoredAny, MapAccess};

use super::cell::{Cell, CellSeed};
use super::object::{Fields, NameSeed, Object, ObjectSeed};
use super::raw::{Flat, Payload, Raw, Row, SourceCells, empty_row};

/// Index of a column; Debezium keeps the table's order, so the one after the last is tried first.
fn column<const N: usize>(columns: &[Box<str>; N], next: usize, name: &str) -> Option<usize> {
    (next..N)
        .chain(0..next)
        .find(|index| &*columns[*index] == name)
}

/// An image of the row; stays `None` where there is none.
struct RowFields<'s, 'a, const N: usize> {
    columns: &'s [Box<str>; N],
    row: &'s mut Option<Row<'a, N>>,
}

impl<'de, const N: usize> Fields<'de> for RowFields<'_, 'de, N> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (columns, mut next) = (self.columns, 0);
        let row = self.row.insert(empty_row());
        while let Some(index) =
            map.next_key_seed(NameSeed(|name: &str| column(columns, next, name)))?
        {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            row[index] = map.next_value_seed(CellSeed)?;
            next = index + 1;
        }
        Ok(())
    }
}

struct SourceFields<'s, 'a>(&'s mut SourceCells<'a>);

impl<'de> Fields<'de> for SourceFields<'_, 'de> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(NameSeed(SourceField::named))? {
            match field {
                Some(field) => *self.0.slot(field) = map.next_value_seed(CellSeed)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
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

struct MessageFields<'s, 'a> {
    prefix: &'s mut Cell<'a>,
}

impl<'de> Fields<'de> for MessageFields<'_, 'de> {
    fn read<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_prefix) = map.next_key_seed(NameSeed(|name: &str| name == "prefix"))? {
            match is_prefix {
                true => *self.prefix = map.next_value_seed(CellSeed)?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

enum RawField {
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

impl RawField {
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

/// The whole record.
pub(super) struct RawFields<'s, 'a, const N: usize> {
    pub(super) columns: &'s [Box<str>; N],
    /// Already inside `payload`.
    pub(super) wrapped: bool,
    pub(super) raw: &'s mut Raw<'a, N>,
}

impl<'de, const N: usize> Fields<'de> for RawFields<'_, 'de, N> {
    fn read<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (columns, mut next) = (self.columns, 0);
        while let Some(field) =
            map.next_key_seed(NameSeed(|name: &str| RawField::named(columns, next, name)))?
        {
            if let RawField::Column(index) = field {
                next = index + 1;
            }
            self.value(field, &mut map)?;
        }
        Ok(())
    }
}

impl<'de, const N: usize> RawFields<'_, 'de, N> {
    fn value<A: MapAccess<'de>>(&mut self, field: RawField, map: &mut A) -> Result<(), A::Error> {
        let (columns, raw) = (self.columns, &mut *self.raw);
        match field {
            RawField::Op => raw.op = map.next_value_seed(CellSeed)?,
            RawField::Before => object(
                map,
                RowFields {
                    columns,
                    row: &mut raw.before,
                },
            )?,
            RawField::After => object(
                map,
                RowFields {
                    columns,
                    row: &mut raw.after,
                },
            )?,
            RawField::Source => object(map, SourceFields(&mut raw.source))?,
            RawField::TsMs => raw.ts_ms = map.next_value_seed(CellSeed)?,
            RawField::Message => object(
                map,
                MessageFields {
                    prefix: &mut raw.message_prefix,
                },
            )?,
            RawField::Payload if !self.wrapped => raw.payload = payload(columns, map)?,
            RawField::Payload | RawField::Other => drop(map.next_value::<IgnoredAny>()?),
            RawField::Column(index) => raw.flat().row[index] = map.next_value_seed(CellSeed)?,
            flat => *raw.flat().slot(&flat) = map.next_value_seed(CellSeed)?,
        }
        Ok(())
    }
}

/// Reads an object; whatever else stands there counts as missing.
fn object<'de, F: Fields<'de>, A: MapAccess<'de>>(map: &mut A, fields: F) -> Result<(), A::Error> {
    map.next_value_seed(ObjectSeed::new(fields)).map(drop)
}

fn payload<'de, const N: usize, A: MapAccess<'de>>(
    columns: &[Box<str>; N],
    map: &mut A,
) -> Result<Option<Payload<'de, N>>, A::Error> {
    let mut raw = Box::new(Raw::new());
    let fields = RawFields {
        columns,
        wrapped: true,
        raw: &mut raw,
    };
    Ok(match map.next_value_seed(ObjectSeed::new(fields))? {
        Object::Read => Some(Payload::Raw(raw)),
        Object::Null => Some(Payload::Null),
        Object::Other(_) => None,
    })
}

impl<'a, const N: usize> Raw<'a, N> {
    fn flat(&mut self) -> &mut Flat<'a, N> {
        self.flat.get_or_insert_default()
    }
}

impl<'a, const N: usize> Flat<'a, N> {
    const fn slot(&mut self, field: &RawField) -> &mut Cell<'a> {
        match field {
            RawField::FlatDeleted => &mut self.deleted,
            RawField::FlatTsMs => &mut self.ts_ms,
            RawField::FlatSource(field) => self.source.slot(*field),
            _ => &mut self.op,
        }
    }
}
