//! The messages of a few slots, one by one: what was delivered, held against what should have been. Pure.
//!
//! Invariant: memory is bounded by what the receiver has in these slots; each message is counted once, on the side where it is too
//! many.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use engagement::event::EnrichedEvent;

use crate::delivery::{Delivered, slot_of};
use crate::implied::Standing;
use crate::report::{Difference, Kind};
use crate::share::Share;

/// Keys of missing messages that are told apart, so that a message of two records is missing once.
const MOST: usize = 500_000;

/// A message that a record implies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) id: &'a str,
    pub(crate) event: &'a EnrichedEvent,
    pub(crate) standing: Standing,
    /// The backfill that brings it.
    pub(crate) run: Option<i64>,
}

/// The slots that are looked into.
#[derive(Debug, Default)]
pub(crate) struct Look {
    slots: HashSet<usize>,
    found: HashMap<u64, Found>,
    /// Backfills that are not compared.
    expired: BTreeSet<i64>,
    missing: HashSet<u64>,
    /// Of each backfill, and of none: how many are missing, surplus, changed.
    pub(crate) shares: BTreeMap<Option<i64>, Share>,
    /// The first of them, by name.
    pub(crate) named: Vec<Difference>,
    limit: usize,
    pub(crate) is_full: bool,
}

/// A message that was delivered.
#[derive(Debug)]
struct Found {
    body: u64,
    run: Option<i64>,
    /// A record implies it.
    implied: bool,
}

impl Look {
    /// What the receiver has in these slots, without what it has of backfills that are not compared.
    pub(crate) fn new(slots: HashSet<usize>, expired: BTreeSet<i64>, limit: usize) -> Self {
        Self {
            slots,
            expired,
            limit,
            ..Self::default()
        }
    }

    /// Takes a message that the receiver has.
    pub(crate) fn found(&mut self, message: Delivered) {
        let run = message.run();
        if run.is_some_and(|run| self.expired.contains(&run)) {
            return;
        }
        let found = Found {
            body: message.body(),
            run,
            implied: false,
        };
        self.found.insert(message.key(), found);
    }

    /// A message of this key is looked at.
    pub(crate) fn wants(&self, key: u64) -> bool {
        self.slots.contains(&slot_of(key))
    }

    /// Takes a message that a record implies. Of records that make the same message the first one is sent.
    pub(crate) fn take(&mut self, key: u64, body: u64, message: Message<'_>) {
        let is_compared = message.run.is_none_or(|run| !self.expired.contains(&run));
        let is_due = is_compared && message.standing == Standing::Due;
        let Some(found) = self.found.get_mut(&key) else {
            if is_due && self.is_new(key) {
                self.share(message.run).missing += 1;
                self.name(Kind::Missing, message, "");
            }
            return;
        };
        let is_first = !std::mem::replace(&mut found.implied, true);
        if is_first && is_due && found.body != body {
            self.share(message.run).changed += 1;
            let why = ": not the body that the topic implies";
            self.name(Kind::Changed, message, why);
        }
    }

    /// The end of both sides: what no record implies is surplus. Where `is_known` is false the live log has lost its beginning, and
    /// a delivery of no backfill may be of a record that has expired.
    pub(crate) fn end(&mut self, is_known: bool) {
        let found = std::mem::take(&mut self.found);
        for (key, found) in found.iter().filter(|(_, found)| !found.implied) {
            let what = match found.run {
                None if !is_known => continue,
                None => "no record of the topic implies it".to_owned(),
                Some(run) => format!("no record of backfill {run}, which it names, implies it"),
            };
            self.share(found.run).surplus += 1;
            if self.named.len() < self.limit {
                self.named.push(Difference {
                    kind: Kind::Surplus,
                    id: format!("msg_{key:016x}.."),
                    what,
                });
            }
        }
    }

    fn is_new(&mut self, key: u64) -> bool {
        if self.missing.len() >= MOST {
            self.is_full = true;
            return !self.missing.contains(&key);
        }
        self.missing.insert(key)
    }

    fn share(&mut self, run: Option<i64>) -> &mut Share {
        self.shares.entry(run).or_default()
    }

    fn name(&mut self, kind: Kind, message: Message<'_>, why: &str) {
        if self.named.len() >= self.limit {
            return;
        }
        let Message { id, event, run, .. } = message;
        let of = run.map_or_else(String::new, |run| format!(", backfill {run}"));
        let operation = event.operation().name();
        self.named.push(Difference {
            kind,
            id: id.to_owned(),
            what: format!("{operation} of event {}{of}{why}", event.event_id),
        });
    }
}
