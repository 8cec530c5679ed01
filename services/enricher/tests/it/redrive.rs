//! Letters that are sent back: past the mark, beside the chain, once.

use std::time::{Duration, Instant};

use engagement::event::{EnrichedEvent, Lane, Micros};
use serde_json::json;
use stream::dead_letter::{Entry, Letter, MAX_BYTES};
use stream::lineage::{Reader, Verdict};
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::redrive::{Redrive, to_enricher};

use crate::cdc::{self, Change};
use crate::world::{CONTENT, PATIENCE, World};

async fn letters(world: &World, count: usize) -> Vec<Letter> {
    let topic = &world.config.output.dead_letter_topic;
    world.broker.read_at_least(topic, 0, count).await;
    let probe = Probe::new(&world.config.kafka, "letters");
    let deadline = Instant::now() + PATIENCE;
    let records = loop {
        match probe.read_range(topic, 0, 0, i64::MAX).await {
            Ok(records) => break records,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let entries = records.into_iter().map(Entry::of);
    entries
        .map(|entry| match entry {
            Entry::Letter(letter) => *letter,
            Entry::Mark(mark) => panic!("{mark:?}"),
        })
        .collect()
}

/// Sends copies of a letter back; the offset of the last one.
async fn send_back(world: &World, letter: &Letter, copies: usize) -> i64 {
    let options = ProducerOptions {
        max_bytes: Some(MAX_BYTES),
        ..ProducerOptions::default()
    };
    let producer = stream::Producer::new(&world.config.kafka, options).unwrap();
    let topic = world.config.input.cdc_topic.as_str().into();
    let at = Redrive {
        now: Micros(1_800_000_000_000_000),
        epoch: letter.epoch.unwrap(),
    };
    let copy = to_enricher(letter, &topic, 0, at);
    let mut last = -1;
    for _ in 0..copies {
        last = producer.send_acked(&copy).await.unwrap().1;
    }
    last
}

fn ids(events: &[EnrichedEvent]) -> Vec<&str> {
    events.iter().map(|event| event.event_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_sent_back_is_enriched_once_past_the_mark_and_beside_the_chain() {
    let world = World::new(1).await;
    world.publish_content();
    let mut large = cdc::event_row(2, Some(CONTENT));
    large["raw_payload"] = json!("x".repeat(5 << 20));
    world.produce(&World::inserts(1..=1));
    world.produce(&[cdc::insert(&large, cdc::at(102))]);
    world.produce(&World::inserts(3..=3));
    let enricher = world.start();
    world.expect_ids([1, 3]).await;
    let letter = letters(&world, 1).await.remove(0);
    assert_eq!((letter.kind.as_str(), letter.epoch), ("too_large", Some(0)));
    enricher.stop().await;

    let mut roomier = world.config.clone();
    roomier.output.max_record_bytes = 8 << 20;
    let enricher = world.start_with(roomier.clone());
    let copy = send_back(&world, &letter, 1).await;
    let events = world.enriched(3).await;
    assert_eq!(ids(&events), ["1", "3", "2"]);
    let source = events[2].source;
    assert_eq!((source.lane, source.offset), (Lane::Redrive, copy));
    assert_eq!(
        events[2].revision,
        cdc::at(102).lsn,
        "older than what came after it"
    );
    world.until_committed(copy + 1).await;
    enricher.stop().await;

    // a start resumes before the copy, from the stream's own last record
    world.produce(&World::inserts(4..=4));
    let enricher = world.start_with(roomier);
    let events = world.enriched(4).await;
    world.until_committed(copy + 2).await;
    enricher.stop().await;
    assert_eq!(
        ids(&events),
        ["1", "3", "2", "4"],
        "it is not written again"
    );
    assert_eq!(world.broker.end(&world.config.output.topic, 0), 4);
    let mut reader = Reader::new();
    let verdicts: Vec<_> = events
        .iter()
        .map(|event| reader.check(&event.source))
        .collect();
    let (apply, redriven) = (Verdict::Apply, Verdict::Redriven);
    assert_eq!(verdicts, [apply, apply, redriven, apply]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_fail_again_count_on_and_never_stop_the_partition() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=1));
    world.produce(&[Change {
        key: Some(format!(r#"{{"content_id":"{CONTENT}"}}"#).into_bytes()),
        value: Some(b"rubbish".to_vec()),
    }]);
    let enricher = world.start();
    let letter = letters(&world, 1).await.remove(0);
    // more than the budget of a partition, were they of the stream
    send_back(&world, &letter, 150).await;
    world.produce(&World::inserts(2..=2));
    world.expect_ids(1..=2).await;
    enricher.stop().await;
    let all = letters(&world, 151).await;
    assert_eq!(all.len(), 151);
    let again = &all[150];
    assert_eq!(again.redrives, 1);
    assert_eq!(again.record.payload, letter.record.payload);
    assert_eq!(again.original_headers(), letter.original_headers());
}
