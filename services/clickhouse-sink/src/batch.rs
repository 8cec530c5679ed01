//! Collects entries of one Kafka partition until a batch is due.
//!
//! Invariant: the offset to commit covers exactly the records that were offered, whether they have rows or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::{Lane, Micros, Position};

use crate::pace::Pace;
use crate::plan::Entry;
use crate::row::month;

/// An event that was committed longer ago is part of a backlog; clocks of servers differ by less.
const LATE: Duration = Duration::from_secs(30);

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries.
    pub rows: usize,
    /// Bytes in memory.
    pub bytes: usize,
}

/// Entries that are written together.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    opened: Option<Instant>,
    next: Option<i64>,
    /// Its first entry was committed so long ago that larger batches serve it better than early ones.
    late: bool,
    /// When it leaves, once it was asked.
    departs: Option<Instant>,
    /// Where its records are, if not in the topic of the group.
    topic: Option<Arc<str>>,
}

/// Where the rows of some entries stand in the table: source offsets of one lane and epoch, and times of one month, all ends
/// included. The table is sorted by time, so without the times every part of it would be read for a few offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The chain.
    pub lane: Lane,
    /// Its epoch.
    pub epoch: u8,
    /// Partition of the source records.
    pub partition: i32,
    /// Lowest offset.
    pub from: i64,
    /// Highest offset.
    pub to: i64,
    /// `event_ts` of the earliest row.
    pub since: Micros,
    /// `event_ts` of the latest row.
    pub until: Micros,
}

impl Span {
    fn of(position: Position, event_ts: Micros) -> Self {
        let Position {
            lane,
            epoch,
            partition,
            offset,
        } = position;
        Self {
            lane,
            epoch,
            partition,
            from: offset,
            to: offset,
            since: event_ts,
            until: event_ts,
        }
    }

    /// A position in it.
    #[must_use]
    pub const fn at(&self, offset: i64) -> Position {
        Position {
            lane: self.lane,
            epoch: self.epoch,
            partition: self.partition,
            offset,
        }
    }

    fn takes(&mut self, position: Position, event_ts: Micros) -> bool {
        let same = (self.lane, self.epoch, self.partition)
            == (position.lane, position.epoch, position.partition)
            && month(self.since) == month(event_ts);
        if same {
            self.from = self.from.min(position.offset);
            self.to = self.to.max(position.offset);
            self.since = self.since.min(event_ts);
            self.until = self.until.max(event_ts);
        }
        same
    }
}

impl Batch {
    /// An empty batch of records of another topic than the group's.
    #[must_use]
    pub fn of(topic: Arc<str>) -> Self {
        Self {
            topic: Some(topic),
            ..Self::default()
        }
    }

    /// The topic of its records, if it is not the group's.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// Adds a record's entry, `age` after its commit in the database.
    pub fn push(&mut self, entry: Entry, now: Instant, age: Duration) {
        if self.entries.is_empty() {
            self.late = age > LATE;
        }
        self.opened.get_or_insert(now);
        self.next = Some(entry.offset + 1);
        self.bytes += entry.weight();
        self.entries.push(entry);
    }

    /// Passes over a record that has no rows: a duplicate, or a dead letter.
    pub fn pass(&mut self, offset: i64, now: Instant) {
        self.opened.get_or_insert(now);
        self.next = Some(offset + 1);
    }

    /// Its entries, in offset order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset to commit when everything is written; `None` when nothing was offered.
    #[must_use]
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// Whether rows or bytes have reached their limit.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.entries.len() >= limits.rows || self.bytes >= limits.bytes
    }

    /// When it is closed at the latest; `None` while nothing was offered. One of a backlog gathers for longer.
    pub fn due(&mut self, pace: &Pace) -> Option<Instant> {
        let opened = self.opened?;
        let departs = *self.departs.get_or_insert_with(|| pace.departs(opened));
        Some(if self.late {
            pace.later(departs)
        } else {
            departs
        })
    }

    /// Positions prove nothing about live changes that a backfill may have brought already, those below `lsn`: they are
    /// compared by event id too.
    pub fn compare_by_id(&mut self, lsn: u64) {
        let live = |entry: &&mut Entry| entry.position.lane == Lane::Live;
        for entry in self.entries.iter_mut().filter(live) {
            entry.by_id |= entry.commit_lsn < lsn;
        }
    }

    /// The highest LSN at which a row of a backfill was read; 0 when there is none.
    #[must_use]
    pub fn backfilled(&self) -> u64 {
        let of_backfill = |entry: &&Entry| entry.position.lane == Lane::Backfill;
        let lsns = self.entries.iter().filter(of_backfill);
        lsns.map(|entry| entry.commit_lsn).max().unwrap_or(0)
    }

    /// Where the rows of the entries are that are applied by position: a row of that position has no other time, for both
    /// are those of one change.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.by_id) {
            for event_ts in entry.times() {
                if !spans
                    .iter_mut()
                    .any(|span| span.takes(entry.position, event_ts))
                {
                    spans.push(Span::of(entry.position, event_ts));
                }
            }
        }
        spans
    }

    /// The encoded event ids of the entries that are applied by id, each once.
    #[must_use]
    pub fn ids(&self) -> Vec<&[u8]> {
        let mut ids: Vec<&[u8]> = self
            .entries
            .iter()
            .filter(|entry| entry.by_id)
            .map(|entry| entry.row.id())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::Origin;
    use engagement::testing::Sample;

    use super::*;
    use crate::row::EventIdType;

    const NEW: Duration = Duration::from_millis(50);
    const LIMITS: Limits = Limits {
        rows: 3,
        bytes: 100_000,
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn entry(offset: i64, sample: Sample) -> Entry {
        Entry::of(&sample.build(), offset, EventIdType::Int64).unwrap()
    }

    fn at(offset: i64) -> Entry {
        entry(offset + 1000, Sample::new().at_position(3, offset))
    }

    #[test]
    fn rows_bytes_or_a_departure_close_a_batch() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        let (pace, soon) = (Pace::new(SECOND), start + SECOND / 10);
        assert_eq!((batch.due(&pace), batch.next()), (None, None));
        batch.push(at(1), start, NEW);
        assert_eq!(batch.due(&pace), Some(soon));
        batch.push(at(2), start + SECOND, NEW);
        assert!(
            !batch.is_full(&LIMITS)
                && batch.is_full(&Limits {
                    bytes: 200,
                    ..LIMITS
                })
        );
        assert_eq!(pace.departs(soon), soon + SECOND);
        assert_eq!(batch.due(&pace), Some(soon), "it keeps its own");
        batch.push(at(3), start, NEW);
        assert!(batch.is_full(&LIMITS));
        assert_eq!(batch.next(), Some(1004));
    }

    #[test]
    fn live_changes_that_a_backfill_may_have_brought_are_compared_by_id() {
        let (mut batch, now) = (Batch::default(), Instant::now());
        batch.push(at(1), now, NEW);
        batch.push(at(2), now, NEW);
        assert_eq!(batch.backfilled(), 0, "of a backfill only");
        let mut backfill = entry(3, Sample::new().lane(Lane::Backfill));
        backfill.commit_lsn = batch.entries()[1].commit_lsn;
        batch.push(backfill, now, NEW);
        let read_at = batch.backfilled();
        assert_eq!(read_at, batch.entries()[1].commit_lsn);
        let by_id = |batch: &Batch| batch.entries().iter().map(|e| e.by_id).collect::<Vec<_>>();
        batch.compare_by_id(0);
        assert_eq!(by_id(&batch), [false, false, true]);
        batch.compare_by_id(read_at);
        assert_eq!(by_id(&batch), [true, false, true]);
    }

    #[test]
    fn a_batch_of_a_backlog_gathers_for_longer_whatever_was_passed_before() {
        let opened = Instant::now();
        let due = |age| {
            let pace = Pace::new(SECOND);
            let mut batch = Batch::default();
            batch.pass(0, opened);
            assert!(batch.due(&pace).is_some());
            batch.push(at(1), opened, age);
            batch.push(at(2), opened, NEW);
            batch.due(&pace).unwrap() - opened
        };
        assert_eq!(due(LATE), SECOND / 10);
        assert_eq!(due(LATE + SECOND), SECOND / 10 + SECOND * 2);
    }

    #[test]
    fn records_without_rows_move_the_offset_too() {
        let mut batch = Batch::default();
        batch.pass(7, Instant::now());
        assert_eq!((batch.next(), batch.entries().len()), (Some(8), 0));
        let pace = Pace::new(SECOND);
        assert!(
            batch.due(&pace).is_some(),
            "or the offset would wait for the next row"
        );
    }

    #[test]
    fn each_lane_and_epoch_is_one_span_and_snapshots_are_none() {
        let mut batch = Batch::default();
        for entry in [
            at(5),
            at(9),
            entry(20, Sample::new().at_position(3, 1).epoch(1)),
            entry(
                21,
                Sample::new()
                    .at_position(3, 10)
                    .origin(Origin::Snapshot)
                    .event_id(7),
            ),
            entry(
                22,
                Sample::new()
                    .at_position(3, 11)
                    .origin(Origin::Snapshot)
                    .event_id(7),
            ),
        ] {
            batch.push(entry, Instant::now(), NEW);
        }
        let spans: Vec<_> = batch
            .spans()
            .iter()
            .map(|span| (span.epoch, span.from, span.to))
            .collect();
        assert_eq!(spans, [(0, 5, 9), (1, 1, 1)]);
        assert_eq!(batch.ids(), [7_i64.to_le_bytes()]);
    }

    #[test]
    fn each_month_is_one_span_also_that_of_a_row_that_was_replaced() {
        let mut event = Sample::new().at_position(3, 7).build();
        let now = event.event_ts;
        let then = Micros(now.0 - 400 * 86_400_000_000);
        event.previous = Some(engagement::event::Previous {
            event_id: event.event_id.clone(),
            content_id: event.content_id.clone(),
            event_ts: then,
            event_type: event.event_type.clone(),
            duration_ms: None,
        });
        let mut batch = Batch::default();
        batch.push(at(5), Instant::now(), NEW);
        batch.push(
            Entry::of(&event, 1007, EventIdType::Int64).unwrap(),
            Instant::now(),
            NEW,
        );
        let spans: Vec<_> = batch
            .spans()
            .iter()
            .map(|span| (span.from, span.to, span.since, span.until))
            .collect();
        assert_eq!(spans, [(5, 7, now, now), (7, 7, then, then)]);
    }
}
