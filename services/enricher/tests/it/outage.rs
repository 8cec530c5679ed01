//! The broker goes away and comes back while nothing happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devstack::Stack;
use engagement::envelope::Parser;
use enricher::contents::Contents;
use enricher::follower::Follower;
use stream::KafkaSettings;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::cdc::{self, Change};
use crate::world::PATIENCE;

async fn until(contents: &Contents, wanted: bool, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let seen = contents.readiness();
        if seen.is_ok() == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "ready = {wanted} is awaited for {within:?}; seen last: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A follower of a topic of a broker of its own, until it is told to stop.
struct World {
    stack: Stack,
    broker: Broker,
    contents: Arc<Contents>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl World {
    async fn follow(topic: &'static str, changes: &[Change]) -> Self {
        let stack = Stack::builder().kafka().private().start().await.unwrap();
        let broker = Broker::new(&stack.kafka().bootstrap);
        broker.create(topic, 1, true).await;
        broker.produce(topic, 0, changes);
        let settings = KafkaSettings {
            bootstrap_servers: stack.kafka().bootstrap.clone(),
            ..KafkaSettings::default()
        };
        let (contents, stop) = (Arc::new(Contents::default()), CancellationToken::new());
        let (shared, stopping) = (Arc::clone(&contents), stop.clone());
        let thread = std::thread::spawn(move || {
            let follower = Follower::new(shared, &settings, topic, Parser::default()).unwrap();
            follower.run(&stopping);
        });
        until(&contents, true, PATIENCE).await;
        Self {
            stack,
            broker,
            contents,
            stop,
            thread,
        }
    }

    fn end(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_content_topic_is_followed_again_soon_after_the_broker_is_back() {
    let world = World::follow("idle", &[]).await;
    world.stack.kafka().kill9().await.unwrap();
    until(&world.contents, false, PATIENCE).await;
    world.stack.kafka().start().await.unwrap();
    // librdkafka by itself would look after five minutes
    until(&world.contents, true, PATIENCE).await;
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_not_answered_for_long_is_replaced_by_one_that_reads_everything_again() {
    let row = |id: &str| cdc::content_row(id, "A title", Some(300));
    let change = |id: &str, n| cdc::content("c", None, Some(&row(id)), cdc::at(n));
    let world = World::follow("long", &[change("a", 1), change("b", 2)]).await;
    let mut arrived = world.contents.changes();
    let there = tokio::time::timeout(PATIENCE, arrived.wait_for(|records| *records == 2));
    there.await.unwrap().unwrap();
    world.stack.kafka().kill9().await.unwrap();
    until(&world.contents, false, PATIENCE).await;
    // as long as a client is kept, and the answer that it waits for
    tokio::time::sleep(Duration::from_secs(45)).await;
    world.stack.kafka().start().await.unwrap();
    until(&world.contents, true, PATIENCE).await;
    world.broker.produce("long", 0, &[change("c", 3)]);
    let again = tokio::time::timeout(PATIENCE, arrived.wait_for(|records| *records >= 5));
    again.await.expect("two again, and one more").unwrap();
    world.end();
}
