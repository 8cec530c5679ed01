//! What a receiver gets.

use std::collections::BTreeMap;

use engagement::event::{EnrichedEvent, Lane, Origin};
use engagement::profile::{Profile, RenderOptions};
use engagement::testing::Sample;
use webhook_forwarder::message::Order;

use crate::support::{Forwarder, Receiver, Reply, Topics, config, endpoint};

/// `count` events of `contents` contents in one partition.
pub(crate) fn events(partition: i32, count: i64, contents: i64) -> Vec<EnrichedEvent> {
    let event = |n: i64| {
        let sample = Sample::new().event_id(i64::from(partition) * 1_000_000 + n);
        sample
            .content_id(format!("content-{partition}-{}", n % contents))
            .at_position(partition, n)
    };
    (0..count).map(|n| event(n).build()).collect()
}

#[tokio::test]
async fn every_event_arrives_signed_with_identity_body_and_trace() {
    let topics = Topics::new("delivery-signed", 2).await;
    let receiver = Receiver::start().await;
    topics.write(&events(0, 10, 3)).await;
    topics.write(&events(1, 10, 3)).await;
    let mut plain = endpoint("crm", &receiver.url());
    plain.bearer_token = Some("t0ken".into());
    let forwarder = Forwarder::start(config(&topics, vec![plain]));
    receiver.wait_for_events(20).await;
    forwarder.stop().await;
    let calls = receiver.calls();
    assert_eq!(
        calls.len(),
        20,
        "each event exactly once while nothing fails"
    );
    let verifier = standardwebhooks::Webhook::new(crate::support::SECRET).unwrap();
    for call in &calls {
        verifier.verify(&call.body, &call.headers).unwrap();
        assert_eq!(call.headers["authorization"], "Bearer t0ken");
        assert_eq!(call.headers["content-type"], "application/json");
        assert!(
            call.headers["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("engage-webhook-forwarder/")
        );
        let body = call.json();
        assert_eq!(body["type"], "engagement_event.created");
        assert_eq!(
            body["uid"],
            format!("engage.engagement_events:{}", call.event_id())
        );
        assert_eq!(body["timestamp"], "2026-01-08T14:21:52Z");
    }
    let mut ids: Vec<_> = calls.iter().map(crate::support::Call::webhook_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert!(topics.letters().await.is_empty());
}

#[tokio::test]
async fn events_of_a_content_arrive_in_order_even_while_a_third_of_all_attempts_fails() {
    let topics = Topics::new("delivery-order", 2).await;
    let mut count = 0;
    let receiver = Receiver::deciding(move |_| {
        count += 1;
        Reply::status(if count % 3 == 0 { 500 } else { 200 })
    })
    .await;
    topics.write(&events(0, 60, 5)).await;
    topics.write(&events(1, 60, 5)).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(120).await;
    forwarder.stop().await;
    let mut by_content: BTreeMap<String, Vec<(i64, u16)>> = BTreeMap::new();
    for call in receiver.calls() {
        let attempt = (call.event_id().parse().unwrap(), call.status);
        by_content.entry(call.content()).or_default().push(attempt);
    }
    assert_eq!(by_content.len(), 10);
    for (content, attempts) in by_content {
        for pair in attempts.windows(2) {
            let [(before, status), (after, _)] = pair else {
                panic!()
            };
            let expected = if *status == 200 {
                before < after
            } else {
                before == after
            };
            assert!(expected, "{content}: {attempts:?}");
        }
    }
}

#[tokio::test]
async fn where_only_the_changes_of_an_event_keep_order_a_content_goes_on_without_the_one_that_fails()
 {
    let topics = Topics::new("delivery-by-event", 1).await;
    let (first, others) = ("0".to_owned(), 19);
    let mut delivered = 0;
    let receiver = Receiver::deciding(move |call| {
        if call.event_id() == first && delivered < others {
            return Reply::status(503);
        }
        delivered += 1;
        Reply::status(200)
    })
    .await;
    let mut by_event = endpoint("crm", &receiver.url());
    by_event.order = Order::Event;
    topics.write(&events(0, 1 + others, 1)).await;
    let forwarder = Forwarder::start(config(&topics, vec![by_event]));
    receiver.wait_for_events(20).await;
    forwarder.stop().await;
    assert_eq!(receiver.delivered().last().map(String::as_str), Some("0"));
}

#[tokio::test]
async fn historical_events_and_unwanted_deletions_are_not_sent_but_updates_are() {
    let topics = Topics::new("delivery-selection", 1).await;
    let receiver = Receiver::start().await;
    let at = |id, offset| Sample::new().event_id(id).at_position(0, offset);
    let all = [
        at(1, 0).build(),
        at(2, 1).origin(Origin::Snapshot).build(),
        at(1, 2).replacing(&at(1, 0).build()).build(),
        at(1, 3).deleted().moved().build(),
        at(1, 4).deleted().build(),
    ];
    topics.write(&all).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_calls(3).await;
    forwarder.stop().await;
    let kinds: Vec<_> = receiver
        .calls()
        .iter()
        .map(|c| c.json()["type"].to_string())
        .collect();
    assert_eq!(
        kinds,
        ["created", "updated", "deleted"].map(|kind| format!("\"engagement_event.{kind}\""))
    );
    assert_eq!(
        topics.committed("delivery-selection.enriched.crm"),
        [Some(5)]
    );
}

#[tokio::test]
async fn a_backfill_reaches_the_endpoints_that_want_it_once_and_no_other() {
    let topics = Topics::new("delivery-backfill", 1).await;
    let (past, present) = (Receiver::start().await, Receiver::start().await);
    let mut historical = endpoint("past", &past.url());
    historical.historical = true;
    let read = |id: i64| {
        let sample = Sample::new().event_id(id).at_position(0, id);
        sample.lane(Lane::Backfill).origin(Origin::Backfill).build()
    };
    topics
        .bring(&[read(100), read(101)], "clickhouse,webhook")
        .await;
    topics.bring(&[read(102)], "clickhouse").await;
    topics.write(&events(0, 5, 5)).await;
    let endpoints = || vec![historical.clone(), endpoint("present", &present.url())];
    let forwarder = Forwarder::start(config(&topics, endpoints()));
    past.wait_for_events(7).await;
    present.wait_for_events(5).await;
    forwarder.stop().await;
    // neither comes again with a restart
    topics.write(&events(0, 6, 5)[5..]).await;
    let forwarder = Forwarder::start(config(&topics, endpoints()));
    past.wait_for_events(8).await;
    present.wait_for_events(6).await;
    forwarder.stop().await;
    for call in past.calls() {
        let run = call.headers.get("engage-backfill-run");
        let expected = call.event_id().starts_with("10").then_some("7");
        assert_eq!(run.map(|run| run.to_str().unwrap()), expected);
    }
    let mut delivered = past.delivered();
    delivered.sort();
    assert_eq!(delivered, ["0", "1", "100", "101", "2", "3", "4", "5"]);
    assert!(!present.delivered().iter().any(|id| id.starts_with("10")));
}

#[tokio::test]
async fn each_endpoint_gets_its_own_profile() {
    let topics = Topics::new("delivery-profile", 1).await;
    let receivers = [Receiver::start().await, Receiver::start().await];
    let sample = Sample::new().at_position(0, 0).build();
    topics.write(std::slice::from_ref(&sample)).await;
    let mut nested = endpoint("nested", &receivers[1].url());
    nested.profile = Profile::PercentageNested;
    let canonical = endpoint("canonical", &receivers[0].url());
    let forwarder = Forwarder::start(config(&topics, vec![canonical, nested]));
    for receiver in &receivers {
        receiver.wait_for_calls(1).await;
    }
    forwarder.stop().await;
    let options = RenderOptions::default();
    assert_eq!(
        receivers[0].calls()[0].json()["data"],
        Profile::Canonical.value(&sample, &options)
    );
    assert_eq!(
        receivers[1].calls()[0].json(),
        Profile::PercentageNested.value(&sample, &options)
    );
}
