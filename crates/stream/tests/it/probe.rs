//! Single records, ranges and tails, read beside the consumer group.

use std::time::{Duration, Instant};

use stream::probe::Probe;

use crate::support::{expire, fill, number, settings, topic, unique};

#[tokio::test(flavor = "multi_thread")]
async fn single_records_ranges_and_tails_are_read_across_gaps() {
    let topic = topic("probe", 1).await;
    let probe = Probe::new(&settings(), &unique("g"));
    let empty = probe.tail(&topic, 0, 10, Vec::new()).await.unwrap();
    assert_eq!(
        (empty.log.low, empty.log.high, empty.records.len()),
        (0, 0, 0)
    );
    fill(&topic, 0, 0..50);
    assert_eq!(
        probe
            .read_one(&topic, 0, 17)
            .await
            .unwrap()
            .map(|record| number(&record)),
        Some(17)
    );
    assert_eq!(probe.read_one(&topic, 0, 50).await.unwrap(), None);
    let range: Vec<i64> = probe
        .read_range(&topic, 0, 10, 15)
        .await
        .unwrap()
        .iter()
        .map(number)
        .collect();
    assert_eq!(range, [10, 11, 12, 13, 14]);
    let tail: Vec<i64> = probe
        .tail(&topic, 0, 5, Vec::new())
        .await
        .unwrap()
        .records
        .iter()
        .map(number)
        .collect();
    assert_eq!(tail, [45, 46, 47, 48, 49]);
    expire(&topic, 0, 48).await;
    let tail = probe.tail(&topic, 0, 5, Vec::new()).await.unwrap();
    assert_eq!((tail.log.low, tail.records.len()), (48, 2));
    expire(&topic, 0, 50).await;
    let tail = probe.tail(&topic, 0, 5, Vec::new()).await.unwrap();
    assert_eq!(
        (tail.log.low, tail.log.high, tail.records.len()),
        (50, 50, 0)
    );
    assert_eq!(probe.read_one(&topic, 0, 17).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_longer_than_the_queue_is_read_without_pauses() {
    const RECORDS: i64 = 10_000;
    let topic = topic("long-range", 1).await;
    fill(&topic, 0, 0..RECORDS);
    let probe = Probe::new(&settings(), &unique("g"));
    // the first question connects
    probe.read_one(&topic, 0, 0).await.unwrap();
    let begun = Instant::now();
    let range = probe.read_range(&topic, 0, 0, RECORDS).await.unwrap();
    assert_eq!(range.len() as i64, RECORDS);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
