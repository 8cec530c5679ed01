//! The fold of any history is the state that the history ends in.

use bytes::Bytes;
use engagement::event::Origin;
use engagement::testing::{EVENT_TS, Sample};
use engagement::wire::{Format, encode};
use proptest::prelude::*;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

use super::*;
use crate::cell::Digest;

/// What a history does to one of a few events.
#[derive(Clone, Debug)]
enum Step {
    /// Sets minute, content and duration; the first time it is an insert.
    Write(usize, i64, u8, Option<i64>),
    Delete(usize),
    /// The record before is written again by an instance that should be gone.
    Repeat,
    /// A snapshot reads all rows again.
    Snapshot,
}

#[derive(Default)]
struct History {
    offset: i64,
    records: Vec<Record>,
    rows: BTreeMap<usize, EnrichedEvent>,
}

impl History {
    fn push(&mut self, mut event: EnrichedEvent) {
        event.source.offset = self.offset;
        event.source.prev = self.offset - 1;
        event.source.partition = 0;
        event.revision = u64::try_from(self.offset).unwrap() + 1;
        self.offset += 1;
        self.records.push(record(&event, self.records.len()));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(id, minute, content, ms) => {
                let at = Micros(EVENT_TS.0 + minute * crate::cell::MINUTE);
                let mut event = Sample::new()
                    .event_id(id)
                    .event_ts(at)
                    .duration_ms(*ms)
                    .build();
                event.content_id = (*content > 0).then(|| format!("c{content}"));
                self.write(*id, event);
            }
            Step::Delete(id) => {
                if let Some(mut row) = self.rows.remove(id) {
                    (row.deleted, row.moved) = (true, false);
                    row.previous = None;
                    self.push(row);
                }
            }
            Step::Repeat => {
                let last = self.records.last().cloned();
                self.records.extend(last);
            }
            Step::Snapshot => {
                for mut row in self.rows.clone().into_values() {
                    (row.origin, row.moved) = (Origin::Snapshot, false);
                    row.previous = None;
                    self.push(row);
                }
            }
        }
    }

    fn write(&mut self, id: usize, event: EnrichedEvent) {
        let mut event = match self.rows.get(&id).cloned() {
            None => event,
            Some(old) if old.content_id == event.content_id => replacing(event, &old),
            Some(old) => {
                // To another content: a deletion under the old key, a new row under the new one.
                let mut gone = replacing(old.clone(), &old);
                (gone.deleted, gone.moved) = (true, true);
                self.push(gone);
                let mut came = replacing(event, &old);
                came.moved = true;
                came
            }
        };
        event.origin = Origin::Stream;
        self.push(event.clone());
        self.rows.insert(id, event);
    }
}

fn replacing(mut event: EnrichedEvent, old: &EnrichedEvent) -> EnrichedEvent {
    event.previous = Some(engagement::event::Previous {
        event_id: old.event_id.clone(),
        event_ts: old.event_ts,
        content_id: old.content_id.clone(),
        event_type: old.event_type.clone(),
        duration_ms: old.duration_ms,
    });
    event
}

fn record(event: &EnrichedEvent, offset: usize) -> Record {
    let text = |name: &str, value: String| (name.to_owned(), Some(Bytes::from(value)));
    Record {
        topic: "enriched".into(),
        partition: 0,
        offset: i64::try_from(offset).unwrap(),
        timestamp_ms: None,
        key: None,
        payload: Some(encode(event, Format::Protobuf).into()),
        headers: vec![
            text(CONTENT_TYPE, Format::Protobuf.content_type().into()),
            text(ENGAGEMENT_SOURCE, event.source.position().to_string()),
        ],
    }
}

fn fold_of(records: &[Record]) -> Fold {
    let mut fold = Fold::new(Arc::default(), Arc::default(), None);
    for record in records {
        fold.take(record);
    }
    if fold.needs_again() {
        fold.again(Into::Slots(Slots::new()));
        for record in records {
            fold.take(record);
        }
    }
    fold.finish();
    fold
}

/// Slots that differ between the fold and these rows.
fn differences(fold: &mut Fold, rows: &BTreeMap<usize, EnrichedEvent>) -> usize {
    let Into::Slots(slots) = &mut fold.into else {
        panic!("sums were asked for")
    };
    for row in rows.values() {
        let cell = Cell::of(row.event_ts, row.content_id.as_deref());
        slots.expect(
            &cell,
            Digest::of(&row.event_id, &row.event_type, row.duration_ms),
        );
    }
    slots.differing().count()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_usize, 0..3_i64, 0..3_u8, proptest::option::of(0..100_i64))
            .prop_map(|(id, minute, content, ms)| Step::Write(id, minute, content, ms)),
        3 => (0..6_usize).prop_map(Step::Delete),
        1 => Just(Step::Repeat),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #[test]
    fn the_fold_of_a_history_is_the_state_it_ends_in(steps in proptest::collection::vec(step(), 0..40)) {
        let mut history = History::default();
        steps.iter().for_each(|step| history.step(step));
        let mut fold = fold_of(&history.records);
        prop_assert_eq!(fold.counted.all_holes, 0);
        prop_assert_eq!(differences(&mut fold, &history.rows), 0);
    }

    #[test]
    fn a_record_lost_from_a_history_is_a_hole_and_a_difference(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut history = History::default();
        // An event of its own that nothing touches later.
        history.step(&Step::Write(100, 0, 1, Some(5)));
        steps.iter().for_each(|step| history.step(step));
        history.step(&Step::Write(101, 0, 1, Some(5)));
        history.step(&Step::Write(102, 0, 1, Some(5)));
        let lost = history.records.len() - 2;
        history.records.remove(lost);
        let mut fold = fold_of(&history.records);
        prop_assert_eq!(fold.counted.all_holes, 1);
        prop_assert!(differences(&mut fold, &history.rows) > 0);
    }
}

#[test]
fn a_snapshot_that_was_taken_again_replaces_the_first() {
    let mut history = History::default();
    let row = |id: i64, revision: u64, offset: i64| {
        let mut event = Sample::new().event_id(id).origin(Origin::Snapshot).build();
        (event.source.offset, event.source.prev, event.revision) = (offset, offset - 1, revision);
        event.previous = None;
        event
    };
    let events = [row(1, 5, 0), row(2, 5, 1), row(2, 9, 2), row(3, 9, 3)];
    for (at, event) in events.iter().enumerate() {
        history.records.push(record(event, at));
    }
    history.rows = [(2, events[2].clone()), (3, events[3].clone())].into();
    let mut fold = fold_of(&history.records);
    assert_eq!(fold.counted.replaced, 2);
    assert_eq!(differences(&mut fold, &history.rows), 0);
}

#[test]
fn rows_of_a_few_slots_are_named_with_their_values() {
    let mut history = History::default();
    history.step(&Step::Write(1, 0, 1, Some(5)));
    history.step(&Step::Write(2, 0, 1, None));
    history.step(&Step::Write(1, 0, 1, Some(6)));
    let cell = Cell::of(EVENT_TS, Some("c1"));
    let mut fold = fold_of(&history.records);
    fold.again(Into::Rows(Focus::on([slot_of(&cell)])));
    for record in &history.records {
        fold.take(record);
    }
    fold.finish();
    let Into::Rows(focus) = fold.into else {
        panic!("rows were asked for")
    };
    let rows = focus.into_rows();
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.id.as_str(), row.duration_ms))
        .collect();
    assert_eq!(found, [("1", Some(6)), ("2", None)]);
}
