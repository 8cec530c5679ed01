//! A dependency that stands still (SIGSTOP: its connections stay open, nothing answers) makes whoever needs it Not Ready within
//! ten seconds, and nobody else; all are Ready again when it goes on.

use std::time::Duration;

use e2e::{Content, Event, World};
use tokio::time::Instant;

use crate::pipeline::{PATIENCE, eventually, page, pipeline};

/// What is promised.
const WITHIN: Duration = Duration::from_secs(10);
const ALL: [&str; 4] = [
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
];

async fn readiness(world: &World, service: &str) -> Result<(), String> {
    match page(world.addresses().admin(service), "/readyz").await {
        Some((200, _)) => Ok(()),
        Some((status, body)) => Err(format!("{status} {body}")),
        None => Err("no answer".into()),
    }
}

async fn ready(world: &World, services: &[&str]) {
    for service in services {
        eventually(&format!("{service} is ready"), PATIENCE, async || {
            world.start_again();
            readiness(world, service).await
        })
        .await;
    }
}

/// Each of these is Not Ready within the promise, naming what it waits for, and lives on; the others stay Ready.
async fn unready(world: &World, services: &[&str], named: &str) {
    let stopped = Instant::now();
    for service in services {
        let left = WITHIN.saturating_sub(stopped.elapsed());
        let what = format!("{service} is not ready within {} s", WITHIN.as_secs());
        let reason = eventually(&what, left, async || {
            match readiness(world, service).await {
                Ok(()) => Err("ready".into()),
                Err(reason) => Ok(reason),
            }
        })
        .await;
        assert!(reason.to_lowercase().contains(named), "{service}: {reason}");
        let alive = page(world.addresses().admin(service), "/livez").await;
        assert_eq!(
            alive.map(|(status, _)| status),
            Some(200),
            "{service} lives"
        );
    }
    for service in ALL.iter().filter(|service| !services.contains(service)) {
        assert_eq!(readiness(world, service).await, Ok(()), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stands_still_makes_its_sink_unready_and_no_other() {
    let (world, _turn) = pipeline().await;
    ready(world, &ALL).await;
    let stack = world.stack();

    stack.redis().pause().unwrap();
    unready(world, &["redis-aggregator"], "redis").await;
    stack.redis().resume().unwrap();
    ready(world, &ALL).await;

    stack.clickhouse().pause().unwrap();
    unready(world, &["clickhouse-sink"], "clickhouse").await;
    stack.clickhouse().resume().unwrap();
    ready(world, &ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_makes_every_service_unready_and_none_dead() {
    let (world, _turn) = pipeline().await;
    ready(world, &ALL).await;
    world.stack().kafka().pause().unwrap();
    unready(world, &ALL, "broker").await;
    world.stack().kafka().resume().unwrap();
    ready(world, &ALL).await;
    let content = world.insert_content(Content::podcast(100)).await;
    let event = world.insert_event(Event::play(&content, 1000)).await;
    world.clickhouse_row(&event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_nothing_makes_the_forwarder_unready_only_while_there_is_something_to_send()
 {
    let (world, _turn) = pipeline().await;
    ready(world, &ALL).await;
    let content = world.insert_content(Content::podcast(100)).await;
    let before = world.insert_event(Event::play(&content, 1000)).await;
    world.delivered(&before).await;

    world.pause("receiver");
    assert_eq!(
        readiness(world, "webhook-forwarder").await,
        Ok(()),
        "nothing to do"
    );
    let waiting = world.insert_event(Event::play(&content, 2000)).await;
    // it is under way once another sink has it
    world.clickhouse_row(&waiting).await;
    unready(world, &["webhook-forwarder"], "attempt").await;
    world.resume("receiver");
    world.delivered(&waiting).await;
    ready(world, &ALL).await;
}
