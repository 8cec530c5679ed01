//! The messages that the enriched topic implies for one endpoint. Pure.
//!
//! The shape of id and body stands here a second time on purpose: a check that calls what it checks proves nothing.
//!
//! Invariant: told independently of the forwarder; what lies behind the group's position may be there or not.

use std::collections::{BTreeMap, HashMap, HashSet};

use engagement::event::EnrichedEvent;
use engagement::profile::RenderOptions;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use stream::Record;

use crate::delivery::{SLOTS, Slot, hash_of, key_of, slot_of};
use crate::sources::ReceiverSource;

/// Messages that are kept one by one.
const MOST: usize = 500_000;

/// A message by its body's hash and the event it is about.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: u64,
    pub(crate) about: String,
}

/// What should have been delivered.
#[derive(Debug)]
pub(crate) struct Implied {
    endpoint: ReceiverSource,
    render: RenderOptions,
    /// Per partition, what the group has done.
    done: BTreeMap<i32, i64>,
    /// What was given up.
    undelivered: HashSet<(i32, i64)>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) messages: u64,
    /// May be delivered or not, by key.
    pub(crate) pending: HashMap<u64, u64>,
    /// Slots whose messages are kept, in a second reading.
    focus: HashSet<usize>,
    pub(crate) kept: HashMap<u64, Message>,
    pub(crate) is_full: bool,
}

/// The Standard Webhooks body.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    uid: &'a str,
    data: &'a RawValue,
}

impl Implied {
    pub(crate) fn new(
        endpoint: &ReceiverSource,
        done: BTreeMap<i32, i64>,
        undelivered: HashSet<(i32, i64)>,
    ) -> Self {
        let render = RenderOptions {
            database_table: endpoint.database_table.clone(),
            ..RenderOptions::default()
        };
        Self {
            endpoint: endpoint.clone(),
            render,
            done,
            undelivered,
            slots: vec![Slot::default(); SLOTS],
            messages: 0,
            pending: HashMap::new(),
            focus: HashSet::new(),
            kept: HashMap::new(),
            is_full: false,
        }
    }

    /// Keeps the messages of these slots in the next reading.
    pub(crate) fn look_into(&mut self, slots: HashSet<usize>) {
        self.focus = slots;
        self.kept.clear();
    }

    /// Takes an event that is no repeat.
    pub(crate) fn take(&mut self, record: &Record, event: &EnrichedEvent) {
        if !self.wants(event) {
            return;
        }
        let uid = event.uid(&self.render.database_table);
        let id = webhook_id(&uid, event);
        let key = key_of(&id);
        let in_focus = self.focus.is_empty() || self.focus.contains(&slot_of(key));
        if !in_focus {
            return;
        }
        let body = self.body(&uid, event);
        if !self.is_done(record) {
            self.is_full |= self.pending.len() >= MOST;
            if !self.is_full {
                self.pending.insert(key, body);
            }
        } else if self.focus.is_empty() {
            self.messages += 1;
            self.slots[slot_of(key)].add(key, body);
        } else {
            self.is_full |= self.kept.len() >= MOST;
            if !self.is_full {
                let about = format!("{} of event {}", event.operation().name(), event.event_id);
                // Of records that make the same message the first one is sent.
                let first = self.kept.entry(key);
                first.or_insert(Message { id, body, about });
            }
        }
    }

    /// The group has passed it, and it was not given up: it must have been delivered.
    fn is_done(&self, record: &Record) -> bool {
        let done = self.done.get(&record.partition);
        done.is_some_and(|done| record.offset < *done)
            && !self
                .undelivered
                .contains(&(record.partition, record.offset))
    }

    /// Deletions are sent, but for that half of a move; historical events where the endpoint takes them.
    fn wants(&self, event: &EnrichedEvent) -> bool {
        (self.endpoint.historical || !event.is_historical()) && !(event.deleted && event.moved)
    }

    fn body(&self, uid: &str, event: &EnrichedEvent) -> u64 {
        let data = self.endpoint.profile.render(event, &self.render);
        if !self.endpoint.envelope {
            return hash_of(&data);
        }
        let Ok(data) = serde_json::from_slice::<&RawValue>(&data) else {
            return 0;
        };
        let envelope = Envelope {
            kind: format!("engagement_event.{}", event.operation().name()),
            timestamp: event.event_ts.to_string(),
            uid,
            data,
        };
        serde_json::to_vec(&envelope).map_or(0, |body| hash_of(&body))
    }
}

/// `msg_` and half of the SHA-256 of operation, revision and uid.
fn webhook_id(uid: &str, event: &EnrichedEvent) -> String {
    let text = format!("{}/{}/{uid}", event.operation().name(), event.revision);
    let digest = Sha256::digest(text);
    let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("msg_".to_owned()).chain(hex).collect()
}
