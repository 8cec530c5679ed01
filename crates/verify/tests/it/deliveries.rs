//! The enriched topic against the deliveries of a receiver; ids and bodies are the forwarder's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use engagement::event::{EnrichedEvent, Lane, Micros, Origin};
use engagement::profile::{Profile, RenderOptions};
use verify::delivery::{Delivered, Page, RunSum, SLOTS, Slot, Summary, hash_of, key_of, slot_of};
use verify::{Kind, ReceiverSource, RunState, Sink};
use webhook_forwarder::message::{Message, MessageShape, Order};

use crate::stores;
use crate::world::{UUIDS, World, names};

/// What a receiver got, and how it says so.
#[derive(Clone, Default)]
struct Got {
    messages: Arc<Mutex<BTreeMap<u64, u64>>>,
    changed: Arc<Mutex<Vec<String>>>,
    /// Those that a backfill has brought.
    runs: Arc<Mutex<BTreeMap<u64, i64>>>,
}

impl Got {
    fn take(&self, message: &Message) {
        let (key, body) = (key_of(&message.id), hash_of(&message.body));
        self.messages.lock().unwrap().insert(key, body);
        if let Some(run) = message.run {
            self.runs.lock().unwrap().insert(key, run);
        }
    }

    async fn serve(self) -> url::Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/deliveries", get(summary))
            .route("/deliveries/{slot}", get(page))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url.parse().unwrap()
    }
}

async fn summary(State(got): State<Got>, Query(of): Query<BTreeMap<String, i64>>) -> Json<Summary> {
    let runs = got.runs.lock().unwrap().clone();
    let mut slots = vec![Slot::default(); SLOTS];
    for (key, body) in got.messages.lock().unwrap().iter() {
        if of.get("run").is_none_or(|run| runs.get(key) == Some(run)) {
            slots[slot_of(*key)].add(*key, *body);
        }
    }
    let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
    for run in runs.values() {
        *sums.entry(*run).or_default() += 1;
    }
    let sum = |(run, messages)| RunSum {
        run,
        messages,
        repeats: 0,
    };
    let changed_ids = got.changed.lock().unwrap().clone();
    Json(Summary {
        slots,
        changed: changed_ids.len() as u64,
        changed_ids,
        runs: Some(sums.into_iter().map(sum).collect()),
        ..Summary::default()
    })
}

async fn page(
    State(got): State<Got>,
    Path(slot): Path<usize>,
    Query(part): Query<BTreeMap<String, u64>>,
) -> Json<Page> {
    let (messages, runs) = (got.messages.lock().unwrap(), got.runs.lock().unwrap());
    let of_slot = messages
        .iter()
        .filter(|(key, _)| slot_of(**key) == slot && **key > part["after"]);
    let told = of_slot.map(|(key, body)| Delivered::new(*key, *body, runs.get(key).copied()));
    Json(Page(told.take(2).collect()))
}

fn message(event: &EnrichedEvent) -> Message {
    let shape = MessageShape {
        order: Order::Content,
        profile: Profile::Canonical,
        envelope: true,
        render: RenderOptions::default(),
    };
    shape.message(event).unwrap()
}

/// Every event delivered once, and the group at the end of the topic.
async fn delivered(name: &str) -> (World, Got) {
    let mut world = World::new(name, &UUIDS).await;
    let got = Got::default();
    world
        .events
        .iter()
        .for_each(|event| got.take(&message(event)));
    let url = got.clone().serve().await;
    world.sources.receiver = Some(ReceiverSource {
        group: world.name.clone(),
        ..ReceiverSource::new(url, "crm", false)
    });
    commit(&world, &world.events);
    (world, got)
}

const RUN: i64 = 1_767_882_112_123;

/// A backfill of every third event, all delivered; the endpoint takes it, and its group has read it.
async fn past_delivered(name: &str) -> (World, Got, Vec<EnrichedEvent>) {
    let (mut world, got) = delivered(name).await;
    let receiver = world.sources.receiver.as_mut().unwrap();
    receiver.historical = true;
    let kafka = world.sources.kafka.clone();
    let servers = kafka.settings.bootstrap_servers.as_str();
    stores::topics(servers, &[&kafka.backfill_topic, &kafka.runs_topic]).await;
    let mut next = [0; stores::PARTITIONS as usize];
    let events: Vec<EnrichedEvent> = world.events.iter().step_by(3).cloned().collect();
    let events: Vec<EnrichedEvent> = events
        .into_iter()
        .map(|event| brought(event, &mut next))
        .collect();
    let ticket = format!("run={RUN} range=0 after=0 lsn=0 for=clickhouse,webhook");
    for event in &events {
        stores::backfilled(servers, &kafka.backfill_topic, event, &ticket).await;
        got.take(&Message {
            run: Some(RUN),
            ..message(event)
        });
    }
    let ends: Vec<(i32, i64)> = (0..).zip(next).collect();
    let group = format!("{}.backfill", world.name);
    stores::commit(servers, &group, &kafka.backfill_topic, &ends);
    noted(&world, events.len(), true).await;
    (world, got, events)
}

/// The event as a backfill reads it.
fn brought(mut event: EnrichedEvent, next: &mut [i64]) -> EnrichedEvent {
    let partition = usize::try_from(event.source.partition).unwrap();
    event.origin = Origin::Backfill;
    event.revision = 7;
    event.source.lane = Lane::Backfill;
    event.source.offset = next[partition];
    event.source.prev = next[partition] - 1;
    next[partition] += 1;
    event
}

/// What the run has noted, as `engagectl backfill` does.
async fn noted(world: &World, rows: usize, ended: bool) {
    let plan = r#"{"kind":"plan","sinks":["clickhouse","webhook"],"ranges":[{}],"rows":14}"#;
    let note = format!(r#"{{"kind":"note","rows":{rows},"done":{ended}}}"#);
    let mut records = vec![
        (format!("{RUN}"), plan.to_owned()),
        (format!("{RUN}/0"), note),
    ];
    if ended {
        records.push((format!("{RUN}/end"), r#"{"kind":"end"}"#.to_owned()));
    }
    let kafka = &world.sources.kafka;
    for (key, text) in records {
        stores::keyed(
            &kafka.settings.bootstrap_servers,
            &kafka.runs_topic,
            &key,
            &text,
        )
        .await;
    }
}

/// The group has done these.
fn commit(world: &World, events: &[EnrichedEvent]) {
    let kafka = &world.sources.kafka;
    let ends: Vec<(i32, i64)> = (0..stores::PARTITIONS)
        .map(|partition| {
            let of_it = events
                .iter()
                .filter(|event| event.source.partition == partition);
            (partition, i64::try_from(of_it.count()).unwrap())
        })
        .collect();
    stores::commit(
        &kafka.settings.bootstrap_servers,
        &world.name,
        &kafka.enriched_topic,
        &ends,
    );
}

#[tokio::test]
async fn messages_as_the_forwarder_makes_them_are_equal() {
    let (world, _) = delivered("webhook_equal").await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.behind), (40, 0));
}

#[tokio::test]
async fn a_delivery_that_was_dropped_is_missing_and_one_of_nothing_is_surplus() {
    let (world, got) = delivered("webhook_dropped").await;
    let lost = message(&world.events[11]);
    got.messages.lock().unwrap().remove(&key_of(&lost.id));
    got.messages.lock().unwrap().insert(77, 1);
    let found = world.found(Sink::Webhook).await;
    let expected = [
        (Kind::Missing, lost.id),
        (Kind::Surplus, "msg_000000000000004d..".into()),
    ];
    assert_eq!(names(&found), expected);
    assert!(found.differences[0].what.contains("created of event 11"));
}

#[tokio::test]
async fn another_body_is_named_whether_it_came_first_or_again() {
    let (world, got) = delivered("webhook_body").await;
    let other = message(&world.events[5]);
    got.messages.lock().unwrap().insert(key_of(&other.id), 1);
    got.changed.lock().unwrap().push("msg_again".into());
    let found = world.found(Sink::Webhook).await;
    assert_eq!((found.changed, found.violations), (1, 1));
    assert_eq!(
        names(&found),
        [
            (Kind::Changed, other.id),
            (Kind::Violation, "msg_again".into())
        ]
    );
}

#[tokio::test]
async fn what_the_group_has_not_done_may_be_there_or_not() {
    let (world, got) = delivered("webhook_pending").await;
    commit(&world, &world.events[..30]);
    let last = message(&world.events[39]);
    got.messages.lock().unwrap().remove(&key_of(&last.id));
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.behind), (30, 10));
}

#[tokio::test]
async fn what_the_forwarder_gave_up_is_not_missing() {
    let (world, got) = delivered("webhook_letter").await;
    let event = &world.events[20];
    got.messages
        .lock()
        .unwrap()
        .remove(&key_of(&message(event).id));
    let kafka = &world.sources.kafka;
    let topic = format!("{}webhook-forwarder", kafka.dead_letter_prefix);
    let offset = event.source.offset.to_string();
    let headers = [("__connect.errors.offset", offset.as_str())];
    stores::produce(
        &kafka.settings.bootstrap_servers,
        &topic,
        event.source.partition,
        b"",
        &headers,
    )
    .await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
}

#[tokio::test]
async fn what_a_backfill_brought_is_equal_and_counted_apart() {
    let (world, _, events) = past_delivered("webhook_past").await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.behind), (54, 0));
    assert_eq!((found.live.unwrap().expected, events.len()), (40, 14));
    let [run] = &found.runs[..] else {
        panic!("{:?}", found.runs)
    };
    assert_eq!((run.run, run.state), (RUN, RunState::Finished));
    assert_eq!((run.rows, run.records, run.share.delivered), (14, 14, 14));
}

#[tokio::test]
async fn a_delivery_of_a_backfill_that_was_dropped_is_missing_and_one_too_many_is_surplus_there() {
    let (world, got, events) = past_delivered("webhook_past_dropped").await;
    let lost = message(&events[5]);
    got.messages.lock().unwrap().remove(&key_of(&lost.id));
    got.runs.lock().unwrap().remove(&key_of(&lost.id));
    got.messages.lock().unwrap().insert(77, 1);
    got.runs.lock().unwrap().insert(77, RUN);
    let found = world.found(Sink::Webhook).await;
    let expected = [
        (Kind::Missing, lost.id),
        (Kind::Surplus, "msg_000000000000004d..".into()),
    ];
    assert_eq!(names(&found), expected);
    let what = format!("created of event {}, backfill {RUN}", events[5].event_id);
    assert_eq!(found.differences[0].what, what);
    let share = found.runs[0].share;
    assert_eq!((share.expected, share.delivered), (14, 13));
    assert_eq!((share.missing, share.surplus, share.changed), (1, 1, 0));
    assert_eq!(found.live.unwrap().missing, 0);
}

#[tokio::test]
async fn a_run_that_is_under_way_is_named_and_what_is_not_read_of_it_is_not_missing() {
    let (world, got, events) = past_delivered("webhook_past_open").await;
    let kafka = &world.sources.kafka;
    let servers = kafka.settings.bootstrap_servers.as_str();
    let last = events.last().unwrap();
    let read = (last.source.partition, last.source.offset);
    let group = format!("{}.backfill", world.name);
    stores::commit(servers, &group, &kafka.backfill_topic, &[read]);
    got.messages
        .lock()
        .unwrap()
        .remove(&key_of(&message(last).id));
    stores::keyed(servers, &kafka.runs_topic, &format!("{RUN}"), "").await;
    noted(&world, 13, false).await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!(found.behind, 1);
    let run = &found.runs[0];
    assert_eq!((run.state, run.under_way), (RunState::Open, 1));
    assert!(
        found.notes[0].contains("13 of about 14 rows"),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn what_was_given_up_of_a_backfill_explains_no_live_message_and_no_other_endpoints() {
    let (world, got, events) = past_delivered("webhook_past_letter").await;
    let (lost, kept) = (&events[3], &events[6]);
    let live = world.events.iter().find(|event| {
        let (ours, theirs) = (&event.source, &lost.source);
        (ours.partition, ours.offset) == (theirs.partition, theirs.offset)
    });
    for event in [lost, kept, live.unwrap()] {
        got.messages
            .lock()
            .unwrap()
            .remove(&key_of(&message(event).id));
    }
    let kafka = &world.sources.kafka;
    let topic = format!("{}webhook-forwarder", kafka.dead_letter_prefix);
    for (event, endpoint) in [(lost, "crm"), (kept, "erp")] {
        let offset = event.source.offset.to_string();
        let headers = [
            ("__connect.errors.topic", kafka.backfill_topic.as_str()),
            ("__connect.errors.offset", offset.as_str()),
            ("engage.dlq.endpoint", endpoint),
        ];
        let servers = &kafka.settings.bootstrap_servers;
        stores::produce(servers, &topic, event.source.partition, b"", &headers).await;
    }
    let found = world.found(Sink::Webhook).await;
    let mut expected = [message(live.unwrap()).id, message(kept).id].map(|id| (Kind::Missing, id));
    expected.sort();
    assert_eq!(names(&found), expected);
    assert_eq!(found.runs[0].given_up, 1);
}

#[tokio::test]
async fn a_backfill_whose_records_have_expired_is_named_and_not_surplus() {
    let (world, _, events) = past_delivered("webhook_past_expired").await;
    let kafka = &world.sources.kafka;
    let first = &events[0].source;
    let forgotten = [(first.partition, first.offset + 1)];
    stores::forget(
        &kafka.settings.bootstrap_servers,
        &kafka.backfill_topic,
        &forgotten,
    )
    .await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert!(!found.runs[0].compared, "{found}");
    assert!(
        found.to_string().contains("records have expired"),
        "{found}"
    );
}

#[tokio::test]
async fn what_was_written_before_an_endpoint_began_is_neither_missing_nor_surplus() {
    let (mut world, got, events) = past_delivered("webhook_since").await;
    let (live, past) = (message(&world.events[11]), message(&events[5]));
    for lost in [&live, &past] {
        got.messages.lock().unwrap().remove(&key_of(&lost.id));
    }
    let mut expected = [live.id, past.id].map(|id| (Kind::Missing, id));
    expected.sort();
    let since = |at| Some(Micros(at));
    world.sources.receiver.as_mut().unwrap().since = since(0);
    assert_eq!(names(&world.found(Sink::Webhook).await), expected);
    world.sources.receiver.as_mut().unwrap().since = since(i64::MAX / 2);
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.runs[0].before), (0, 14));
}
