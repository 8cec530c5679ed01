//! Operation, LSNs, transaction and commit time of a change.
//!
//! Invariant: a streamed change has an LSN; without one neither its revision nor a re-send could be told.

use std::mem::take;

use super::cell::Cell;
use super::raw::Raw;
use super::{Reject, RejectKind, TimeUnit};
use crate::event::Micros;

/// What a change record says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// The operation.
    pub op: Op,
    /// `source.lsn`: LSN of the row's change; 0 when a snapshot record carries none.
    pub lsn: u64,
    /// `source.sequence[0]`: commit LSN of the transaction before. `None` in the first transaction after a
    /// snapshot, in some snapshot records, and in the flattened form without it.
    pub commit_lsn: Option<u64>,
    /// `source.sequence` is there, whatever it says: without `commit_lsn`, the record is of the first transaction.
    pub has_sequence: bool,
    /// `source.txId`.
    pub tx_id: Option<i64>,
    /// Commit time: `source.ts_us`, else `source.ts_ms`, else Debezium's own time.
    pub committed_at: Option<Micros>,
}

impl Meta {
    /// Read by a snapshot, not from the write-ahead log.
    #[must_use]
    pub const fn is_snapshot(&self) -> bool {
        matches!(self.op, Op::Read)
    }
}

/// An operation on a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// `c`
    Create,
    /// `r`, from a snapshot.
    Read,
    /// `u`
    Update,
    /// `d`
    Delete,
}

impl Op {
    /// Debezium's letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Create => 'c',
            Self::Read => 'r',
            Self::Update => 'u',
            Self::Delete => 'd',
        }
    }
}

/// What `op` says.
pub(super) enum Operation {
    Row(Op),
    Message,
    Truncate,
}

pub(super) fn operation(op: &Cell<'_>) -> Result<Operation, Reject> {
    let Cell::Text(letter) = op else {
        return Err(no_operation(op));
    };
    match &**letter {
        "c" => Ok(Operation::Row(Op::Create)),
        "r" => Ok(Operation::Row(Op::Read)),
        "u" => Ok(Operation::Row(Op::Update)),
        "d" => Ok(Operation::Row(Op::Delete)),
        "m" => Ok(Operation::Message),
        "t" => Ok(Operation::Truncate),
        _ => {
            let found = op.describe();
            Err(Reject::new(
                RejectKind::UnknownOperation,
                format!("op is {found}, expected one of c r u d t m"),
            ))
        }
    }
}

fn no_operation(op: &Cell<'_>) -> Reject {
    match op {
        Cell::Missing | Cell::Null => Reject::missing(
            "op",
            "a Debezium envelope, or ExtractNewRecordState with add.fields=op,lsn,txId,sequence,source.ts_ms",
        ),
        other => Reject::wrong_type("op", &other.describe(), "one of the texts c r u d t m"),
    }
}

pub(super) fn read<const N: usize>(op: Op, raw: &mut Raw<'_, N>) -> Result<Meta, Reject> {
    let source = &mut raw.source;
    let lsn = match (take(&mut source.lsn).unsigned("source.lsn")?, op) {
        (Some(lsn), _) => lsn,
        (None, Op::Read) => 0,
        (None, _) => return Err(no_lsn(raw.flattened)),
    };
    Ok(Meta {
        op,
        lsn,
        commit_lsn: sequence(&source.sequence)?,
        has_sequence: !matches!(source.sequence, Cell::Missing | Cell::Null),
        tx_id: take(&mut source.tx_id).integer("source.txId")?,
        committed_at: match take(&mut source.ts_us).time("source.ts_us", TimeUnit::Micros)? {
            Some(at) => Some(at),
            None => match take(&mut source.ts_ms).time("source.ts_ms", TimeUnit::Millis)? {
                Some(at) => Some(at),
                None => take(&mut raw.ts_ms).time("ts_ms", TimeUnit::Millis)?,
            },
        },
    })
}

fn no_lsn(flattened: bool) -> Reject {
    if flattened {
        return Reject::missing(
            "__lsn",
            "the LSN of the change: set add.fields=op,lsn,txId,sequence,source.ts_ms on ExtractNewRecordState",
        );
    }
    Reject::missing(
        "source.lsn",
        "the LSN of the change, as Debezium's Postgres connector writes it",
    )
}

/// `["24023119","24023128"]` as text: the first half, or `None` for `[null,..]`.
fn sequence(cell: &Cell<'_>) -> Result<Option<u64>, Reject> {
    let text = match cell {
        Cell::Missing | Cell::Null => return Ok(None),
        Cell::Text(text) => text.trim_ascii(),
        _ => "",
    };
    let first = text
        .strip_prefix('[')
        .and_then(|rest| rest.split([',', ']']).next());
    match first.map(|first| first.trim_ascii().trim_matches('"')) {
        Some("null") => Ok(None),
        Some(digits) => digits.parse().map(Some).map_err(|_| no_sequence(cell)),
        None => Err(no_sequence(cell)),
    }
}

fn no_sequence(cell: &Cell<'_>) -> Reject {
    Reject::wrong_type(
        "source.sequence",
        &cell.describe(),
        "two LSNs as text, such as [\"24023119\",\"24023128\"]",
    )
}
