//! What becomes a dead letter, and what does not.

use engagement::event::{Lane, Origin};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};

use crate::delivery::events;
use crate::support::{
    Call, Forwarder, Letter, Receiver, Reply, Topics, config, endpoint, eventually,
};

async fn letters(topics: &Topics, count: usize) -> Vec<Letter> {
    eventually("dead letters", async || {
        let letters = topics.letters().await;
        if letters.len() >= count {
            Ok(letters)
        } else {
            Err(format!("{} of {count}", letters.len()))
        }
    })
    .await
}

fn refusing(event_id: &'static str, status: u16) -> impl FnMut(&Call) -> Reply {
    move |call| {
        Reply::status(if call.event_id() == event_id {
            status
        } else {
            200
        })
    }
}

#[tokio::test]
async fn poison_becomes_a_dead_letter_with_its_bytes_and_the_stream_goes_on() {
    let topics = Topics::new("letters-poison", 1).await;
    let receiver = Receiver::start().await;
    let all = events(0, 3, 1);
    topics.write(&all[..1]).await;
    let poison = b"\xff\xfe not protobuf";
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("engagement-source", "live/0/0/1"),
        ("x", "y"),
    ];
    topics
        .write_raw(0, Some("content-0-0".into()), Some(poison), &headers)
        .await;
    topics.write(&all[2..]).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(2).await;
    let letters = letters(&topics, 1).await;
    forwarder.stop().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload.as_deref(), Some(&poison[..]));
    let header = |name: &str| letters[0].headers[name].as_str();
    assert_eq!(header("x"), "y");
    assert_eq!(header("__connect.errors.topic"), topics.enriched);
    assert_eq!(header("__connect.errors.offset"), "1");
    assert_eq!(
        header("__connect.errors.connector.name"),
        "webhook-forwarder"
    );
    assert_eq!(header("engage.dlq.endpoint"), "crm");
    assert_eq!(header("engage.dlq.error_kind"), "malformed");
    assert_eq!(topics.committed("letters-poison.enriched.crm"), [Some(3)]);
}

#[tokio::test]
async fn a_permanent_refusal_becomes_a_dead_letter_with_the_original_bytes_after_few_attempts() {
    let topics = Topics::new("letters-rejected", 1).await;
    let receiver = Receiver::deciding(refusing("2", 422)).await;
    let all = events(0, 5, 1);
    topics.write(&all).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(4).await;
    let letters = letters(&topics, 1).await;
    forwarder.stop().await;
    assert_eq!(
        letters[0].payload.as_deref(),
        Some(&encode(&all[2], Format::Protobuf)[..])
    );
    let header = |name: &str| letters[0].headers[name].as_str();
    assert_eq!(header("engage.dlq.error_kind"), "rejected");
    assert_eq!(header("engage.dlq.attempts"), "3");
    let message = header("__connect.errors.exception.message");
    assert!(
        message.contains("endpoint crm") && message.contains("status 422"),
        "{message}"
    );
    let order: Vec<_> = receiver.calls().iter().map(Call::event_id).collect();
    assert_eq!(
        order,
        ["0", "1", "2", "2", "2", "3", "4"],
        "later events of the content waited"
    );
    assert_eq!(topics.committed("letters-rejected.enriched.crm"), [Some(5)]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let topics = Topics::new("letters-redirect", 1).await;
    let receiver = Receiver::deciding(refusing("0", 307)).await;
    topics.write(&events(0, 3, 3)).await;
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    receiver.wait_for_events(2).await;
    let letters = letters(&topics, 1).await;
    forwarder.stop().await;
    assert!(letters[0].headers["__connect.errors.exception.message"].contains("redirect"));
}

#[tokio::test]
async fn a_record_that_fails_while_others_are_delivered_becomes_a_dead_letter() {
    let topics = Topics::new("letters-undeliverable", 1).await;
    let receiver = Receiver::deciding(refusing("0", 500)).await;
    let mut quick = endpoint("crm", &receiver.url());
    quick.retry.transient_failures = 3.try_into().unwrap();
    let forwarder = Forwarder::start(config(&topics, vec![quick]));
    let mut written = 0;
    let letters = eventually("dead letter", async || {
        // each further event, delivered, shows that the endpoint is well
        let event = Sample::new()
            .event_id(written)
            .content_id(written)
            .at_position(0, written)
            .build();
        topics.write(&[event]).await;
        written += 1;
        let letters = topics.letters().await;
        if letters.is_empty() {
            Err(format!("none after {written} events"))
        } else {
            Ok(letters)
        }
    })
    .await;
    receiver
        .wait_for_events(usize::try_from(written).unwrap() - 1)
        .await;
    forwarder.stop().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers["engage.dlq.error_kind"], "undeliverable");
    assert_eq!(
        topics.committed("letters-undeliverable.enriched.crm"),
        [Some(written)]
    );
}

#[tokio::test]
async fn an_endpoint_that_refuses_most_records_stops_instead_of_flooding_the_dead_letters() {
    let topics = Topics::new("letters-flood", 1).await;
    let receiver = Receiver::deciding(|_| Reply::status(401)).await;
    topics.write(&events(0, 300, 50)).await;
    let mut wrong = endpoint("crm", &receiver.url());
    wrong.retry.permanent_failures = 1.try_into().unwrap();
    let forwarder = Forwarder::start(config(&topics, vec![wrong]));
    let failure = forwarder.failure().await;
    assert_eq!(failure.exit().code(), 78, "{failure:?}");
    let text = failure.causes().join(": ");
    assert!(
        text.contains("status 401") && text.contains("rejected"),
        "{text}"
    );
    let letters = topics.letters().await.len();
    assert!((100..=120).contains(&letters), "{letters} dead letters");
}

/// What is no event is read ahead of the deliveries, and says nothing about the endpoint.
#[tokio::test]
async fn what_is_no_event_stops_its_own_partition_and_only_where_it_is_most_of_it() {
    let topics = Topics::new("letters-rubbish", 3).await;
    let receiver = Receiver::start().await;
    for (partition, count) in [(0, 60), (1, 60), (2, 150)] {
        for _ in 0..count {
            let key = Some(format!("content-{partition}"));
            topics.write_raw(partition, key, Some(b"\xff"), &[]).await;
        }
    }
    let forwarder = Forwarder::start(config(&topics, vec![endpoint("crm", &receiver.url())]));
    let said = forwarder.wait_for_complaint("were rejected").await;
    assert!(said.contains("partition 2 "), "{said}");
    eventually("the other partitions go on", async || {
        match topics.committed("letters-rubbish.enriched.crm")[..] {
            [Some(60), Some(60), _] => Ok(()),
            ref other => Err(format!("{other:?}")),
        }
    })
    .await;
    forwarder.stop().await;
}

#[tokio::test]
async fn a_backfill_that_the_endpoint_refuses_stops_alone_and_says_so_and_the_live_stream_goes_on()
{
    let topics = Topics::new("letters-flood-beside", 1).await;
    let receiver = Receiver::deciding(|call| {
        let id: i64 = call.event_id().parse().unwrap();
        Reply::status(if id >= 1000 || id == 5 { 422 } else { 200 })
    })
    .await;
    let mut historical = endpoint("crm", &receiver.url());
    historical.historical = true;
    historical.retry.permanent_failures = 1.try_into().unwrap();
    let read = |id: i64| {
        let sample = Sample::new().event_id(1000 + id).at_position(0, id);
        sample.lane(Lane::Backfill).origin(Origin::Backfill).build()
    };
    let brought: Vec<_> = (0..300).map(read).collect();
    topics.bring(&brought, "webhook").await;
    let forwarder = Forwarder::start(config(&topics, vec![historical]));
    let said = forwarder.wait_for_complaint("were rejected").await;
    assert!(said.contains("endpoint crm: backfill"), "{said}");
    // a single refusal of the live stream is a letter, and nothing else
    topics.write(&events(0, 10, 1)).await;
    receiver.wait_for_events(9).await;
    eventually("the live stream goes on", async || {
        match topics.committed("letters-flood-beside.enriched.crm")[..] {
            [Some(10)] => Ok(()),
            ref other => Err(format!("{other:?}")),
        }
    })
    .await;
    forwarder.wait_for_complaint("endpoint crm: backfill").await;
    forwarder.stop().await;
    let letters = topics.letters().await.len();
    assert!((101..=130).contains(&letters), "{letters} dead letters");
}
