//! Up to where ClickHouse holds everything, and where the lane of a partition will begin. Pure.
//!
//! Invariant: a cut is the commit of clickhouse-sink, proven against the log and the table; everything below it is in the table.

use engagement::event::{Lane, Origin, Position};
use redis_aggregator::decode::decode;
use redis_aggregator::history::History;
use redis_aggregator::position::Applied;
use service::Failure;
use stream::checkpoint::Checkpoint;
use stream::lineage::{ReaderResume, Refusal, reader_proof, reader_resume};
use stream::{Committed, Record, Watermarks, redrive};

use crate::reset::plan::{Fact, there};

/// What the table says of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InTable {
    /// The highest epoch and offset of the live chain.
    pub(super) highest: Option<(u8, i64)>,
    /// It holds the row that the sink remembers; `true` where it remembers none.
    pub(super) witness: bool,
}

/// ClickHouse is complete below `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) partition: i32,
    pub(super) log: Watermarks,
    /// Offset in the enriched topic.
    pub(super) upto: i64,
    /// What the sink has read up to there.
    pub(super) done: Checkpoint,
}

impl Cut {
    /// The highest live position below it, as the table is asked: an offset of -1 is below all.
    pub(super) fn position(&self) -> (u8, i64) {
        let position = self.done.position;
        position.map_or((0, -1), |position| (position.epoch, position.offset))
    }
}

/// The cut of a partition; `before` is the position of the last record below the commit, the outer `None`: nothing is left there.
///
/// # Errors
/// The sink has no position, it belongs to another log, or the table is not what the sink has written (78).
pub(super) fn cut(
    fact: &Fact,
    table: InTable,
    before: Option<Option<Position>>,
) -> Result<Cut, Failure> {
    let partition = fact.partition;
    let Some(commit) = &fact.committed else {
        return never_read(fact).ok_or_else(|| {
            Failure::repair(format!(
                "partition {partition}: clickhouse-sink has no position, so nobody knows what ClickHouse holds"
            ))
            .remedy("let clickhouse-sink read what the topic holds, then try again")
            .next("engagectl lag")
        });
    };
    let (upto, done) = proven(fact.log, commit, before).map_err(|refusal| {
        Failure::repair(format!(
            "partition {partition}: clickhouse-sink does not stand in this topic: {refusal}"
        ))
        .remedy(refusal.remedy())
        .next("engagectl lineage show")
    })?;
    let cut = Cut {
        partition,
        log: fact.log,
        upto,
        done,
    };
    holds(&cut, table).map(|()| cut)
}

/// What the commit says, if it is one of this log.
fn proven(
    log: Watermarks,
    commit: &Committed,
    before: Option<Option<Position>>,
) -> Result<(i64, Checkpoint), Refusal> {
    match reader_resume(log, Some(commit))? {
        ReaderResume::At {
            next,
            checkpoint,
            before: expected,
        } => {
            if let Some(expected) = expected {
                reader_proof(next, expected, before)?;
            }
            Ok((next, checkpoint))
        }
        // only without a commit
        ReaderResume::Fresh => Ok((commit.offset, Checkpoint::default())),
    }
}

/// A partition in which nothing was ever written needs no sink.
fn never_read(fact: &Fact) -> Option<Cut> {
    (fact.log.high == 0).then(|| Cut {
        partition: fact.partition,
        log: fact.log,
        upto: 0,
        done: Checkpoint::default(),
    })
}

/// The table is the one that the sink has written, and no other.
fn holds(cut: &Cut, table: InTable) -> Result<(), Failure> {
    let partition = cut.partition;
    let order = |position: Position| (position.epoch, position.offset);
    let stored = cut.done.stored.map(|stored| order(stored.position));
    if !table.witness && stored > table.highest {
        return Err(Failure::repair(format!(
            "partition {partition}: ClickHouse lacks what clickhouse-sink has written: the table was emptied, made anew, or restored"
        ))
        .remedy("fill it first: the totals are made from it")
        .next("engagectl rebuild clickhouse"));
    }
    let is_at_end = cut.upto == cut.log.high;
    if is_at_end && table.highest > Some(cut.position()) {
        let (epoch, offset) = table.highest.unwrap_or_default();
        return Err(Failure::repair(format!(
            "partition {partition}: ClickHouse holds rows of position live/{epoch}/{partition}/{offset}, which is beyond the end of \
             the enriched topic: they are of another epoch, or of another topic"
        ))
        .remedy("correct KAFKA_ENRICHED_TOPIC or CLICKHOUSE_DATABASE; where the topic was made anew, adopt that first")
        .next("engagectl lineage show"));
    }
    Ok(())
}

/// Where the lane of a partition begins: at `from`, or at the cut where that is lower. `before` are the last records below it.
/// `None`: they do not say whether the stream has begun by then.
pub(super) fn start(cut: &Cut, from: i64, before: &[Record]) -> Option<(Applied, History)> {
    let own = || before.iter().filter(|record| !redrive::is_copy(record));
    let streamed = own()
        .filter_map(|record| decode(record).ok())
        .any(|event| event.source.lane == Lane::Live && event.origin == Origin::Stream);
    let history = match (streamed, from == cut.log.low) {
        (true, _) => History::Closed,
        (false, true) => History::Empty,
        (false, false) => return None,
    };
    let done = if from == cut.upto {
        cut.done
    } else {
        there(before, Checkpoint::default())
    };
    let applied = Applied {
        source: done.position,
        before: done.before,
        enriched: from - 1,
    };
    Some((applied, history))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::Sample;
    use engagement::wire::{Format, encode};
    use stream::headers::ENGAGEMENT_SOURCE;

    use super::*;

    const DONE: &str =
        "engage1 epoch=1 position=live/1/3/41 before=live/1/3/41 stored=live/1/3/40@5";

    fn fact(commit: Option<(i64, &str)>, low: i64, high: i64) -> Fact {
        Fact {
            partition: 3,
            log: Watermarks { low, high },
            committed: commit.map(|(offset, metadata)| Committed {
                offset,
                metadata: metadata.to_owned(),
            }),
            to: low,
        }
    }

    fn table(offset: i64) -> InTable {
        InTable {
            highest: Some((1, offset)),
            witness: true,
        }
    }

    fn proof() -> Option<Option<Position>> {
        Some("live/1/3/41".parse().ok())
    }

    fn refused(fact: &Fact, table: InTable, before: Option<Option<Position>>) -> String {
        cut(fact, table, before).unwrap_err().render("engagectl")
    }

    #[test]
    fn the_commit_of_the_sink_is_the_cut_also_when_the_table_is_ahead_of_it() {
        for (ahead, high) in [(41, 58), (44, 70)] {
            let cut = cut(&fact(Some((58, DONE)), 0, high), table(ahead), proof()).unwrap();
            assert_eq!((cut.upto, cut.position()), (58, (1, 41)));
        }
        let empty = cut(&fact(None, 0, 0), InTable::default(), None).unwrap();
        assert_eq!((empty.upto, empty.position()), (0, (0, -1)));
    }

    #[test]
    fn what_cannot_be_cut_is_refused_in_words_that_name_the_next_command() {
        let done = Some((58, DONE));
        let emptied = InTable {
            highest: Some((1, 3)),
            witness: false,
        };
        let other = Some("live/1/3/12".parse().ok());
        for (fact, table, before, words) in [
            (fact(None, 0, 9), table(1), None, "has no position"),
            (
                fact(done, 60, 90),
                table(41),
                proof(),
                "removed by retention",
            ),
            (
                fact(done, 0, 20),
                table(41),
                proof(),
                "does not stand in this topic",
            ),
            (
                fact(done, 0, 90),
                table(41),
                other,
                "does not stand in this topic",
            ),
            (
                fact(done, 0, 90),
                emptied,
                proof(),
                "engagectl rebuild clickhouse",
            ),
            (fact(done, 0, 58), table(77), proof(), "of another epoch"),
        ] {
            let said = refused(&fact, table, before);
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn a_witness_that_was_passed_by_later_rows_is_not_asked_for() {
        let passed = InTable {
            highest: Some((1, 41)),
            witness: false,
        };
        assert!(cut(&fact(Some((58, DONE)), 0, 90), passed, proof()).is_ok());
    }

    fn record(offset: i64, origin: Origin) -> Record {
        let event = Sample::new().at_position(3, offset).origin(origin).build();
        let position = event.source.position().to_string();
        Record {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(encode(&event, Format::Protobuf).into()),
            headers: vec![(ENGAGEMENT_SOURCE.into(), Some(Bytes::from(position)))],
        }
    }

    #[test]
    fn a_lane_begins_with_what_a_reader_there_knows() {
        let cut = cut(&fact(Some((58, DONE)), 0, 90), table(41), proof()).unwrap();
        let before = [record(10, Origin::Stream), record(11, Origin::Snapshot)];
        let (applied, history) = start(&cut, 12, &before).unwrap();
        assert_eq!(applied.to_string(), "live/0/3/11@11");
        assert_eq!(history, History::Closed);
        let (applied, _) = start(&cut, 58, &before).unwrap();
        assert_eq!(applied.to_string(), "live/1/3/41@57");
        assert_eq!(start(&cut, 12, &before[1..]), None);
        let (applied, history) = start(&cut, 0, &[]).unwrap();
        assert_eq!(
            (applied.to_string().as_str(), history),
            ("-@-1", History::Empty)
        );
    }
}
