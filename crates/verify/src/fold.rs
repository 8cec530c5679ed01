//! The state that the enriched topic describes, computed from its records. Pure.
//!
//! Invariant: memory is bounded by a number of slots, or by the rows of the few slots that are looked into.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use engagement::event::{EnrichedEvent, Micros};
use stream::Record;

use crate::cell::Cell;
use crate::chain::{Chain, Taken};
use crate::change::{Image, images};
use crate::late::Late;
use crate::rows::NamedRow;
use crate::slots::{Slots, slot_of};
use crate::sources::Options;

/// Rows that are kept to name what differs.
const MOST_ROWS: usize = 200_000;

/// What is being made of the images.
#[derive(Debug)]
pub(crate) enum Into {
    /// Sums of everything.
    Slots(Slots),
    /// The rows of some slots.
    Rows(Focus),
}

/// The rows of a few slots: how often each is there.
#[derive(Debug, Default)]
pub(crate) struct Focus {
    slots: HashSet<usize>,
    rows: HashMap<(Cell, String), Images>,
    pub(crate) is_full: bool,
}

/// How often an event is there with which type and duration.
type Images = HashMap<(String, Option<i64>), i64>;

/// What reading a topic counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) records: u64,
    pub(crate) duplicates: u64,
    pub(crate) by_id: u64,
    pub(crate) replaced: u64,
    /// Records that are no enriched event, which some sink has in its dead letters.
    pub(crate) given_up: u64,
    pub(crate) holes: Vec<(String, String)>,
    pub(crate) all_holes: u64,
    /// Records that are no enriched event, by place.
    pub(crate) unreadable: Vec<(String, String)>,
    pub(crate) all_unreadable: u64,
}

/// The fold of all partitions.
pub(crate) struct Fold {
    options: Arc<Options>,
    without: Arc<HashSet<String>>,
    /// Where the retained log covers every event.
    covered_from: Option<Micros>,
    chains: BTreeMap<i32, Chain>,
    /// Places of records that a sink has in its dead letters.
    pub(crate) given_up: Arc<HashSet<(i32, i64)>>,
    pub(crate) late: Late,
    /// In the first reading it is not known yet which events will be followed by id.
    knows_late: bool,
    pub(crate) into: Into,
    pub(crate) counted: Counted,
}

impl Fold {
    pub(crate) fn new(
        options: Arc<Options>,
        without: Arc<HashSet<String>>,
        covered_from: Option<Micros>,
    ) -> Self {
        Self {
            options,
            without,
            covered_from,
            chains: BTreeMap::new(),
            given_up: Arc::default(),
            late: Late::default(),
            knows_late: false,
            into: Into::Slots(Slots::new()),
            counted: Counted::default(),
        }
    }

    /// What was read has rows that count by id, or a snapshot that was taken again: it must be read a second time.
    pub(crate) fn needs_again(&self) -> bool {
        !self.late.is_empty() || self.chains.values().any(|chain| chain.replaced > 0)
    }

    /// The same log from its start, now knowing what counts.
    pub(crate) fn again(&mut self, into: Into) {
        for chain in self.chains.values_mut() {
            *chain = chain.again();
        }
        self.knows_late = true;
        self.into = into;
        self.counted = Counted::default();
    }

    /// Takes one record; the event, unless it is a repeat or none.
    pub(crate) fn take(&mut self, record: &Record) -> Option<EnrichedEvent> {
        self.counted.records += 1;
        let chain = self.chains.entry(record.partition).or_default();
        let taken = chain.take(record);
        if let Some(hole) = chain.hole.take() {
            self.counted.all_holes += 1;
            note(&mut self.counted.holes, record, hole);
        }
        match taken {
            Taken::Duplicate => {
                self.counted.duplicates += 1;
                None
            }
            Taken::Unreadable(_) if self.given_up.contains(&(record.partition, record.offset)) => {
                self.counted.given_up += 1;
                None
            }
            Taken::Unreadable(reason) => {
                self.counted.all_unreadable += 1;
                note(&mut self.counted.unreadable, record, reason);
                None
            }
            Taken::Replaced(event) => {
                self.counted.replaced += 1;
                Some(*event)
            }
            Taken::ById(event) => {
                self.by_id(&event);
                Some(*event)
            }
            Taken::Change(event) => {
                self.change(&event);
                Some(*event)
            }
        }
    }

    /// Adds what was followed by id. To be called once, after the last record.
    pub(crate) fn finish(&mut self) {
        for (at, row) in self.late.rows() {
            if self.wants(at, &row.id) {
                self.into.put(&image_of(&row, at), 1);
            }
        }
    }

    fn by_id(&mut self, event: &EnrichedEvent) {
        self.counted.by_id += 1;
        if self.knows_late {
            self.late.follow(event);
        } else {
            self.late.watch(&event.event_id);
        }
    }

    fn change(&mut self, event: &EnrichedEvent) {
        if self.knows_late && self.late.has(&event.event_id) {
            self.late.follow(event);
            return;
        }
        let (gone, came) = images(event);
        for (image, times) in [(gone, -1), (came, 1)] {
            let Some(image) = image else { continue };
            let by_id = self.knows_late && self.late.has(image.id);
            if !by_id && self.wants(image.at, image.id) {
                self.into.put(&image, times);
            }
        }
    }

    fn wants(&self, at: Micros, id: &str) -> bool {
        self.options.covers(at)
            && self.covered_from.is_none_or(|from| at >= from)
            && !self.without.contains(id)
    }
}

fn image_of(row: &NamedRow, at: Micros) -> Image<'_> {
    Image {
        id: &row.id,
        at,
        content: row.cell.content.as_deref(),
        event_type: &row.event_type,
        duration_ms: row.duration_ms,
    }
}

/// The first of many, by place.
fn note(list: &mut Vec<(String, String)>, record: &Record, what: String) {
    const FIRST: usize = 100;
    if list.len() < FIRST {
        let place = format!("{}/{}@{}", record.topic, record.partition, record.offset);
        list.push((place, what));
    }
}

impl Into {
    fn put(&mut self, image: &Image<'_>, times: i64) {
        match self {
            Self::Slots(slots) if times > 0 => slots.add(&image.cell(), image.digest()),
            Self::Slots(slots) => slots.remove(&image.cell(), image.digest()),
            Self::Rows(focus) => focus.put(image, times),
        }
    }
}

impl Focus {
    pub(crate) fn on(slots: impl IntoIterator<Item = usize>) -> Self {
        Self {
            slots: slots.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn wants(&self, cell: &Cell) -> bool {
        self.slots.contains(&slot_of(cell))
    }

    fn put(&mut self, image: &Image<'_>, times: i64) {
        let cell = image.cell();
        if !self.wants(&cell) {
            return;
        }
        let key = (cell, image.id.to_owned());
        if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(&key) {
            self.is_full = true;
            return;
        }
        let values = (image.event_type.to_owned(), image.duration_ms);
        let row = self.rows.entry(key.clone()).or_default();
        let count = row.entry(values.clone()).or_default();
        *count += times;
        if *count == 0 {
            row.remove(&values);
        }
        if row.is_empty() {
            self.rows.remove(&key);
        }
    }

    /// The rows that are there, in the order of cells, then ids; one that is there twice comes twice.
    pub(crate) fn into_rows(self) -> Vec<NamedRow> {
        let mut rows: Vec<NamedRow> = Vec::new();
        for ((cell, id), values) in self.rows {
            for ((event_type, duration_ms), times) in values {
                let row = NamedRow {
                    cell: cell.clone(),
                    id: id.clone(),
                    event_type,
                    duration_ms,
                };
                let times = usize::try_from(times).unwrap_or(0);
                rows.extend(std::iter::repeat_n(row, times));
            }
        }
        rows.sort_by(|a, b| (&a.cell, &a.id).cmp(&(&b.cell, &b.id)));
        rows
    }
}

#[cfg(test)]
mod tests;
