//! Where a record stands in its chain.
//!
//! Invariant: within one partition of the enriched topic, `(epoch, offset)` of one lane rises strictly.

use std::fmt;
use std::str::FromStr;

use crate::event::Micros;

/// A chain of records; each lane has its own offsets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// From the change stream.
    Live,
    /// From a backfill.
    Backfill,
    /// From a dead-letter topic.
    Redrive,
}

impl Lane {
    /// Lower-case name, as in the `engagement-source` header: `live`, `backfill`, `redrive`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
            Self::Redrive => "redrive",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Lane {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "backfill" => Ok(Self::Backfill),
            "redrive" => Ok(Self::Redrive),
            _ => Err(PositionError(text.chars().take(80).collect())),
        }
    }
}

/// Where the record was made from. Text form: `live/0/3/42` (lane, epoch, partition, offset).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The chain.
    pub lane: Lane,
    /// Raised when a recreated source topic is adopted.
    pub epoch: u8,
    /// Partition of the source record.
    pub partition: i32,
    /// Offset of the source record.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lane,
            epoch,
            partition,
            offset,
        } = self;
        write!(f, "{lane}/{epoch}/{partition}/{offset}")
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PositionError(text.chars().take(80).collect());
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or_else(bad);
        let position = Self {
            lane: next()?.parse()?,
            epoch: next()?.parse().map_err(|_| bad())?,
            partition: next()?.parse().map_err(|_| bad())?,
            offset: next()?.parse().map_err(|_| bad())?,
        };
        match parts.next() {
            None => Ok(position),
            Some(_) => Err(bad()),
        }
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("position {0:?} is not lane/epoch/partition/offset, such as live/0/3/42")]
pub struct PositionError(String);

/// The lineage of one enriched record: its position, what came before, and the mark after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    /// The chain.
    pub lane: Lane,
    /// Raised when a recreated source topic is adopted; compared before the offset.
    pub epoch: u8,
    /// Partition of the source record.
    pub partition: i32,
    /// Offset of the source record.
    pub offset: i64,
    /// Offset of the record before this one in the chain, -1 for the first.
    pub prev: i64,
    /// `source.sequence[0]`, the commit LSN of the transaction before: first half of the mark after this record.
    pub commit_lsn: u64,
    /// LSN of the change: second half of the mark after this record.
    pub lsn: u64,
    /// Transaction id, when the record carries one.
    pub tx_id: Option<i64>,
    /// Commit time of the transaction.
    pub committed_at: Micros,
    /// Read by a snapshot; the mark is repeated from the record before.
    pub snapshot: bool,
}

impl Source {
    /// The position alone.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            lane: self.lane,
            epoch: self.epoch,
            partition: self.partition,
            offset: self.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let position = Position {
            lane: Lane::Live,
            epoch: 0,
            partition: 3,
            offset: 42,
        };
        assert_eq!(position.to_string(), "live/0/3/42");
        assert_eq!("live/0/3/42".parse(), Ok(position));
    }

    #[test]
    fn a_text_that_is_no_position_is_named() {
        for bad in [
            "",
            "live",
            "live/0/3",
            "live/0/3/42/1",
            "dead/0/3/42",
            "live/256/3/42",
            "live/0/x/42",
        ] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }
}
