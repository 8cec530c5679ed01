//! A table that is ahead of the cut by anything, and merged by anything, gives the same sums.

use bytes::Bytes;
use engagement::event::Previous;
use engagement::testing::{EVENT_TS, Sample};
use engagement::wire::{Format, encode};
use proptest::prelude::*;
use redis_aggregator::position::Applied;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

use super::*;

const BUCKET: i64 = 10_000_000;
const FRAME: Frame = Frame {
    oldest: EVENT_TS.0.div_euclid(BUCKET),
    bucket_us: BUCKET,
};

fn record(event: &EnrichedEvent, offset: i64) -> Record {
    let texts = [
        (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
        (ENGAGEMENT_SOURCE, event.source.position().to_string()),
    ];
    let headers = texts.map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))));
    Record {
        topic: "engagement.enriched.v1".into(),
        partition: event.source.partition,
        offset,
        timestamp_ms: None,
        key: None,
        payload: Some(encode(event, Format::Protobuf).into()),
        headers: headers.to_vec(),
    }
}

/// What one record does: an event is made, changed, moved in time, or deleted.
#[derive(Clone, Debug)]
struct Act {
    event: u8,
    content: u8,
    step: i64,
    ms: Option<i64>,
    kind: &'static str,
    deletes: bool,
}

fn act() -> impl Strategy<Value = Act> {
    let kinds = prop::sample::select(vec!["play", "pause", "finish", "click", "other"]);
    let ms = prop::option::of(-5_000_i64..50_000);
    (
        0..6_u8,
        0..3_u8,
        -3..4_i64,
        ms,
        kinds,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(event, content, step, ms, kind, deletes)| Act {
            event,
            content,
            step,
            ms,
            kind,
            deletes,
        })
}

/// The records of one partition, as the enricher would write them.
fn log(acts: &[Act]) -> Vec<EnrichedEvent> {
    let mut living: HashMap<u8, EnrichedEvent> = HashMap::new();
    let mut log = Vec::new();
    for act in acts {
        let offset = i64::try_from(log.len()).unwrap();
        // an event stays with its content: a move goes through two partitions
        let content = living
            .get(&act.event)
            .and_then(|old| old.content_id.clone());
        let content = content.unwrap_or_else(|| format!("c{}", act.content));
        let mut event = Sample::new()
            .event_id(act.event)
            .content_id(content)
            .event_type(act.kind)
            .duration_ms(act.ms)
            .event_ts(Micros(EVENT_TS.0 + act.step * BUCKET))
            .at_position(0, offset)
            .build();
        event.revision = 100 + u64::try_from(offset).unwrap();
        let old = living.remove(&act.event);
        event.previous = old.as_ref().map(|old| Previous {
            event_id: old.event_id.clone(),
            event_ts: old.event_ts,
            content_id: old.content_id.clone(),
            event_type: old.event_type.clone(),
            duration_ms: old.duration_ms,
        });
        if let (true, Some(old)) = (act.deletes, old) {
            event = deletion(&event, old);
        } else {
            living.insert(act.event, event.clone());
        }
        log.push(event);
    }
    log
}

/// In the place of `change`, the end of what it was.
fn deletion(change: &EnrichedEvent, old: EnrichedEvent) -> EnrichedEvent {
    EnrichedEvent {
        previous: change.previous.clone(),
        revision: change.revision,
        source: change.source,
        deleted: true,
        ..old
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
struct Stored {
    key: Key,
    offset: i64,
    deleted: bool,
    sums: Sums,
}

fn stored(event: &EnrichedEvent) -> Vec<Stored> {
    let own = (
        event.event_id.clone(),
        event.event_ts,
        event.content_id.clone().unwrap(),
    );
    let offset = event.source.offset;
    let sums = Sums::of(&event.event_type, event.duration_ms);
    let old = event.previous.as_ref().map(|previous| {
        let content = previous.content_id.clone().unwrap();
        (previous.event_id.clone(), previous.event_ts, content)
    });
    let gone = old.filter(|key| *key != own).map(|key| Stored {
        key,
        offset,
        deleted: true,
        sums: Sums::default(),
    });
    let itself = Stored {
        key: own,
        offset,
        deleted: event.deleted,
        sums,
    };
    gone.into_iter().chain([itself]).collect()
}

/// What the query says of the rows that are visible: some of those behind the cut, some of the older ones merged away.
fn rows(visible: &[Stored], upto: i64, merged: &[bool]) -> Vec<Row> {
    let mut keys: BTreeMap<Key, Vec<&Stored>> = BTreeMap::new();
    for row in visible {
        keys.entry(row.key.clone()).or_default().push(row);
    }
    let mut rows = Vec::new();
    for (index, (key, mut of_key)) in keys.into_iter().enumerate() {
        of_key.sort_by_key(|row| row.offset);
        if merged[index % merged.len()] {
            of_key.drain(..of_key.len() - 1);
        }
        let touched = of_key.iter().any(|row| row.offset >= upto);
        let older = of_key.iter().rev().find(|row| row.offset < upto);
        let older = older.filter(|row| !row.deleted).map(|row| row.sums);
        let (event_id, event_ts, content) = key;
        let key = Touched {
            event_id,
            event_ts,
            older,
        };
        rows.push(Row {
            partition: 0,
            is_alive: true,
            content,
            bucket: FRAME.bucket(event_ts),
            kind: Kind::Stream,
            sums: older.filter(|_| !touched).unwrap_or_default(),
            info: None,
            touched: if touched { vec![key] } else { Vec::new() },
        });
    }
    rows
}

/// What is there after the first records, counted one by one.
fn counted(log: &[EnrichedEvent]) -> BTreeMap<String, Held> {
    let mut all: BTreeMap<String, Held> = BTreeMap::new();
    for change in log.iter().flat_map(contributions).flatten() {
        let held = all.entry(change.content_id.to_owned()).or_default();
        held.add(change.sums, FRAME.bucket(change.event_ts));
    }
    for held in all.values_mut() {
        held.buckets.retain(|_, sums| !sums.is_zero());
    }
    all.retain(|_, held| !held.is_empty());
    all
}

fn replay(log: &[EnrichedEvent], from: usize, upto: i64) -> Replay {
    let last = from.checked_sub(1).map(|index| &log[index]);
    let position = last.map(|event| event.source.position());
    let applied = Applied {
        source: position,
        before: position,
        enriched: i64::try_from(from).unwrap() - 1,
    };
    let history = last.map_or(History::Empty, |_| History::Closed);
    let goal = Goal {
        applied,
        history,
        watermark: FRAME.oldest,
    };
    let mut replay = Replay::new(goal, upto, FRAME);
    for event in &log[from..] {
        replay.take(&record(event, event.source.offset));
    }
    replay
}

proptest! {
    #[test]
    fn the_sums_at_the_beginning_do_not_depend_on_what_the_table_held_behind_the_cut(
        acts in prop::collection::vec(act(), 1..40),
        (from, upto) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        seen in prop::collection::vec(any::<bool>(), 40),
        merged in prop::collection::vec(any::<bool>(), 7),
    ) {
        let log = log(&acts);
        let (a, b) = (from.index(log.len() + 1), upto.index(log.len() + 1));
        let (from, upto) = (a.min(b), i64::try_from(a.max(b)).unwrap());
        let behind = |event: &&EnrichedEvent| {
            event.source.offset < upto || seen[usize::try_from(event.source.offset).unwrap()]
        };
        let visible: Vec<Stored> = log.iter().filter(behind).flat_map(stored).collect();
        let replay = replay(&log, from, upto);
        let made = made(&replay, &rows(&visible, upto, &merged));
        prop_assert_eq!(replay.hole, None);
        prop_assert_eq!(made.lacking, Vec::new());
        let mut found = made.contents;
        found.values_mut().for_each(|held| held.beside.clear());
        prop_assert_eq!(found, counted(&log[..from]));
    }
}

fn three() -> Vec<EnrichedEvent> {
    let event = |n: i64| Sample::new().event_id(n).content_id("c").at_position(0, n);
    (0..3).map(|n| event(n).build()).collect()
}

#[test]
fn an_event_that_the_log_holds_and_the_table_does_not_is_named() {
    let mut log = three();
    // what the content had before does not hide it: that is in no window
    log[0].event_ts = Micros(EVENT_TS.0 - 3_600_000_000);
    let visible: Vec<Stored> = [&log[0], &log[2]].into_iter().flat_map(stored).collect();
    let made = made(&replay(&log, 1, 3), &rows(&visible, 3, &[false]));
    let lack = Lack {
        content: "c".into(),
        events: 1,
    };
    assert_eq!(made.lacking, [lack]);
}

#[test]
fn a_row_that_a_backfill_has_put_in_the_place_of_one_of_the_stream_is_no_lack() {
    let log = three();
    let visible: Vec<Stored> = log.iter().flat_map(stored).collect();
    let mut rows = rows(&visible, 3, &[false]);
    rows[1].kind = Kind::Beside;
    let made = made(&replay(&log, 1, 3), &rows);
    assert_eq!(made.lacking, []);
    assert_eq!(made.contents["c"].totals.events, 1);
}

#[test]
fn what_only_a_backfill_brought_is_in_the_totals_and_in_no_window() {
    let log = three();
    let mut visible: Vec<Stored> = log.iter().flat_map(stored).collect();
    let event = Sample::new().event_id(9).content_id("c").at_position(0, 0);
    visible.extend(stored(&event.build()));
    let mut rows = rows(&visible, 3, &[false]);
    let beside = rows.iter_mut().find(|row| row.sums.events == 1).unwrap();
    beside.kind = Kind::Beside;
    let made = made(&replay(&log, 3, 3), &rows);
    let held = &made.contents["c"];
    let in_buckets: i64 = held.buckets.values().map(|sums| sums.events).sum();
    assert_eq!((held.totals.events, in_buckets), (4, 3));
}

#[test]
fn a_log_with_a_hole_is_refused() {
    let mut log = three();
    log.remove(1);
    let replay = replay(&log, 0, 9);
    assert!(replay.hole.unwrap().contains("records are missing"));
}
