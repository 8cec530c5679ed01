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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_content_topic_is_followed_again_soon_after_the_broker_is_back() {
    let stack = Stack::builder().kafka().private().start().await.unwrap();
    let broker = Broker::new(&stack.kafka().bootstrap);
    broker.create("idle", 1, true).await;
    let settings = KafkaSettings {
        bootstrap_servers: stack.kafka().bootstrap.clone(),
        ..KafkaSettings::default()
    };
    let (contents, stop) = (Arc::new(Contents::default()), CancellationToken::new());
    let (shared, stopping) = (Arc::clone(&contents), stop.clone());
    let thread = std::thread::spawn(move || {
        let follower = Follower::new(shared, &settings, "idle", Parser::default()).unwrap();
        follower.run(&stopping);
    });
    until(&contents, true, PATIENCE).await;
    stack.kafka().kill9().await.unwrap();
    until(&contents, false, PATIENCE).await;
    stack.kafka().start().await.unwrap();
    // librdkafka by itself would look after five minutes
    until(&contents, true, PATIENCE).await;
    stop.cancel();
    thread.join().unwrap();
}
