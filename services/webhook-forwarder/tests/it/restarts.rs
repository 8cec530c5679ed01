//! Restarts in the middle of a stream.

use std::collections::HashMap;
use std::process::{Child, Command};
use std::time::Duration;

use crate::delivery::events;
use crate::support::{Forwarder, Receiver, Reply, SECRET, Topics, config, endpoint};

fn slowly(_: &crate::support::Call) -> Reply {
    Reply {
        after: Duration::from_millis(20),
        ..Reply::status(200)
    }
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_nothing_comes_twice() {
    let topics = Topics::new("restarts-drain", 2).await;
    let receiver = Receiver::deciding(slowly).await;
    topics.write(&events(0, 100, 4)).await;
    topics.write(&events(1, 100, 4)).await;
    let endpoints = vec![endpoint("crm", &receiver.url())];
    for part in [40, 90, 140] {
        let forwarder = Forwarder::start(config(&topics, endpoints.clone()));
        receiver.wait_for_calls(part).await;
        forwarder.stop().await;
    }
    let forwarder = Forwarder::start(config(&topics, endpoints));
    receiver.wait_for_events(200).await;
    forwarder.stop().await;
    let repeats = receiver.delivered().len() - 200;
    // out of order completions above the frontier come again: at most the contents under way
    assert!(repeats <= 3 * 8 * 4, "{repeats} repeats");
    assert_eq!(
        topics.committed("restarts-drain.enriched.crm"),
        [Some(100), Some(100)]
    );
}

struct Process(Child);

impl Process {
    fn start(topics: &Topics, url: &str) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_webhook-forwarder"))
            .env(
                "KAFKA_BOOTSTRAP_SERVERS",
                &topics.settings.bootstrap_servers,
            )
            .env("KAFKA_ENRICHED_TOPIC", &topics.enriched)
            .env("KAFKA_GROUP_ID", &topics.enriched)
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("RUST_LOG", "warn")
            .env("WEBHOOK_URL", url)
            .env("WEBHOOK_SECRET", SECRET)
            .env("WEBHOOK_START", "earliest")
            .env("WEBHOOK_ALLOW_INSECURE", "true")
            .env("WEBHOOK_ALLOW_PRIVATE", "true")
            .spawn();
        Self(command.expect("the binary of this crate starts"))
    }
}

impl Drop for Process {
    /// kill -9.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn kill_9_in_the_middle_loses_nothing_and_every_repeat_is_the_same_message() {
    let topics = Topics::new("restarts-kill", 2).await;
    let receiver = Receiver::deciding(slowly).await;
    topics.write(&events(0, 150, 5)).await;
    topics.write(&events(1, 150, 5)).await;
    for part in [60, 180] {
        let process = Process::start(&topics, &receiver.url());
        receiver.wait_for_calls(part).await;
        drop(process);
    }
    let process = Process::start(&topics, &receiver.url());
    receiver.wait_for_events(300).await;
    drop(process);
    let mut bodies = HashMap::new();
    for call in receiver.calls() {
        let first = bodies
            .entry(call.event_id())
            .or_insert((call.webhook_id(), call.body.clone()));
        assert_eq!(
            *first,
            (call.webhook_id(), call.body.clone()),
            "a repeat differs"
        );
    }
    assert_eq!(bodies.len(), 300);
}
