//! Letters of an endpoint that are sent back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engagement::event::Micros;
use stream::dead_letter::{Entry, Letter};
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::redrive::to_reader;

use crate::delivery::events;
use crate::support::{Call, Forwarder, Receiver, Reply, Topics, config, endpoint, eventually};

#[tokio::test]
async fn a_letter_sent_back_is_the_same_message_and_reaches_its_endpoint_alone() {
    let topics = Topics::new("redrive", 1).await;
    let repaired = Arc::new(AtomicBool::new(false));
    let decides = Arc::clone(&repaired);
    let crm = Receiver::deciding(move |call: &Call| {
        let refuses = call.event_id() == "2" && !decides.load(Ordering::SeqCst);
        Reply::status(if refuses { 422 } else { 200 })
    })
    .await;
    let erp = Receiver::start().await;
    topics.write(&events(0, 5, 5)).await;
    let endpoints = vec![endpoint("crm", &crm.url()), endpoint("erp", &erp.url())];
    let forwarder = Forwarder::start(config(&topics, endpoints));
    crm.wait_for_events(4).await;
    erp.wait_for_events(5).await;
    let letter = letter(&topics).await;
    assert_eq!(letter.consumer(), "webhook-forwarder.crm");
    let refused = message(&crm, "2");

    repaired.store(true, Ordering::SeqCst);
    let producer = stream::Producer::new(&topics.settings, ProducerOptions::default()).unwrap();
    let copy = to_reader(&letter, &topics.enriched.as_str().into(), 0, Micros(1));
    producer.send_acked(&copy).await.unwrap();
    crm.wait_for_events(5).await;
    // what comes after it is delivered to both, so both have passed it
    let more = events(0, 6, 6).split_off(5);
    topics.write(&more).await;
    crm.wait_for_events(6).await;
    erp.wait_for_events(6).await;
    eventually("both have passed it", async || {
        let at = ["crm", "erp"].map(|name| topics.committed(&format!("redrive.enriched.{name}")));
        let done = at.iter().all(|group| group == &[Some(7)]);
        done.then_some(()).ok_or_else(|| format!("{at:?}"))
    })
    .await;
    forwarder.stop().await;

    assert_eq!(message(&crm, "2"), refused, "same id, same body");
    assert_eq!(erp.calls().len(), 6, "the other one got nothing twice");
    assert_eq!(topics.letters().await.len(), 1);
}

/// Id and body of the last call about an event.
fn message(receiver: &Receiver, event_id: &str) -> (String, Vec<u8>) {
    let calls = receiver.calls();
    let call = calls.iter().rev().find(|call| call.event_id() == event_id);
    let call = call.unwrap();
    (call.webhook_id(), call.body.to_vec())
}

async fn letter(topics: &Topics) -> Letter {
    let probe = Probe::new(&topics.settings, "letters");
    let record = eventually("the letter", async || {
        let read = probe.read_range(&topics.letters, 0, 0, 1).await;
        let record = read.map_err(|error| error.to_string())?.pop();
        record.ok_or_else(|| "none".to_owned())
    })
    .await;
    match Entry::of(record) {
        Entry::Letter(letter) => *letter,
        Entry::Mark(mark) => panic!("{mark:?}"),
    }
}
