//! A receiver that says what it got, and an endpoint that has delivered everything; ids and bodies are the forwarder's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use engagement::event::EnrichedEvent;
use engagement::profile::{Profile, RenderOptions};
use verify::ReceiverSource;
use verify::delivery::{Delivered, Page, RunSum, SLOTS, Slot, Summary, hash_of, key_of, slot_of};
use webhook_forwarder::message::{Message, MessageShape, Order};

use crate::stores;
use crate::world::{UUIDS, World};

/// What a receiver got, and how it says so.
#[derive(Clone, Default)]
pub(crate) struct Got {
    pub(crate) messages: Arc<Mutex<BTreeMap<u64, u64>>>,
    pub(crate) changed: Arc<Mutex<Vec<String>>>,
    /// Those that a backfill has brought.
    pub(crate) runs: Arc<Mutex<BTreeMap<u64, i64>>>,
}

impl Got {
    pub(crate) fn take(&self, message: &Message) {
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

pub(crate) fn message(event: &EnrichedEvent) -> Message {
    let shape = MessageShape {
        order: Order::Content,
        profile: Profile::Canonical,
        envelope: true,
        render: RenderOptions::default(),
    };
    shape.message(event).unwrap()
}

/// Every event delivered once, and the group at the end of the topic.
pub(crate) async fn delivered(name: &str) -> (World, Got) {
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
pub(crate) fn commit(world: &World, events: &[EnrichedEvent]) {
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
