//! What happens at one endpoint stays at that endpoint.

use std::time::Duration;

use crate::delivery::events;
use crate::support::{Call, Forwarder, Receiver, Reply, Topics, config, endpoint};

#[tokio::test]
async fn a_slow_endpoint_does_not_slow_another_one() {
    let topics = Topics::new("isolation-slow", 2).await;
    let fast = Receiver::start().await;
    let slow = Receiver::deciding(|_| Reply {
        after: Duration::from_secs(60),
        ..Reply::status(200)
    })
    .await;
    topics.write(&events(0, 200, 10)).await;
    topics.write(&events(1, 200, 10)).await;
    let mut impatient = endpoint("slow", &slow.url());
    impatient.timeout = Duration::from_millis(500);
    let forwarder = Forwarder::start(config(
        &topics,
        vec![endpoint("fast", &fast.url()), impatient],
    ));
    fast.wait_for_events(400).await;
    // repeats apart: how often it is tried again until then is a matter of the machine
    let mut tried: Vec<_> = slow.calls().iter().map(Call::event_id).collect();
    tried.sort();
    tried.dedup();
    assert!(
        tried.len() < 100,
        "the slow one is still at its beginning: {tried:?}"
    );
    forwarder.stop().await;
    assert_eq!(
        topics.committed("isolation-slow.enriched.fast"),
        [Some(200), Some(200)]
    );
    assert_eq!(
        topics.committed("isolation-slow.enriched.slow"),
        [Some(0), Some(0)]
    );
}

#[tokio::test]
async fn a_private_address_behind_a_name_gets_no_request_and_keeps_its_records() {
    let topics = Topics::new("isolation-private", 1).await;
    let receiver = Receiver::start().await;
    let other = Receiver::start().await;
    topics.write(&events(0, 5, 1)).await;
    let url = format!("http://localhost:{}/hook", receiver.port);
    let mut guarded = endpoint("guarded", &url);
    guarded.allow_private = false;
    let endpoints = vec![guarded, endpoint("other", &other.url())];
    let forwarder = Forwarder::start(config(&topics, endpoints));
    other.wait_for_events(5).await;
    forwarder.wait_for_complaint("guarded: receiver").await;
    forwarder.stop().await;
    assert!(receiver.calls().is_empty());
    assert!(topics.letters().await.is_empty());
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("guarded", &url)]));
    receiver.wait_for_events(5).await;
    forwarder.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_begin_ends_alone() {
    let topics = Topics::new("isolation-lost", 1).await;
    let receiver = Receiver::start().await;
    topics.write(&events(0, 5, 1)).await;
    let mut lost = endpoint("lost", &receiver.url());
    lost.start = webhook_forwarder::config::Start::Resume;
    let forwarder = Forwarder::start(config(
        &topics,
        vec![lost, endpoint("well", &receiver.url())],
    ));
    receiver.wait_for_events(5).await;
    let complaint = forwarder.wait_for_complaint("endpoint lost").await;
    assert!(complaint.contains("positions"), "{complaint}");
    forwarder.stop_anyway().await;
}
