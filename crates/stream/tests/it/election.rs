//! A broker that has stood still loses its partitions for a moment.

use std::time::{Duration, Instant};

use stream::KafkaSettings;
use stream::scan::Scanner;

use crate::support::{create_at, fill_at, settings_at, unique};

const PARTITIONS: i32 = 16;
/// Longer than the session of a broker with its controller (9 s).
const FROZEN: Duration = Duration::from_secs(11);
/// From the first answer on, in which leaders are chosen.
const ASKED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_asks_while_leaders_are_chosen_waits_for_them() {
    let stack = devstack::Stack::builder().kafka().private();
    let stack = stack.start().await.unwrap();
    let settings = settings_at(&stack.kafka().bootstrap);
    let topic = unique("elected");
    create_at(&settings, &topic, PARTITIONS, &[]).await;
    (0..PARTITIONS).for_each(|partition| fill_at(&settings, &topic, partition, 0..10));

    stack.kafka().pause().unwrap();
    tokio::time::sleep(FROZEN).await;
    stack.kafka().resume().unwrap();
    let asking = (0..4).map(|_| {
        let (settings, topic) = (settings.clone(), topic.clone());
        tokio::task::spawn_blocking(move || ask_again_and_again(&settings, &topic))
    });
    for asked in futures_util::future::join_all(asking).await {
        asked.unwrap();
    }
}

fn ask_again_and_again(settings: &KafkaSettings, topic: &str) {
    let begun = Instant::now();
    while begun.elapsed() < ASKED {
        let scanner = Scanner::open(settings, &unique("g"), topic).unwrap();
        let spans = scanner.spans().unwrap();
        assert_eq!(spans.len(), PARTITIONS as usize);
        assert!(spans.iter().all(|span| (span.from, span.to) == (0, 10)));
        assert_eq!(scanner.since(&spans, 0).unwrap(), spans);
        let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
        assert!(scanner.committed(&partitions).unwrap().is_empty());
        let mut read = 0;
        scanner.read(&spans, |_| read += 1).unwrap();
        assert_eq!(read, 10 * PARTITIONS);
    }
}
