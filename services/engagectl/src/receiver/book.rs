//! What was received: counts, the last events, freshness. Pure: time is an argument.
//!
//! Invariant: `unique_events` is the number of events that exist according to what was received:
//! repeats count once, and an event whose newest revision is a deletion does not count.

use std::collections::{BTreeMap, VecDeque};

use ::verify::delivery::{Delivered, Page, RunSum, Summary, hash_of, key_of};
use serde::Serialize;
use serde_json::value::RawValue;

use super::distinct::{Added, Distinct};
use super::living::Living;
use super::message::Item;
use super::quantile::Quantiles;
use super::record::Entry;
use super::runs::Runs;

/// Event types counted by name; further ones count as `(other)`.
const NAMED_TYPES: usize = 64;
/// Messages with a changed body that are named.
const CHANGED_IDS: usize = 100;
/// Bodies longer than this are not kept for display.
const KEPT_BODY_BYTES: usize = 16 * 1024;

/// The state behind `/stats` and `/events`.
#[derive(Debug)]
pub(super) struct Book {
    started_at: i64,
    keep: usize,
    counts: Counts,
    messages: Distinct,
    runs: Runs,
    changed_ids: Vec<String>,
    events: Living,
    types: BTreeMap<String, u64>,
    freshness: Quantiles,
    last: VecDeque<Kept>,
}

/// Plain counters.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    /// HTTP requests that brought events, failed ones included.
    pub(super) requests: u64,
    /// Events taken, repeats included.
    pub(super) events: u64,
    /// Events whose message was taken before.
    pub(super) duplicates: u64,
    /// Duplicates whose body differs from the first one: must stay 0.
    pub(super) changed_bodies: u64,
    /// Deletions taken.
    pub(super) deletions: u64,
    /// Requests refused for their signature.
    pub(super) signature_failures: u64,
    /// Requests or items refused because they are no event.
    pub(super) malformed: u64,
    /// Requests failed on purpose.
    pub(super) faults_injected: u64,
}

/// One event as shown by `/events`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kept {
    received_at: String,
    webhook_id: String,
    duplicate: bool,
    freshness_ms: Option<u64>,
    event: Option<Box<RawValue>>,
}

/// The answer of `/stats`.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    uptime_seconds: i64,
    #[serde(flatten)]
    counts: Counts,
    unique_messages: usize,
    unique_events: usize,
    /// More ids came than are kept: unique counts are lower bounds.
    distinct_full: bool,
    event_types: BTreeMap<String, u64>,
    /// What came with the header of a backfill, the oldest run first.
    backfills: Vec<RunSum>,
    /// Commit in Postgres to first received here.
    freshness_ms: Freshness,
}

#[derive(Debug, Serialize)]
struct Freshness {
    samples: u64,
    p50: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

impl Book {
    pub(super) fn new(keep: usize, distinct_limit: usize, now: i64) -> Self {
        Self {
            started_at: now,
            keep,
            counts: Counts::default(),
            messages: Distinct::new(distinct_limit),
            runs: Runs::new(distinct_limit),
            changed_ids: Vec::new(),
            events: Living::new(distinct_limit),
            types: BTreeMap::new(),
            freshness: Quantiles::default(),
            last: VecDeque::new(),
        }
    }

    pub(super) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Takes one event. `body` is its own JSON text, `now` in microseconds.
    pub(super) fn take(&mut self, webhook_id: &str, item: &Item, body: &RawValue, now: i64) {
        let added = self.add(webhook_id, item, hash_of(body.get().as_bytes()));
        let freshness_ms = item.committed_at.map(|at| {
            let micros = now.saturating_sub(at.0).max(0).unsigned_abs();
            micros / 1000
        });
        if let (Added::New, Some(millis)) = (added, freshness_ms) {
            self.freshness.add(millis);
        }
        self.keep(Kept {
            received_at: engagement::event::Micros(now).to_string(),
            webhook_id: webhook_id.to_owned(),
            duplicate: added != Added::New,
            freshness_ms,
            event: (body.get().len() <= KEPT_BODY_BYTES).then(|| body.to_owned()),
        });
    }

    /// Takes what was taken by an earlier process: counts, but no text and no freshness.
    pub(super) fn replay(&mut self, entry: &Entry) {
        self.add(&entry.id, &entry.item(), entry.body());
    }

    fn add(&mut self, webhook_id: &str, item: &Item, body: u64) -> Added {
        let key = key_of(webhook_id);
        let added = self.messages.add(key, body);
        self.runs.note(added, item.run, key, body);
        self.counts.events += 1;
        match added {
            Added::New => self.first(item),
            Added::Repeat => self.counts.duplicates += 1,
            Added::Changed => {
                self.counts.duplicates += 1;
                self.counts.changed_bodies += 1;
                if self.changed_ids.len() < CHANGED_IDS {
                    self.changed_ids.push(webhook_id.to_owned());
                }
            }
        }
        added
    }

    /// What a comparison needs first.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            slots: self.messages.sums(),
            repeats: self.counts.duplicates - self.counts.changed_bodies,
            changed: self.counts.changed_bodies,
            changed_ids: self.changed_ids.clone(),
            full: self.messages.is_full() || self.runs.is_full(),
            runs: Some(self.runs.sums()),
        }
    }

    /// The same of one backfill alone.
    pub(super) fn summary_of(&self, run: i64) -> Summary {
        let sums = self.runs.sums().into_iter().filter(|sum| sum.run == run);
        let sums: Vec<RunSum> = sums.collect();
        Summary {
            slots: self.runs.slots(run),
            repeats: sums.iter().map(|sum| sum.repeats).sum(),
            full: self.runs.is_full(),
            runs: Some(sums),
            ..Summary::default()
        }
    }

    /// The messages of one slot.
    pub(super) fn page(&self, slot: usize, after: u64, limit: usize) -> Page {
        let messages = self.messages.page(slot, after, limit).into_iter();
        let told = messages.map(|(key, body)| Delivered::new(key, body, self.runs.of(key)));
        Page(told.collect())
    }

    fn first(&mut self, item: &Item) {
        if item.deleted {
            self.counts.deletions += 1;
            if !item.moved {
                self.events.note(&item.event_id, item.revision, true);
            }
            return;
        }
        self.events.note(&item.event_id, item.revision, false);
        let known = self.types.contains_key(&item.event_type);
        let name = if known || self.types.len() < NAMED_TYPES {
            item.event_type.as_str()
        } else {
            "(other)"
        };
        *self.types.entry(name.to_owned()).or_default() += 1;
    }

    fn keep(&mut self, kept: Kept) {
        self.last.push_front(kept);
        self.last.truncate(self.keep);
    }

    /// The last events, newest first.
    pub(super) fn last(&self, limit: usize) -> Vec<Kept> {
        self.last.iter().take(limit).cloned().collect()
    }

    pub(super) fn stats(&self, now: i64) -> Stats {
        let samples = self.freshness.samples();
        Stats {
            uptime_seconds: now.saturating_sub(self.started_at) / 1_000_000,
            counts: self.counts.clone(),
            unique_messages: self.messages.len(),
            unique_events: self.events.len(),
            distinct_full: self.messages.is_full() || self.events.is_full(),
            event_types: self.types.clone(),
            backfills: self.runs.sums(),
            freshness_ms: Freshness {
                samples,
                p50: self.freshness.at(500),
                p99: self.freshness.at(990),
                max: (samples > 0).then(|| self.freshness.max()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::event::Micros;
    use serde_json::{Value, json};

    fn item(event_id: &str) -> Item {
        Item {
            event_id: event_id.into(),
            event_type: "play".into(),
            revision: 1,
            deleted: false,
            moved: false,
            committed_at: Some(Micros(1_000_000)),
            run: None,
        }
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    fn stats(book: &Book) -> Value {
        serde_json::to_value(book.stats(3_500_000)).unwrap()
    }

    #[test]
    fn repeats_count_once_and_a_changed_body_is_noticed() {
        let mut book = Book::new(10, 100, 0);
        book.take("a", &item("1"), &raw("{}"), 1_250_000);
        book.take("a", &item("1"), &raw("{}"), 1_250_000);
        book.take("a", &item("1"), &raw("{ }"), 1_250_000);
        book.take("b", &item("2"), &raw("{}"), 1_250_000);
        let stats = stats(&book);
        assert_eq!(stats["events"], 4);
        assert_eq!(stats["duplicates"], 2);
        assert_eq!(stats["changed_bodies"], 1);
        assert_eq!(stats["unique_events"], 2);
        assert_eq!(stats["event_types"], json!({"play": 2}));
        assert_eq!(stats["uptime_seconds"], 3);
        assert_eq!(
            stats["freshness_ms"],
            json!({"samples": 2, "p50": 250, "p99": 250, "max": 250})
        );
    }

    #[test]
    fn what_a_backfill_brought_is_told_apart_and_a_repeat_is_one_of_its_own() {
        let mut book = Book::new(10, 100, 0);
        let past = Item {
            run: Some(7),
            ..item("1")
        };
        book.take("live", &item("1"), &raw("{}"), 0);
        for id in ["past", "past", "other"] {
            book.take(id, &past, &raw("{}"), 0);
        }
        let all = book.summary();
        let expected = RunSum {
            run: 7,
            messages: 2,
            repeats: 1,
        };
        assert_eq!((all.runs, all.repeats), (Some(vec![expected]), 1));
        assert_eq!(stats(&book)["backfills"], json!([expected]));
        let of_run = book.summary_of(7);
        let count = |summary: &Summary| summary.slots.iter().map(|slot| slot.0).sum::<u64>();
        assert_eq!((count(&book.summary()), count(&of_run)), (3, 2));
        assert_eq!(count(&book.summary_of(8)), 0);
        let slot = ::verify::delivery::slot_of(key_of("past"));
        let Page(page) = book.page(slot, 0, 10);
        assert_eq!(
            page,
            [Delivered::Past(key_of("past"), hash_of(b"{}"), 7)],
            "keys of the three lie in slots of their own"
        );
    }

    #[test]
    fn a_deletion_takes_its_event_away_and_its_repeat_takes_nothing() {
        let mut book = Book::new(10, 100, 0);
        let gone = |moved| Item {
            deleted: true,
            moved,
            revision: 2,
            ..item("1")
        };
        book.take("a", &item("1"), &raw("{}"), 0);
        book.take("b", &gone(true), &raw("{}"), 0);
        assert_eq!(stats(&book)["unique_events"], 1);
        book.take("c", &gone(false), &raw("{}"), 0);
        book.take("a", &item("1"), &raw("{}"), 0);
        assert_eq!(stats(&book)["unique_events"], 0);
    }

    #[test]
    fn only_the_last_events_are_kept_newest_first() {
        let mut book = Book::new(2, 100, 0);
        for id in ["a", "b", "c"] {
            book.take(id, &item(id), &raw("{}"), 0);
        }
        let ids: Vec<_> = book
            .last(10)
            .into_iter()
            .map(|kept| kept.webhook_id)
            .collect();
        assert_eq!(ids, ["c", "b"]);
        assert_eq!(book.last(1).len(), 1);
    }

    #[test]
    fn memory_for_event_types_is_bounded() {
        let mut book = Book::new(0, 1000, 0);
        for n in 0..200 {
            let id = n.to_string();
            let odd = Item {
                event_type: format!("type {n}"),
                ..item(&id)
            };
            book.take(&id, &odd, &raw("{}"), 0);
        }
        let stats = stats(&book);
        assert_eq!(
            stats["event_types"].as_object().unwrap().len(),
            NAMED_TYPES + 1
        );
        assert_eq!(stats["event_types"]["(other)"], 136);
    }
}
