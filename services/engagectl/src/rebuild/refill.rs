//! From where a table in ClickHouse is filled again. Pure.
//!
//! Invariant: what the log holds comes from the log, with its positions, so that the live stream goes on behind it without a seam; only
//! what the log no longer holds comes from Postgres.

use service::Failure;
use stream::Committed;
use stream::checkpoint::Checkpoint;

use crate::reset::plan::{Fact, Kind, Move, moved};

/// What the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its rows.
    pub(super) rows: u64,
    /// Partitions in which it lacks a row that its sink remembers.
    pub(super) lost: usize,
    /// Partitions of the topic.
    pub(super) partitions: usize,
}

/// Where the rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The log reaches back to its first record.
    Log,
    /// Retention has taken its beginning, in so many partitions.
    LogAndPostgres(usize),
}

impl From {
    pub(super) fn of(facts: &[Fact]) -> Self {
        match facts.iter().filter(|fact| fact.log.low > 0).count() {
            0 => Self::Log,
            cut => Self::LogAndPostgres(cut),
        }
    }

    /// In words.
    pub(super) fn why(self, partitions: usize) -> String {
        match self {
            Self::Log => "the enriched topic reaches back to its first record in every partition: clickhouse-sink reads it again".into(),
            Self::LogAndPostgres(cut) => format!(
                "retention has taken the beginning of {cut} of {partitions} partitions of the enriched topic: clickhouse-sink reads what is \
                 left, and a backfill from Postgres brings the rest (rows that both bring are written once)"
            ),
        }
    }
}

/// Whether there is anything to fill.
///
/// # Errors
/// The table has what its sink has written (78).
pub(super) fn needed(found: Found) -> Result<(), Failure> {
    if found.rows == 0 || found.lost > 0 {
        return Ok(());
    }
    Err(Failure::repair(format!(
        "ClickHouse holds {} rows, in all {} partitions the one that clickhouse-sink remembers: this table was not lost",
        found.rows, found.partitions
    ))
    .remedy("rows that are missing all the same are named by `engagectl verify --sinks clickhouse`, and come back by a backfill of their time")
    .next("engagectl verify --sinks clickhouse"))
}

/// Where the sink's group begins again: at the start of what is left of a topic, without the row that the table had to hold. Only
/// partitions that have a position: the others are at their beginning.
///
/// # Errors
/// As [`moved`].
pub(super) fn moves(facts: &[Fact]) -> Result<Vec<Move>, Failure> {
    let mut moves = Vec::new();
    for fact in facts.iter().filter(|fact| fact.committed.is_some()) {
        let start = Fact {
            to: fact.log.low,
            ..fact.clone()
        };
        let Move {
            partition,
            from,
            to: Committed { offset, metadata },
        } = moved(start, &[], &Kind::ClickHouse)?;
        let checkpoint = Checkpoint {
            stored: None,
            ..metadata.parse().unwrap_or_default()
        };
        let to = Committed {
            offset,
            metadata: checkpoint.to_string(),
        };
        if fact.committed.as_ref() != Some(&to) {
            moves.push(Move {
                partition,
                from,
                to,
            });
        }
    }
    Ok(moves)
}

/// Records that a reader has before it from the start of each partition.
pub(super) fn records(facts: &[Fact]) -> i64 {
    facts.iter().map(|fact| fact.log.high - fact.log.low).sum()
}

#[cfg(test)]
mod tests {
    use stream::Watermarks;

    use super::*;

    fn fact(low: i64, commit: Option<(i64, &str)>) -> Fact {
        Fact {
            partition: 3,
            log: Watermarks { low, high: 90 },
            committed: commit.map(|(offset, metadata)| Committed {
                offset,
                metadata: metadata.to_owned(),
            }),
            to: 0,
        }
    }

    #[test]
    fn a_log_from_its_first_record_on_needs_nothing_else() {
        assert_eq!(From::of(&[fact(0, None), fact(0, None)]), From::Log);
        assert_eq!(
            From::of(&[fact(0, None), fact(7, None)]),
            From::LogAndPostgres(1)
        );
        assert!(From::LogAndPostgres(1).why(2).contains("1 of 2 partitions"));
    }

    #[test]
    fn the_sink_begins_again_without_the_row_that_the_table_had_to_hold() {
        let done = "engage1 epoch=1 position=live/1/3/42 before=live/1/3/42 hole=live/1/3/80 stored=live/1/3/41@5";
        let moves = moves(&[fact(7, Some((58, done))), fact(7, None)]).unwrap();
        assert_eq!(moves.len(), 1);
        let Move { from, to, .. } = &moves[0];
        assert_eq!((*from, to.offset), (Some(58), 7));
        assert_eq!(to.metadata, "engage1 epoch=1 hole=live/1/3/80");
    }

    #[test]
    fn what_was_carried_out_is_nothing_to_do() {
        let begun = fact(7, Some((7, "engage1 epoch=1")));
        assert_eq!(moves(&[begun]).unwrap(), []);
    }

    #[test]
    fn a_table_that_has_what_was_written_is_left_alone() {
        let found = |rows, lost| Found {
            rows,
            lost,
            partitions: 4,
        };
        assert!(needed(found(0, 0)).is_ok());
        assert!(needed(found(9, 1)).is_ok());
        let refused = needed(found(9, 0)).unwrap_err();
        assert_eq!(refused.exit().code(), 78);
        assert!(refused.what().contains("was not lost"));
    }
}
