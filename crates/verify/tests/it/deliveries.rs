//! The enriched topic against the deliveries of a receiver; ids and bodies are the forwarder's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use engagement::event::EnrichedEvent;
use engagement::profile::{Profile, RenderOptions};
use verify::delivery::{Page, SLOTS, Slot, Summary, hash_of, key_of, slot_of};
use verify::{Kind, ReceiverSource, Sink};
use webhook_forwarder::message::{Message, MessageShape, Order};

use crate::stores;
use crate::world::{UUIDS, World, names};

/// What a receiver got, and how it says so.
#[derive(Clone, Default)]
struct Got {
    messages: Arc<Mutex<BTreeMap<u64, u64>>>,
    changed: Arc<Mutex<Vec<String>>>,
}

impl Got {
    fn take(&self, message: &Message) {
        let (key, body) = (key_of(&message.id), hash_of(&message.body));
        self.messages.lock().unwrap().insert(key, body);
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

async fn summary(State(got): State<Got>) -> Json<Summary> {
    let mut slots = vec![Slot::default(); SLOTS];
    for (key, body) in got.messages.lock().unwrap().iter() {
        slots[slot_of(*key)].add(*key, *body);
    }
    let changed_ids = got.changed.lock().unwrap().clone();
    Json(Summary {
        slots,
        changed: changed_ids.len() as u64,
        changed_ids,
        ..Summary::default()
    })
}

async fn page(
    State(got): State<Got>,
    Path(slot): Path<usize>,
    Query(part): Query<BTreeMap<String, u64>>,
) -> Json<Page> {
    let messages = got.messages.lock().unwrap();
    let of_slot = messages
        .iter()
        .filter(|(key, _)| slot_of(**key) == slot && **key > part["after"]);
    Json(Page(
        of_slot.map(|(key, body)| (*key, *body)).take(2).collect(),
    ))
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
