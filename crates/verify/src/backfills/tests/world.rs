//! A log, runs and a receiver without servers.
//!
//! Invariant: everything that is implied has been delivered, until something is broken by hand.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use engagement::event::{EnrichedEvent, Lane, Origin};
use engagement::profile::{Profile, RenderOptions};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use stream::Record;
use stream::backfill::{Addressee, BACKFILL, Ticket};
use stream::headers::CONTENT_TYPE;
use webhook_forwarder::message::{MessageShape, Order};

use crate::backfills::judge;
use crate::chain;
use crate::delivery::{Delivered, RunSum, SLOTS, Slot, Summary, hash_of, key_of, slot_of};
use crate::endpoint::ReceiverSource;
use crate::implied::{Implied, Passed};
use crate::look::Look;
use crate::report::SinkReport;
use crate::runs::Runs;
use crate::sources::Options;
use crate::webhook;

pub(super) const FIRST: i64 = 1_767_882_112_123;
pub(super) const SECOND: i64 = 1_767_882_199_999;

/// What the topics hold, how far the endpoint's groups are, and what its receiver has.
#[derive(Default)]
pub(super) struct World {
    live: Vec<Record>,
    pub(super) past: Vec<Record>,
    /// Positions of the groups: of the live one, of the one that reads backfills.
    pub(super) done: (i64, i64),
    pub(super) given_up: HashSet<(i32, i64)>,
    /// Where the endpoint began in the topic of backfills.
    pub(super) began: i64,
    pub(super) runs: Runs,
    pub(super) delivered: Vec<Delivered>,
    pub(super) repeats: BTreeMap<i64, u64>,
    /// The receiver looks at the header.
    pub(super) tells: bool,
    pub(super) is_truncated: bool,
}

fn record(topic: &str, offset: i64, event: &EnrichedEvent, ticket: Option<String>) -> Record {
    let content_type = Format::Protobuf.content_type();
    let mut headers = vec![(CONTENT_TYPE.to_owned(), Some(Bytes::from(content_type)))];
    headers.extend(ticket.map(|text| (BACKFILL.to_owned(), Some(Bytes::from(text)))));
    Record {
        topic: topic.into(),
        partition: 0,
        offset,
        timestamp_ms: None,
        key: None,
        payload: Some(encode(event, Format::Protobuf).into()),
        headers,
    }
}

impl World {
    /// `live` events, then two finished runs over the same events, all delivered.
    pub(super) fn new(live: i64) -> Self {
        let mut world = Self {
            tells: true,
            ..Self::default()
        };
        for id in 0..live {
            let event = Sample::new().event_id(id).at_position(0, id).build();
            world.live.push(record("live", id, &event, None));
        }
        for run in [FIRST, SECOND] {
            world.run(run, live, "clickhouse,webhook");
        }
        world.done = (live, i64::try_from(world.past.len()).unwrap());
        world.deliver();
        world
    }

    /// A run that is written and ended.
    pub(super) fn run(&mut self, run: i64, rows: i64, sinks: &str) {
        for id in 0..rows {
            let offset = i64::try_from(self.past.len()).unwrap();
            let sample = Sample::new().event_id(id).at_position(0, offset);
            let mut event = sample.lane(Lane::Backfill).origin(Origin::Backfill).build();
            event.revision = run.unsigned_abs();
            let ticket = format!("run={run} range=0 after=0 lsn=0 for={sinks}");
            self.past.push(record("past", offset, &event, Some(ticket)));
        }
        let sinks: Vec<String> = sinks.split(',').map(|sink| format!("\"{sink}\"")).collect();
        let plan = format!(
            r#"{{"kind":"plan","sinks":[{}],"ranges":[{{}}],"rows":{rows}}}"#,
            sinks.join(",")
        );
        let note = format!(r#"{{"kind":"note","rows":{rows},"done":true}}"#);
        let end = r#"{"kind":"end"}"#.to_owned();
        for (part, text) in [("", plan), ("/0", note), ("/end", end)] {
            self.runs
                .apply(&format!("{run}{part}"), Some(text.as_bytes()));
        }
    }

    /// The receiver has what the topics imply up to the positions, and nothing else.
    pub(super) fn deliver(&mut self) {
        let live = self
            .live
            .iter()
            .filter(|record| record.offset < self.done.0);
        let live = live.map(|record| message(record, None));
        let past = self
            .past
            .iter()
            .filter(|record| record.offset < self.done.1);
        let past = past.filter_map(|record| {
            let ticket = Ticket::of(record).filter(|ticket| ticket.is_for(Addressee::Webhook))?;
            Some(message(record, Some(ticket.run)))
        });
        self.delivered = live.chain(past).collect();
    }

    fn source() -> ReceiverSource {
        let url = "http://127.0.0.1:9/".parse().unwrap();
        ReceiverSource::new(url, "crm", true)
    }

    fn implied(&self) -> Implied {
        let live = Passed {
            done: [(0, self.done.0)].into(),
            ..Passed::default()
        };
        let backfill = Passed {
            done: [(0, self.done.1)].into(),
            began: [(0, self.began)].into(),
            given_up: self.given_up.clone(),
        };
        Implied::new(&Self::source(), live, backfill)
    }

    fn read(&self, implied: &mut Implied) {
        for record in &self.live {
            let event = chain::read(record).unwrap();
            implied.take(record, &event);
        }
        self.past
            .iter()
            .for_each(|record| implied.take_backfill(record));
    }

    fn sums(&self) -> Vec<RunSum> {
        let mut sums: BTreeMap<i64, RunSum> = BTreeMap::new();
        for run in self.delivered.iter().filter_map(|message| message.run()) {
            let repeats = self.repeats.get(&run).copied().unwrap_or(0);
            let sum = sums.entry(run).or_insert(RunSum {
                run,
                messages: 0,
                repeats,
            });
            sum.messages += 1;
        }
        sums.into_values().collect()
    }

    fn slots(&self, only: impl Fn(Option<i64>) -> bool) -> Vec<Slot> {
        let mut slots = vec![Slot::default(); SLOTS];
        for message in self.delivered.iter().filter(|message| only(message.run())) {
            slots[slot_of(message.key())].add(message.key(), message.body());
        }
        slots
    }

    /// As `Deliveries::compare`, without servers.
    pub(super) fn compare(&self) -> SinkReport {
        let options = Options::default();
        let mut implied = self.implied();
        self.read(&mut implied);
        let summary = Summary {
            slots: self.slots(|_| true),
            repeats: self.repeats.values().sum(),
            runs: self.tells.then(|| self.sums()),
            ..Summary::default()
        };
        let judged = judge(
            &self.runs,
            &implied,
            summary.runs.as_deref(),
            self.is_truncated,
        );
        let expired = judged.iter().filter(|judged| !judged.report.compared);
        let expired: BTreeSet<i64> = expired.map(|judged| judged.report.run).collect();
        let sums = self.slots(|run| run.is_some_and(|run| expired.contains(&run)));
        let mut compared = webhook::compare(&summary, &implied, judged, &sums, &options);
        for slots in compared.rounds() {
            let mut look = Look::new(slots.clone(), expired.clone(), options.limit);
            let shown = |message: &&Delivered| slots.contains(&slot_of(message.key()));
            self.delivered
                .iter()
                .filter(shown)
                .for_each(|message| look.found(*message));
            implied.look = Some(look);
            self.read(&mut implied);
            let mut look = implied.look.take().unwrap();
            look.end(true);
            compared.note(look);
        }
        compared.finish()
    }

    /// Where the deliveries of a run stand.
    pub(super) fn of(&self, run: i64) -> Vec<usize> {
        let all = self.delivered.iter().enumerate();
        let of_run = all.filter(|(_, message)| message.run() == Some(run));
        of_run.map(|(index, _)| index).collect()
    }
}

/// The message of a record as the forwarder makes it.
pub(super) fn message(record: &Record, run: Option<i64>) -> Delivered {
    let shape = MessageShape {
        order: Order::Content,
        profile: Profile::Canonical,
        envelope: true,
        render: RenderOptions::default(),
    };
    let event = chain::read(record).unwrap();
    let message = shape.message(&event).unwrap();
    Delivered::new(key_of(&message.id), hash_of(&message.body), run)
}
