//! The topic of backfills against the deliveries of a receiver that takes historical events.

use engagement::event::{EnrichedEvent, Lane, Micros, Origin};
use verify::delivery::key_of;
use verify::{Kind, RunState, Sink};
use webhook_forwarder::message::Message;

use crate::receiver::{Got, delivered, message};
use crate::stores;
use crate::world::{World, names};

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
