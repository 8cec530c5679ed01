//! What a partition holds at a position, from rows of a table that is ahead of it, and from the log. Pure.
//!
//! ClickHouse is complete below a cut X and may already hold some of what comes after. A row of the table is *touched* when a record from
//! X on has written its sort key: what it was at X is what the first of these records says it replaces. That gives the sums at X. The
//! lane begins earlier, at K, so that it recomputes the windows itself: what it will count between K and X is taken away.
//! Invariant: the result does not depend on what the table held of what comes after X, nor on what it has merged away.

use std::collections::{BTreeMap, HashMap};

use engagement::event::{EnrichedEvent, Lane, Micros, Origin};
use redis_aggregator::chain::{Chain, Step};
use redis_aggregator::content::Info;
use redis_aggregator::decode::{decode, header_position};
use redis_aggregator::history::{History, Verdict};
use redis_aggregator::rebuild::Goal;
use redis_aggregator::sums::{Sums, contributions};
use redis_aggregator::window::bucket_of;
use stream::Record;
use stream::redrive::{Address, address};

/// Buckets that a window can still need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The oldest of them.
    pub(super) oldest: i64,
    /// Microseconds of a bucket.
    pub(super) bucket_us: i64,
}

impl Frame {
    fn bucket(self, at: Micros) -> Option<i64> {
        let bucket = bucket_of(at, self.bucket_us);
        (bucket >= self.oldest).then_some(bucket)
    }
}

/// How the newest row of an event came into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// By the stream.
    Stream,
    /// By Debezium's snapshot.
    Snapshot,
    /// By a backfill or a letter that was sent back: windows leave it out.
    Beside,
}

/// The rows of one content in one bucket (or in none) that came in one way, summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Partition of the log.
    pub(super) partition: i32,
    /// There is a row that is no deletion: a deletion may name the partition that the event has moved to.
    pub(super) is_alive: bool,
    pub(super) content: String,
    pub(super) bucket: Option<i64>,
    pub(super) kind: Kind,
    /// Of the rows that no record from the cut on has touched.
    pub(super) sums: Sums,
    pub(super) info: Option<Info>,
    pub(super) touched: Vec<Touched>,
}

/// A sort key that a record from the cut on has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) event_id: String,
    pub(super) event_ts: Micros,
    /// Its newest row from before the cut, if the table still holds one that is no deletion.
    pub(super) older: Option<Sums>,
}

/// What a content has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) totals: Sums,
    pub(super) buckets: BTreeMap<i64, Sums>,
    pub(super) info: Option<Info>,
    /// Events whose newest row came beside the stream: it may have replaced one that windows count.
    beside: BTreeMap<i64, i64>,
}

impl Held {
    fn add(&mut self, sums: Sums, bucket: Option<i64>) {
        self.totals += sums;
        if let Some(bucket) = bucket {
            *self.buckets.entry(bucket).or_default() += sums;
        }
    }

    fn is_empty(&self) -> bool {
        self.totals.is_zero() && self.buckets.is_empty()
    }

    /// How many events there are fewer than none, at most; rows from beside the stream explain what a bucket lacks.
    fn lacking(&self) -> Option<i64> {
        let fewer = |sums: &Sums| sums.events < 0 || (sums.events == 0 && !sums.is_zero());
        let in_bucket = |(bucket, sums): (&i64, &Sums)| {
            let explained = self.beside.get(bucket).copied().unwrap_or(0);
            let is_explained = explained > 0 && sums.events + explained >= 0;
            (fewer(sums) && !is_explained).then_some(-sums.events)
        };
        let of_buckets = self.buckets.iter().filter_map(in_bucket).max();
        let of_totals = fewer(&self.totals).then_some(-self.totals.events);
        of_totals.max(of_buckets).map(|events| events.max(1))
    }
}

/// An event under one sort key: id, time, content.
type Key = (String, Micros, String);

/// A partition of the log from K on, as a lane will count it.
#[derive(Debug)]
pub(super) struct Replay {
    chain: Chain,
    history: History,
    goal: Goal,
    /// The offset X.
    upto: i64,
    frame: Frame,
    counted: HashMap<String, Held>,
    /// What stood at X under each key that a record from X on mentions.
    at_cut: HashMap<Key, Option<Sums>>,
    /// Records between K and X.
    pub(super) records: u64,
    /// Of them, those that are in a window now.
    pub(super) in_windows: u64,
    /// What stops a lane.
    pub(super) hole: Option<String>,
}

impl Replay {
    pub(super) fn new(goal: Goal, upto: i64, frame: Frame) -> Self {
        Self {
            chain: Chain::after(&goal.applied),
            history: goal.history,
            goal,
            upto,
            frame,
            counted: HashMap::new(),
            at_cut: HashMap::new(),
            records: 0,
            in_windows: 0,
            hole: None,
        }
    }

    /// Where the lane will begin, and with what.
    pub(super) const fn goal(&self) -> Goal {
        self.goal
    }

    /// ClickHouse is complete below.
    pub(super) const fn upto(&self) -> i64 {
        self.upto
    }

    /// Takes the next record of the partition.
    pub(super) fn take(&mut self, record: &Record) {
        if self.hole.is_some() {
            return;
        }
        self.records += u64::from(record.offset < self.upto);
        if address(record, redis_aggregator::metrics::SERVICE, None) != Address::Everyone {
            return self.chain.pass(header_position(record));
        }
        let Ok(event) = decode(record) else {
            return self.chain.skip(header_position(record));
        };
        match self.chain.follow(&event.source) {
            Ok(Step::Next) => self.event(&event, record.offset),
            Ok(Step::Duplicate) => {}
            Err(hole) => self.hole = Some(hole.to_string()),
        }
    }

    fn event(&mut self, event: &EnrichedEvent, offset: i64) {
        let (verdict, history) = self.history.judge(event);
        self.history = history;
        if offset >= self.upto {
            return self.mention(event);
        }
        match verdict {
            Verdict::Skip => return,
            Verdict::Replace => self.counted.clear(),
            Verdict::Count => {}
        }
        for change in contributions(event).into_iter().flatten() {
            let bucket = self.frame.bucket(change.event_ts);
            self.in_windows += u64::from(bucket.is_some() && change.sums.events > 0);
            let held = self
                .counted
                .entry(change.content_id.to_owned())
                .or_default();
            held.add(change.sums, bucket);
        }
    }

    /// Only the first record that mentions a key knows what was there before.
    fn mention(&mut self, event: &EnrichedEvent) {
        if event.source.lane != Lane::Live || event.origin != Origin::Stream {
            return;
        }
        let [gone, came] = contributions(event);
        let previous = event.previous.as_ref();
        let before = previous.map_or(&event.event_id, |previous| &previous.event_id);
        for (change, id, is_gone) in [(gone, before, true), (came, &event.event_id, false)] {
            let Some(change) = change else { continue };
            let key = (id.clone(), change.event_ts, change.content_id.to_owned());
            self.at_cut
                .entry(key)
                .or_insert_with(|| is_gone.then_some(-change.sums));
        }
    }

    /// Windows count what the lane has counted or will count: a snapshot from before the stream, never one that came later.
    fn is_in_windows(&self, kind: Kind) -> bool {
        match kind {
            Kind::Stream => true,
            Kind::Snapshot => self.goal.history != History::Closed,
            Kind::Beside => false,
        }
    }

    /// What the touched keys of a row were at X.
    fn image(&self, row: &Row, touched: &Touched) -> Option<Sums> {
        let Touched {
            event_id,
            event_ts,
            older,
        } = touched;
        let key = (event_id.clone(), *event_ts, row.content.clone());
        self.at_cut.get(&key).map_or(*older, |known| *known)
    }
}

/// A content of which the log holds more than the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) content: String,
    /// Events that are missing.
    pub(super) events: i64,
}

/// A partition as it was at K.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) contents: BTreeMap<String, Held>,
    /// Events in the table at X.
    pub(super) events: i64,
    pub(super) lacking: Vec<Lack>,
}

/// The sums at K.
pub(super) fn made(replay: &Replay, rows: &[Row]) -> Made {
    let mut made = Made::default();
    for row in rows {
        let held = made.contents.entry(row.content.clone()).or_default();
        let bucket = row.bucket.filter(|_| replay.is_in_windows(row.kind));
        if let (Some(beside), None) = (row.bucket, bucket) {
            *held.beside.entry(beside).or_default() += row.sums.events;
        }
        held.add(row.sums, bucket);
        let images = row.touched.iter().filter_map(|key| replay.image(row, key));
        images.for_each(|sums| held.add(sums, bucket));
        if row.info.is_some() {
            held.info.clone_from(&row.info);
        }
    }
    made.events = made.contents.values().map(|held| held.totals.events).sum();
    for (content, counted) in &replay.counted {
        let held = made.contents.entry(content.clone()).or_default();
        held.totals += -counted.totals;
        for (bucket, sums) in &counted.buckets {
            *held.buckets.entry(*bucket).or_default() += -*sums;
        }
    }
    finish(&mut made, replay.goal.applied.enriched < 0);
    made
}

/// Names what cannot be, and leaves out what is nothing. Before the first record of a log there are no windows.
fn finish(made: &mut Made, is_beginning: bool) {
    for (content, held) in &mut made.contents {
        made.lacking.extend(held.lacking().map(|events| Lack {
            content: content.clone(),
            events,
        }));
        held.buckets
            .retain(|_, sums| sums.events > 0 && !is_beginning);
    }
    made.contents.retain(|_, held| !held.is_empty());
}

#[cfg(test)]
mod tests;
