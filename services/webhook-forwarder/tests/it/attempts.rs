//! Failed attempts: again, later, not at all.

use std::time::{Duration, Instant};

use crate::delivery::events;
use crate::support::{Forwarder, Receiver, Reply, Topics, config, endpoint};

#[tokio::test]
async fn a_repeat_has_the_same_id_and_the_same_body() {
    let topics = Topics::new("attempts-repeat", 1).await;
    let mut count = 0;
    let receiver = Receiver::deciding(move |_| {
        count += 1;
        Reply::status(if count < 4 { 503 } else { 200 })
    })
    .await;
    topics.write(&events(0, 1, 1)).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(1).await;
    forwarder.stop().await;
    let calls = receiver.calls();
    assert_eq!(calls.len(), 4);
    assert!(
        calls
            .iter()
            .all(|call| call.webhook_id() == calls[0].webhook_id() && call.body == calls[0].body)
    );
}

#[tokio::test]
async fn an_outage_loses_nothing_opens_the_breaker_and_ends_with_one_probe() {
    let topics = Topics::new("attempts-outage", 2).await;
    let receiver = Receiver::deciding(|_| Reply::status(500)).await;
    topics.write(&events(0, 100, 10)).await;
    topics.write(&events(1, 100, 10)).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    forwarder.wait_for_complaint("breaker open").await;
    let opened = (Instant::now(), receiver.calls().len());
    receiver.wait_for_calls(opened.1 + 3).await;
    // one probe each 50 to 200 ms, whatever the concurrency; attempts under way when it opened may still come
    let probes = receiver.calls().len() - opened.1;
    let most = 16 + 1 + opened.0.elapsed().as_millis() / 50;
    assert!(
        probes as u128 <= most,
        "{probes} attempts in {:?}",
        opened.0.elapsed()
    );
    assert!(
        topics
            .committed("attempts-outage.enriched.crm")
            .iter()
            .all(|offset| *offset == Some(0))
    );
    receiver.decide(|_| Reply::status(200));
    receiver.wait_for_events(200).await;
    forwarder.wait_until_ready().await;
    forwarder.stop().await;
    assert_eq!(
        receiver.delivered().len(),
        200,
        "nothing was delivered twice"
    );
    assert!(
        topics.letters().await.is_empty(),
        "an outage costs no record"
    );
    assert_eq!(
        topics.committed("attempts-outage.enriched.crm"),
        [Some(100), Some(100)]
    );
}

#[tokio::test]
async fn retry_after_is_honoured_by_the_whole_endpoint() {
    let topics = Topics::new("attempts-retry-after", 1).await;
    // when the first call came: by this test's clock, and in seconds since 1970 as attempts are signed
    let mut first: Option<(Instant, i64)> = None;
    let receiver = Receiver::deciding(move |call| {
        let begun = call.begun();
        match first {
            None => {
                first = Some((Instant::now(), begun));
                Reply {
                    retry_after: Some("4"),
                    ..Reply::status(429)
                }
            }
            // what was begun beside the first one is not judged
            Some((_, at)) if begun < at + 2 => Reply::status(503),
            Some((at, _)) if at.elapsed() < Duration::from_millis(3_950) => Reply::status(418),
            Some(_) => Reply::status(200),
        }
    })
    .await;
    topics.write(&events(0, 10, 10)).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(10).await;
    forwarder.stop().await;
    assert!(
        receiver.calls().iter().all(|call| call.status != 418),
        "an attempt came within the time asked for"
    );
}

#[tokio::test]
async fn a_slow_answer_counts_as_a_failure_and_is_tried_again() {
    let topics = Topics::new("attempts-timeout", 1).await;
    let mut count = 0;
    let receiver = Receiver::deciding(move |_| {
        count += 1;
        let after = Duration::from_secs(if count == 1 { 20 } else { 0 });
        Reply {
            after,
            ..Reply::status(200)
        }
    })
    .await;
    topics.write(&events(0, 1, 1)).await;
    let mut impatient = endpoint("crm", &receiver.url());
    impatient.timeout = Duration::from_millis(200);
    let forwarder = Forwarder::start(config(&topics, vec![impatient]));
    receiver.wait_for_calls(2).await;
    forwarder.stop().await;
    let calls = receiver.calls();
    assert_eq!(calls[0].webhook_id(), calls[1].webhook_id());
}

#[tokio::test]
async fn a_410_disables_the_endpoint_and_keeps_its_position() {
    let topics = Topics::new("attempts-gone", 1).await;
    let receiver = Receiver::deciding(|_| Reply::status(410)).await;
    topics.write(&events(0, 5, 1)).await;
    let endpoints = vec![endpoint("crm", &receiver.url())];
    let forwarder = Forwarder::start(config(&topics, endpoints.clone()));
    forwarder.wait_for_complaint("answered 410").await;
    topics.write(&events(0, 10, 1)[5..]).await;
    forwarder.stop().await;
    assert_eq!(receiver.calls().len(), 1, "no attempt after the 410");
    assert_eq!(topics.committed("attempts-gone.enriched.crm"), [Some(0)]);
    assert!(topics.letters().await.is_empty());
    receiver.decide(|_| Reply::status(200));
    let forwarder = Forwarder::start(config(&topics, endpoints));
    receiver.wait_for_events(10).await;
    forwarder.stop().await;
}
