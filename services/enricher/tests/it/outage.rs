//! The broker goes away and comes back while nothing happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devstack::Stack;
use engagement::envelope::Parser;
use enricher::contents::Contents;
use enricher::follower::{Follower, Waits};
use stream::KafkaSettings;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::cdc::{self, Change};
use crate::world::PATIENCE;

/// A broker that is away keeps no test waiting for long.
const ASK: Duration = Duration::from_secs(1);
/// Longer than any outage of a test: its client is not replaced.
const NEVER: Duration = Duration::from_secs(3600);

/// Waits until the contents are as wanted; fails with what their readiness was last.
async fn until(contents: &Contents, what: &str, wanted: impl Fn(&Contents) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(contents) {
        assert!(
            Instant::now() < deadline,
            "{what}; seen last: {:?}",
            contents.readiness()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_ready(contents: &Contents) {
    until(contents, "ready", |seen| seen.readiness().is_ok()).await;
}

async fn until_not_ready(contents: &Contents) {
    until(contents, "not ready", |seen| seen.readiness().is_err()).await;
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
    async fn follow(topic: &'static str, changes: &[Change], lost: Duration) -> Self {
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
            follower(&shared, &settings, topic, Waits { ask: ASK, lost }).run(&stopping);
        });
        until_ready(&contents).await;
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

/// A busy machine may need longer than one question for its first answer.
fn follower(
    contents: &Arc<Contents>,
    settings: &KafkaSettings,
    topic: &str,
    waits: Waits,
) -> Follower {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let contents = Arc::clone(contents);
        match Follower::new(contents, settings, topic, Parser::default(), waits) {
            Ok(follower) => return follower,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_content_topic_is_followed_again_soon_after_the_broker_is_back() {
    let world = World::follow("idle", &[], NEVER).await;
    world.stack.kafka().kill9().await.unwrap();
    until_not_ready(&world.contents).await;
    world.stack.kafka().start().await.unwrap();
    // librdkafka by itself would look after five minutes
    until_ready(&world.contents).await;
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_not_answered_for_long_is_replaced_by_one_that_reads_everything_again() {
    let row = |id: &str| cdc::content_row(id, "A title", Some(300));
    let change = |id: &str, n| cdc::content("c", None, Some(&row(id)), cdc::at(n));
    let world = World::follow("long", &[change("a", 1), change("b", 2)], ASK).await;
    let mut arrived = world.contents.changes();
    let there = tokio::time::timeout(PATIENCE, arrived.wait_for(|records| *records >= 2));
    there.await.unwrap().unwrap();
    world.stack.kafka().kill9().await.unwrap();
    until(&world.contents, "a second client asks", |seen| {
        let reason = seen.readiness().err();
        reason.is_some_and(|reason| reason.contains("of this outage"))
    })
    .await;
    world.stack.kafka().start().await.unwrap();
    until_ready(&world.contents).await;
    let again = tokio::time::timeout(PATIENCE, arrived.wait_for(|records| *records >= 4));
    again.await.expect("both once more").unwrap();
    world.broker.produce("long", 0, &[change("c", 3)]);
    until(&world.contents, "the new row", |seen| {
        seen.read().len() == 3
    })
    .await;
    world.end();
}
