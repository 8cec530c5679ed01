//! The messages that the enriched topic and the topic of backfills imply for one endpoint. Pure.
//!
//! The shape of id and body stands here a second time on purpose: a check that calls what it checks proves nothing.
//!
//! Invariant: told independently of the forwarder; what lies behind the group's position may be there or not.

use std::collections::{BTreeMap, HashSet};

use engagement::event::EnrichedEvent;
use engagement::profile::RenderOptions;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use stream::Record;
use stream::backfill::{Addressee, Ticket};

use crate::chain;
use crate::delivery::{SLOTS, Slot, hash_of, key_of, slot_of};
use crate::endpoint::ReceiverSource;
use crate::look::{Look, Message};

/// Runs whose messages are summed apart; the sums of one take 64 KiB.
const MOST_RUNS: usize = 256;
/// Records of the topic of backfills that cannot be read, by place.
const FIRST: usize = 100;

/// What the endpoint's group has done of a topic.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Per partition, up to where.
    pub(crate) done: BTreeMap<i32, i64>,
    /// Per partition, from where on, where the endpoint began in the middle of the log.
    pub(crate) began: BTreeMap<i32, i64>,
    /// What it has put into the dead letters.
    pub(crate) given_up: HashSet<(i32, i64)>,
}

/// What a record says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It must have been delivered.
    Due,
    /// It was given up; a redrive may have brought it.
    GivenUp,
    /// It may be delivered or not.
    UnderWay,
    /// It was written before the endpoint began, which may have got it or not.
    Before,
}

/// What one backfill has brought.
#[derive(Debug, Default)]
pub(crate) struct OfRun {
    pub(crate) slots: Vec<Slot>,
    /// Messages that must have been delivered.
    pub(crate) messages: u64,
    /// Records for webhooks.
    pub(crate) records: u64,
    pub(crate) under_way: u64,
    pub(crate) given_up: u64,
    pub(crate) before: u64,
}

/// What should have been delivered.
#[derive(Debug)]
pub(crate) struct Implied {
    endpoint: ReceiverSource,
    render: RenderOptions,
    live: Passed,
    backfill: Passed,
    /// Of what no backfill has brought.
    pub(crate) slots: Vec<Slot>,
    pub(crate) messages: u64,
    pub(crate) runs: BTreeMap<i64, OfRun>,
    /// In a second reading, the messages of some slots.
    pub(crate) look: Option<Look>,
    /// Records of the topic of backfills that the group has passed and that are no event, by place.
    pub(crate) unreadable: Vec<(String, String)>,
    pub(crate) all_unreadable: u64,
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

impl Passed {
    fn standing(&self, record: &Record) -> Standing {
        let place = (record.partition, record.offset);
        let is_below = |ends: &BTreeMap<i32, i64>| {
            let end = ends.get(&record.partition);
            end.is_some_and(|end| record.offset < *end)
        };
        if is_below(&self.began) {
            Standing::Before
        } else if !is_below(&self.done) {
            Standing::UnderWay
        } else if self.given_up.contains(&place) {
            Standing::GivenUp
        } else {
            Standing::Due
        }
    }
}

impl Implied {
    pub(crate) fn new(endpoint: &ReceiverSource, live: Passed, backfill: Passed) -> Self {
        let render = RenderOptions {
            database_table: endpoint.database_table.clone(),
            ..RenderOptions::default()
        };
        Self {
            endpoint: endpoint.clone(),
            render,
            live,
            backfill,
            slots: vec![Slot::default(); SLOTS],
            messages: 0,
            runs: BTreeMap::new(),
            look: None,
            unreadable: Vec::new(),
            all_unreadable: 0,
            is_full: false,
        }
    }

    /// The group has a position in the topic of backfills.
    pub(crate) fn reads_backfills(&self) -> bool {
        !self.backfill.done.is_empty()
    }

    /// Takes an event of the enriched topic that is no repeat.
    pub(crate) fn take(&mut self, record: &Record, event: &EnrichedEvent) {
        let standing = self.live.standing(record);
        self.imply(event, standing, None);
    }

    /// Takes a record of the topic of backfills, where each is taken once, in whatever order.
    pub(crate) fn take_backfill(&mut self, record: &Record) {
        let ticket = Ticket::of(record);
        let elsewhere = |ticket: &Ticket| !ticket.is_for(Addressee::Webhook);
        if ticket.as_ref().is_some_and(elsewhere) {
            return;
        }
        let (run, standing) = (
            ticket.map(|ticket| ticket.run),
            self.backfill.standing(record),
        );
        if self.look.is_none()
            && let Some(of) = run.and_then(|run| self.of(run))
        {
            of.note(standing);
        }
        match chain::read(record) {
            Ok(event) => self.imply(&event, standing, run),
            // one that was not judged yet, or is in the dead letters, is as it should be
            Err(reason) if self.look.is_none() && standing == Standing::Due => {
                self.cannot_be_read(record, reason);
            }
            Err(_) => {}
        }
    }

    /// What is summed of a run; `None`: there are too many.
    fn of(&mut self, run: i64) -> Option<&mut OfRun> {
        if self.runs.len() >= MOST_RUNS && !self.runs.contains_key(&run) {
            self.is_full = true;
            return None;
        }
        Some(self.runs.entry(run).or_insert_with(|| OfRun {
            slots: vec![Slot::default(); SLOTS],
            ..OfRun::default()
        }))
    }

    fn imply(&mut self, event: &EnrichedEvent, standing: Standing, run: Option<i64>) {
        if !self.wants(event) || (self.look.is_none() && standing != Standing::Due) {
            return;
        }
        let uid = event.uid(&self.render.database_table);
        let id = webhook_id(&uid, event);
        let key = key_of(&id);
        if self.look.as_ref().is_some_and(|look| !look.wants(key)) {
            return;
        }
        let body = self.body(&uid, event);
        if let Some(look) = &mut self.look {
            let message = Message {
                id: &id,
                event,
                standing,
                run,
            };
            look.take(key, body, message);
            return;
        }
        let (messages, slots) = match run {
            None => (&mut self.messages, &mut self.slots),
            Some(run) => match self.of(run) {
                None => return,
                Some(of) => (&mut of.messages, &mut of.slots),
            },
        };
        *messages += 1;
        slots[slot_of(key)].add(key, body);
    }

    fn cannot_be_read(&mut self, record: &Record, reason: String) {
        self.all_unreadable += 1;
        if self.unreadable.len() < FIRST {
            let place = format!("{}/{}@{}", record.topic, record.partition, record.offset);
            self.unreadable.push((place, reason));
        }
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

impl OfRun {
    fn note(&mut self, standing: Standing) {
        self.records += 1;
        match standing {
            Standing::Due => {}
            Standing::GivenUp => self.given_up += 1,
            Standing::UnderWay => self.under_way += 1,
            Standing::Before => self.before += 1,
        }
    }
}

/// `msg_` and half of the SHA-256 of operation, revision and uid.
fn webhook_id(uid: &str, event: &EnrichedEvent) -> String {
    let text = format!("{}/{}/{uid}", event.operation().name(), event.revision);
    let digest = Sha256::digest(text);
    let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("msg_".to_owned()).chain(hex).collect()
}
