//! What the end of a partition of the output says about where to continue. Pure.
//!
//! Invariant: the highest position counts, not the last record: an old instance may still have appended a run that
//! starts at or below it. What is kept of it is bounded, however far back one has to look.

use std::collections::{BTreeMap, BTreeSet};

use engagement::envelope::{EventChange, Op};
use engagement::event::{EnrichedEvent, Lane, Position};
use engagement::wire::{self, Format};

use crate::headers::{CONTENT_TYPE, last_text};
use crate::record::Record;
use crate::redrive;
use crate::resume::source_position;

/// Records of the end looked at first; more than any instance has in flight in steady state.
pub const WANTED: u32 = 1000;
/// Records of the end looked at when the first look does not reach what was committed; more than a producer's queue holds.
pub const WANTED_MORE: u32 = 40_000;

/// Why the tail cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// None of the last records is ours.
    #[error("none of the last {records} records was written by an enricher")]
    Foreign {
        /// How many were looked at.
        records: usize,
    },
    /// The record that the position names cannot be read.
    #[error("the record at offset {offset}, made from {position}, cannot be read: {cause}")]
    Unreadable {
        /// Its offset in the output.
        offset: i64,
        /// What its header says.
        position: Position,
        /// Why.
        cause: String,
    },
}

/// What counts of the end of a partition, told record by record: the event with the highest position, and those at its mark.
///
/// Holds no more than these, however many records it is told. Positions and marks of a chain rise together, so whatever is
/// below the mark of the highest position so far is at or above that of no later one.
#[derive(Debug)]
pub struct End {
    partition: i32,
    records: usize,
    highest: Option<(Position, Result<EnrichedEvent, TailError>)>,
    /// Events that are not below the mark of the highest position; what a snapshot read has no mark of its own.
    marked: BTreeMap<Marked, EnrichedEvent>,
    /// Redriven letters: epoch and offset in the change topic.
    redriven: BTreeSet<(u8, i64)>,
    /// Some record is of this partition, of whatever lane.
    ours: bool,
}

/// Which change, ordered by its mark.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Marked {
    mark: Mark,
    event_id: String,
    tx_id: Option<i64>,
    deleted: bool,
}

/// Epoch, `sequence[0]` and LSN.
type Mark = (u8, u64, u64);

const fn mark(event: &EnrichedEvent) -> Mark {
    let source = &event.source;
    (source.epoch, source.commit_lsn, source.lsn)
}

impl End {
    /// Of a partition of which no record is told yet.
    #[must_use]
    pub const fn of(partition: i32) -> Self {
        Self {
            partition,
            records: 0,
            highest: None,
            marked: BTreeMap::new(),
            redriven: BTreeSet::new(),
            ours: false,
        }
    }

    /// The event of the stream with the highest position; `None` when there is none.
    ///
    /// # Errors
    /// There are records, and none is ours, or the decisive one cannot be read.
    pub fn highest(&self) -> Result<Option<&EnrichedEvent>, TailError> {
        match &self.highest {
            Some((_, Ok(event))) => Ok(Some(event)),
            Some((_, Err(error))) => Err(error.clone()),
            None if self.records == 0 || self.ours => Ok(None),
            None => Err(TailError::Foreign {
                records: self.records,
            }),
        }
    }

    /// The streamed events at the mark of the highest position, each change once.
    pub fn at_mark(&self) -> impl Iterator<Item = &EnrichedEvent> {
        let highest = self.highest().ok().flatten().map(mark);
        let marked = self.marked.iter();
        marked
            .filter(move |(at, _)| Some(at.mark) == highest)
            .map(|(_, event)| event)
    }

    /// Which redriven letters are there: epoch and offset in the change topic.
    pub fn redriven(&self) -> impl Iterator<Item = (u8, i64)> {
        self.redriven.iter().copied()
    }

    /// Whether what was told does not reach what was committed of the same chain: an old instance may hide the highest.
    #[must_use]
    pub fn falls_short(&self, committed: Option<Position>) -> bool {
        let reached = self.highest().ok().flatten();
        let reached = reached.map(|event| event.source.position());
        match (reached, committed) {
            (Some(reached), Some(committed)) => order(reached) < order(committed),
            // redriven letters alone hide it, too
            (None, Some(_)) => self.ours,
            (_, None) => false,
        }
    }

    fn take(&mut self, record: &Record) {
        self.records += 1;
        let Some(position) = source_position(record) else {
            return;
        };
        if position.partition == self.partition {
            self.ours = true;
            if position.lane == Lane::Redrive {
                self.redriven.insert(order(position));
            }
        }
        // a letter repeats a mark or a position, and says nothing about where the stream stands
        if position.lane == Lane::Redrive || redrive::is_copy(record) {
            return;
        }
        let event = read(record, position);
        let raises = self.is_raised_by(position);
        if let Ok(event) = &event {
            self.remember(event, raises);
        }
        if raises {
            self.highest = Some((position, event));
        }
    }

    fn is_raised_by(&self, position: Position) -> bool {
        let ours = position.lane == Lane::Live && position.partition == self.partition;
        let highest = self.highest.as_ref();
        ours && highest.is_none_or(|(highest, _)| order(position) >= order(*highest))
    }

    /// `raises`: it has the highest position now, and nothing below its mark counts any more.
    fn remember(&mut self, event: &EnrichedEvent, raises: bool) {
        let highest = self.highest.as_ref();
        let highest = highest.and_then(|(_, event)| event.as_ref().ok()).map(mark);
        let mark = mark(event);
        if raises && highest.is_some_and(|highest| highest < mark) {
            let least = Marked {
                mark,
                ..Marked::default()
            };
            self.marked = self.marked.split_off(&least);
        }
        let counts = raises || highest.is_none_or(|highest| highest <= mark);
        if counts && !event.source.snapshot {
            let at = Marked {
                mark,
                event_id: event.event_id.clone(),
                tx_id: event.source.tx_id,
                deleted: event.deleted,
            };
            self.marked.insert(at, event.clone());
        }
    }
}

impl Extend<Record> for End {
    fn extend<T: IntoIterator<Item = Record>>(&mut self, records: T) {
        records.into_iter().for_each(|record| self.take(&record));
    }
}

/// Positions of one chain in their order.
const fn order(position: Position) -> (u8, i64) {
    (position.epoch, position.offset)
}

/// The event that a record holds; `position` is what its header says.
///
/// # Errors
/// It cannot be read, or its body names another position.
pub fn read(record: &Record, position: Position) -> Result<EnrichedEvent, TailError> {
    let unreadable = |cause: String| TailError::Unreadable {
        offset: record.offset,
        position,
        cause,
    };
    let content_type = last_text(&record.headers, CONTENT_TYPE).unwrap_or_default();
    let format = Format::from_content_type(content_type)
        .ok_or_else(|| unreadable(format!("content type {content_type:?} is not known")))?;
    let payload = record.payload.as_deref().unwrap_or_default();
    let event = wire::decode(payload, format).map_err(|error| unreadable(error.to_string()))?;
    if event.source.position() != position {
        return Err(unreadable(format!(
            "its body says {}",
            event.source.position()
        )));
    }
    Ok(event)
}

/// Whether an enriched event was made from this change: the proof that a change topic is still the one that was read.
#[must_use]
pub fn is_made_from(event: &EnrichedEvent, change: &EventChange<'_>) -> bool {
    let deleted = change.meta.op == Op::Delete;
    change.row.event_id == event.event_id.as_str()
        && deleted == event.deleted
        && change.meta.tx_id == event.source.tx_id
        && change
            .meta
            .committed_at
            .is_none_or(|at| at == event.source.committed_at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use engagement::testing::Sample;
    use proptest::prelude::*;

    use super::*;
    use crate::headers::ENGAGEMENT_SOURCE;

    fn record(offset: i64, event: &EnrichedEvent) -> Record {
        let position = event.source.position().to_string();
        let headers = [
            (ENGAGEMENT_SOURCE, position.as_str()),
            (CONTENT_TYPE, Format::Protobuf.content_type()),
        ];
        Record {
            topic: Arc::from("engagement.enriched.v1"),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::from(wire::encode(event, Format::Protobuf))),
            headers: headers
                .map(|(name, value)| (name.to_owned(), Some(Bytes::from(value.to_owned()))))
                .to_vec(),
        }
    }

    fn end(records: impl IntoIterator<Item = Record>) -> End {
        let mut end = End::of(3);
        end.extend(records);
        end
    }

    fn highest(records: &[Record]) -> Result<Option<EnrichedEvent>, TailError> {
        let end = end(records.iter().cloned());
        end.highest().map(Option::<&EnrichedEvent>::cloned)
    }

    fn made_from(offset: i64) -> EnrichedEvent {
        Sample::new().at_position(3, offset).build()
    }

    #[test]
    fn a_run_of_an_old_instance_at_the_end_does_not_hide_the_highest_position() {
        let positions = [40, 41, 42, 43, 41, 42];
        let records: Vec<_> = (0..)
            .zip(positions)
            .map(|(offset, from)| record(offset, &made_from(from)))
            .collect();
        assert_eq!(highest(&records).unwrap().unwrap().source.offset, 43);
    }

    #[test]
    fn a_higher_epoch_goes_before_a_higher_offset() {
        let adopted = Sample::new().at_position(3, 5).epoch(1).build();
        let records = [
            record(0, &made_from(900)),
            record(1, &adopted),
            record(2, &made_from(901)),
        ];
        assert_eq!(
            highest(&records).unwrap().unwrap().source.position(),
            adopted.source.position()
        );
    }

    #[test]
    fn other_lanes_and_partitions_do_not_count() {
        let redriven = Sample::new()
            .at_position(3, 900)
            .lane(Lane::Redrive)
            .build();
        let elsewhere = Sample::new().at_position(4, 900).build();
        let records = [
            record(0, &made_from(7)),
            record(1, &redriven),
            record(2, &elsewhere),
        ];
        assert_eq!(highest(&records).unwrap().unwrap().source.offset, 7);
    }

    #[test]
    fn an_end_of_redriven_records_alone_has_no_tail_and_is_ours() {
        let redriven_at = |from| {
            Sample::new()
                .at_position(3, from)
                .lane(Lane::Redrive)
                .build()
        };
        let mut copy = record(2, &made_from(5));
        for name in [crate::dead_letter::LETTER, crate::dead_letter::REDRIVEN_AT] {
            copy.headers
                .push((name.to_owned(), Some(Bytes::from_static(b"x"))));
        }
        let records = [
            record(0, &redriven_at(900)),
            record(1, &redriven_at(901)),
            copy,
        ];
        let mut end = End::of(3);
        end.extend(records);
        assert_eq!(end.highest(), Ok(None));
        let redriven: Vec<_> = end.redriven().collect();
        assert_eq!(redriven, [(0, 900), (0, 901)]);
        assert!(end.falls_short(Some(made_from(5).source.position())));
    }

    #[test]
    fn an_empty_output_has_no_tail_and_one_that_is_not_ours_is_refused() {
        assert_eq!(highest(&[]), Ok(None));
        let mut foreign = record(0, &made_from(7));
        foreign.headers.clear();
        assert_eq!(highest(&[foreign]), Err(TailError::Foreign { records: 1 }));
    }

    #[test]
    fn a_decisive_record_that_cannot_be_read_is_named() {
        let mut broken = record(9, &made_from(7));
        broken.payload = Some(Bytes::from_static(b"\xff\xff"));
        assert!(matches!(
            highest(&[broken]),
            Err(TailError::Unreadable { offset: 9, .. })
        ));
    }

    /// The change at `offset` of a chain in which `run` changes share a mark, every one in a transaction of its own.
    fn change(offset: i64, run: i64) -> EnrichedEvent {
        let mut event = Sample::new()
            .at_position(3, offset)
            .event_id(offset)
            .build();
        let mark = u64::try_from(offset / run + 1).unwrap();
        event.source.commit_lsn = mark;
        event.source.lsn = mark * 10;
        event.source.tx_id = Some(offset);
        event
    }

    fn ids<'a>(events: impl IntoIterator<Item = &'a EnrichedEvent>) -> Vec<i64> {
        let mut ids: Vec<i64> = events
            .into_iter()
            .map(|event| event.source.offset)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn what_is_held_does_not_grow_with_what_an_old_instance_appended() {
        let mut end = End::of(3);
        let zombie = (0..40).flat_map(|_| 400..1400);
        let positions = (0..1430).chain(zombie);
        for (offset, from) in (0..).zip(positions) {
            end.extend([record(offset, &change(from, 26))]);
            assert!(end.marked.len() <= 26, "{} after {from}", end.marked.len());
        }
        assert_eq!(end.highest().unwrap().unwrap().source.offset, 1429);
        assert_eq!(ids(end.at_mark()), (1404..1430).collect::<Vec<_>>());
    }

    #[test]
    fn of_a_snapshot_only_the_last_record_is_held() {
        let events = (0..5000).map(|offset| {
            let mut event = change(offset, i64::MAX);
            event.source.snapshot = true;
            record(offset, &event)
        });
        let end = end(events);
        assert_eq!(end.highest().unwrap().unwrap().source.offset, 4999);
        assert_eq!((end.marked.len(), end.at_mark().count()), (0, 0));
    }

    #[test]
    fn an_end_falls_short_of_a_commit_above_it_in_the_same_epoch_or_a_later_one() {
        let at = |text: &str| Some(text.parse::<Position>().unwrap());
        let end = end([record(0, &made_from(7))]);
        assert!(!end.falls_short(None) && !end.falls_short(at("live/0/3/7")));
        assert!(end.falls_short(at("live/0/3/8")) && end.falls_short(at("live/1/3/0")));
        assert!(!End::of(3).falls_short(at("live/0/3/8")));
    }

    proptest! {
        #[test]
        fn the_fold_decides_as_if_it_held_every_record(
            (run, length) in (1..6_i64, 1..40_i64),
            zombies in prop::collection::vec((any::<prop::sample::Index>(), 1..20_usize), 0..6),
            from in any::<prop::sample::Index>(),
        ) {
            let mut log: Vec<i64> = (0..length).collect();
            for (start, count) in zombies {
                let start = i64::try_from(start.index(log.len())).unwrap().min(length - 1);
                log.extend((start..length).take(count));
            }
            let seen = &log[from.index(log.len())..];
            let events: Vec<_> = seen.iter().map(|offset| change(*offset, run)).collect();
            let decisive = events.iter().max_by_key(|event| event.source.offset).unwrap();
            let at_mark = events.iter().filter(|event| mark(event) == mark(decisive));
            let end = end((0..).zip(&events).map(|(offset, event)| record(offset, event)));
            prop_assert_eq!(end.highest().unwrap().unwrap(), decisive);
            prop_assert_eq!(ids(end.at_mark()), ids(at_mark));
        }
    }
}
