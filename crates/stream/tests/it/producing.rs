//! Acknowledged alone, in order, void on failure.

use std::time::Duration;

use bytes::Bytes;
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::{OutRecord, Producer, SendError};

use crate::support::{create, number, random, read, settings, topic, unique, with};

fn record(topic: &str, payload: impl Into<Bytes>) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition: Some(0),
        key: None,
        payload: Some(payload.into()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

fn numbered(topic: &str, number: i64) -> OutRecord {
    record(topic, number.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_record_is_acknowledged_alone_and_the_rest_are_in_order() {
    let topic = topic("out", 1).await;
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let mut lane = producer.lane::<&str>(&topic, 0).await.unwrap();
    lane.send(numbered(&topic, 10), 10, "a").await.unwrap();
    assert_eq!(
        lane.in_flight(),
        0,
        "send of the first returns when it is acknowledged"
    );
    assert_eq!(
        lane.frontier()
            .map(|frontier| (frontier.next, frontier.value)),
        Some((11, "a"))
    );
    lane.skip(11, "skipped").unwrap();
    let mut most = 0;
    for offset in 12..1000 {
        lane.send(numbered(&topic, offset), offset, "b")
            .await
            .unwrap();
        most = most.max(lane.in_flight());
    }
    assert!(most > 1, "later ones are not waited for");
    lane.drained().await.unwrap();
    let frontier = lane.advanced().await.unwrap();
    assert_eq!((frontier.next, frontier.value), (1000, "b"));
    let probe = Probe::new(&settings(), "g");
    let out: Vec<i64> = read(&probe, &topic, 0, 0..5000)
        .await
        .iter()
        .map(number)
        .collect();
    assert_eq!(out, std::iter::once(10).chain(12..1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_the_limit_is_refused_before_it_is_sent_and_can_be_skipped() {
    let topic = topic("limit", 1).await;
    let producer = Producer::new(
        &settings(),
        ProducerOptions {
            max_bytes: Some(10_000),
            ..ProducerOptions::default()
        },
    )
    .unwrap();
    let mut lane = producer.lane::<()>(&topic, 0).await.unwrap();
    lane.send(numbered(&topic, 1), 1, ()).await.unwrap();
    let refused = lane.send(record(&topic, vec![0; 10_000]), 2, ()).await;
    assert!(
        matches!(refused, Err(SendError::TooLarge { limit: 10_000, .. })),
        "{refused:?}"
    );
    lane.skip(2, ()).unwrap();
    lane.send(numbered(&topic, 3), 3, ()).await.unwrap();
    lane.drained().await.unwrap();
    assert_eq!(lane.frontier().unwrap().next, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_delivery_voids_the_producer_for_every_lane_and_the_next_one_works() {
    let (bad, good) = (unique("small"), topic("good", 1).await);
    create(&bad, 1, &[("max.message.bytes", "2000")]).await;
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let mut failing = producer.lane::<()>(&bad, 0).await.unwrap();
    let mut bystander = producer.lane::<()>(&good, 0).await.unwrap();
    bystander.send(numbered(&good, 1), 1, ()).await.unwrap();
    let failed = failing.send(record(&bad, random(5000)), 7, ()).await;
    assert!(
        matches!(&failed, Err(SendError::Void { reason }) if reason.contains("sent for offset 7")),
        "{failed:?}"
    );
    let told = bystander.send(numbered(&good, 2), 2, ()).await;
    assert!(matches!(told, Err(SendError::Void { .. })), "{told:?}");
    let mut again = producer.lane::<()>(&good, 0).await.unwrap();
    again.send(numbered(&good, 2), 2, ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_twice_alone_is_found_in_its_batch() {
    let topic = unique("culprit");
    create(&topic, 1, &[("max.message.bytes", "2000")]).await;
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    let (mut next, mut rounds, culprit) = (0, 0, 20);
    while next <= 40 {
        rounds += 1;
        assert!(rounds < 6, "at {next}");
        let mut lane = producer.lane::<()>(&topic, 0).await.unwrap();
        let outcome = async {
            for offset in next..=40 {
                if lane.refused(offset).is_some() {
                    assert_eq!(offset, culprit);
                    lane.skip(offset, ())?;
                    continue;
                }
                let payload = if offset == culprit {
                    record(&topic, random(5000))
                } else {
                    numbered(&topic, offset)
                };
                lane.send(payload, offset, ()).await?;
            }
            lane.drained().await
        }
        .await;
        // as the enricher does: continue behind the tail of the output
        let tail = Probe::new(&settings(), "g")
            .tail(&topic, 0, 1, Vec::new())
            .await
            .unwrap();
        let last = tail.records.last().map_or(-1, number);
        next = if outcome.is_ok() { 41 } else { last + 1 };
    }
    let probe = Probe::new(&settings(), "g");
    let out: Vec<i64> = read(&probe, &topic, 0, 0..100)
        .await
        .iter()
        .map(number)
        .collect();
    assert_eq!(out, (0..=40).filter(|n| *n != culprit).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_or_partition_is_refused_with_a_remedy() {
    let settings = with(&[("topic.metadata.propagation.max.ms", "1000")]);
    let producer = Producer::new(&settings, ProducerOptions::default()).unwrap();
    let refused = producer.send_acked(&numbered("no-such-topic", 1)).await;
    assert!(
        matches!(&refused, Err(SendError::Refused { remedy, .. }) if remedy.contains("engagectl init")),
        "{refused:?}"
    );
    let topic = topic("few", 1).await;
    let beyond = OutRecord {
        partition: Some(5),
        ..numbered(&topic, 1)
    };
    let refused = producer.send_acked(&beyond).await;
    assert!(
        matches!(refused, Err(SendError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_gets_nothing_acknowledged_is_given_up() {
    let nobody = stream::KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".into(),
        ..stream::KafkaSettings::default()
    };
    let stall = Duration::from_millis(500);
    let producer = Producer::new(
        &nobody,
        ProducerOptions {
            stall,
            ..ProducerOptions::default()
        },
    )
    .unwrap();
    let outcome = producer.send_acked(&numbered("t", 1)).await;
    assert!(
        matches!(&outcome, Err(SendError::Void { reason }) if reason.contains("nothing acknowledged")),
        "{outcome:?}"
    );
}
