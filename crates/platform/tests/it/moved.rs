//! An event that moves to another content is two change records of one change: neither may be lost.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use devstack::next_message;
use platform::{Keeper, Look};
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use reqwest::Method;
use serde_json::Value;

use crate::capture::{Capture, PATIENCE};

const CONTENT_A: &str = "11111111-1111-1111-1111-111111111111";
const CONTENT_B: &str = "22222222-2222-2222-2222-222222222222";
/// Less than the new image of [`MOVE`], more than every other record.
pub(crate) const TOO_SMALL: &str = "50000";
pub(crate) const ENOUGH: &str = "12582912";

const CONTENTS: &str = "INSERT INTO content (id, slug, title, content_type, publish_ts) VALUES
    ('11111111-1111-1111-1111-111111111111', 'a', 'A', 'video', now()),
    ('22222222-2222-2222-2222-222222222222', 'b', 'B', 'video', now())";
const EVENT: &str = "INSERT INTO engagement_events (id, content_id, event_type)
    VALUES (1, '11111111-1111-1111-1111-111111111111', 'play')";
/// The row becomes about 640 kB larger with it.
const MOVE: &str = "UPDATE engagement_events SET content_id = '22222222-2222-2222-2222-222222222222',
    raw_payload = (SELECT jsonb_build_object('x', string_agg(md5(i::text), '')) FROM generate_series(1, 20000) i)
    WHERE id = 1";
/// Once there is one, what is committed is streamed.
const AWAIT_SLOT: &str = "DO $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP; END $$";
const LATER: &str = "INSERT INTO engagement_events (id, event_type) VALUES (2, 'click')";

/// The change topic, read from its beginning.
pub(crate) struct Changes {
    consumer: BaseConsumer,
    seen: HashSet<String>,
}

impl Changes {
    pub(crate) fn of(capture: &Capture) -> Self {
        let consumer: BaseConsumer = capture
            .settings
            .kafka
            .admin_config()
            .set("group.id", "changes")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[&capture.settings.topics.cdc]).unwrap();
        let seen = HashSet::new();
        Self { consumer, seen }
    }

    /// Reads until this change (operation, event, content) has come.
    pub(crate) fn await_change(&mut self, change: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(change) {
            let record = next_message(&self.consumer, deadline)
                .unwrap_or_else(|error| panic!("no {change} in {:?}: {error}", self.seen));
            if let Some(payload) = record.payload() {
                self.seen.insert(name(payload));
            }
        }
    }
}

fn name(envelope: &[u8]) -> String {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    let operation = envelope["op"].as_str().unwrap();
    let image = if operation == "d" { "before" } else { "after" };
    let row = &envelope[image];
    let content = row["content_id"].as_str().unwrap_or("none");
    format!("{operation} {} {content}", row["id"])
}

/// From now on, the change topic takes no larger record.
pub(crate) async fn limit_records_to(capture: &Capture, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> =
        capture.settings.kafka.admin_config().create().unwrap();
    let topic = ResourceSpecifier::Topic(&capture.settings.topics.cdc);
    let change = AlterConfig::new(topic).set("max.message.bytes", bytes);
    let altered = admin.alter_configs([&change], &AdminOptions::new()).await;
    altered.unwrap().remove(0).unwrap();
}

/// The connector is started again until it stays.
async fn keep_until_well(keeper: &mut Keeper) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = keeper.look(Instant::now()).await.unwrap();
    while look != Look::Well {
        assert!(Instant::now() < deadline, "{look:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        look = keeper.look(Instant::now()).await.unwrap();
    }
}

/// The new image cannot be written, the old one can; then both can.
async fn lose_the_new_half(capture: &Capture, changes: &mut Changes) {
    capture.sql(MOVE).await;
    changes.await_change(&format!("d 1 {CONTENT_A}"));
    let deadline = Instant::now() + PATIENCE;
    while !capture.status().await.contains("FAILED") {
        assert!(Instant::now() < deadline, "{}", capture.status().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    limit_records_to(capture, ENOUGH).await;
    keep_until_well(&mut capture.keeper()).await;
}

/// Forgets what was delivered: the connector begins with a snapshot.
async fn begin_again(capture: &Capture) {
    capture.ask(Method::PUT, "stop").await;
    capture.ask(Method::DELETE, "offsets").await;
    capture
        .sql("SELECT pg_drop_replication_slot('engage_cdc')")
        .await;
    capture.ask(Method::PUT, "resume").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_half_of_a_move_is_sent_again_when_only_the_old_half_was_acknowledged() {
    let capture = Capture::start(16).await;
    let mut changes = Changes::of(&capture);
    capture.sql(CONTENTS).await;
    capture.sql(EVENT).await;
    changes.await_change(&format!("c 1 {CONTENT_A}"));

    limit_records_to(&capture, TOO_SMALL).await;
    lose_the_new_half(&capture, &mut changes).await;
    capture.sql(LATER).await;
    changes.await_change("c 2 none");
    changes.await_change(&format!("c 1 {CONTENT_B}"));
    // a consumer whose broker is gone may wait for it for ever
    drop(changes);
    capture.stack.shutdown().await;
}

/// No transaction was streamed before, so there is no end of one to go back to.
#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_when_the_move_is_the_first_change_after_a_snapshot() {
    let capture = Capture::start(16).await;
    let mut changes = Changes::of(&capture);
    capture.sql(CONTENTS).await;
    capture.sql(EVENT).await;
    limit_records_to(&capture, TOO_SMALL).await;
    begin_again(&capture).await;
    capture.sql(AWAIT_SLOT).await;

    lose_the_new_half(&capture, &mut changes).await;
    changes.await_change(&format!("c 1 {CONTENT_B}"));
    assert!(changes.seen.contains(&format!("r 1 {CONTENT_A}")));
    // a consumer whose broker is gone may wait for it for ever
    drop(changes);
    capture.stack.shutdown().await;
}
