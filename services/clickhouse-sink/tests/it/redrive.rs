//! Letters of this sink that are sent back, and those of others.

use std::time::{Duration, Instant};

use engagement::event::Micros;
use stream::KafkaSettings;
use stream::dead_letter::{Entry, Letter};
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::redrive::to_reader;

use crate::bench::{Bench, events};
use crate::log::WAIT;

const NOW: Micros = Micros(1_800_000_000_000_000);

#[tokio::test]
async fn a_row_that_was_refused_is_written_once_it_is_sent_back_and_only_then() {
    let bench = Bench::new("sentback", 1).await;
    let alter = |what: &str| format!("ALTER TABLE sentback.events_enriched {what}");
    let database = &bench.database;
    database
        .run(&alter("ADD CONSTRAINT short CHECK duration_ms != 666"))
        .await;
    let mut all = events(0, 0, 10);
    all[3].duration_ms = Some(666);
    bench.log.append(&all);
    let mut sink = bench.setup.start();
    sink.until("9\t9\t63000", || database.totals()).await;
    bench.committed_by(&mut sink, 10).await;
    let letter = letter(&bench).await;
    let of_another = Letter {
        service: "webhook-forwarder".into(),
        endpoint: Some("crm".into()),
        ..letter.clone()
    };

    send_back(&bench, &of_another).await;
    bench.committed_by(&mut sink, 11).await;
    assert_eq!(database.totals().await, "9\t9\t63000", "it is for another");

    database.run(&alter("DROP CONSTRAINT short")).await;
    for _ in 0..2 {
        send_back(&bench, &letter).await;
    }
    bench.committed_by(&mut sink, 13).await;
    assert_eq!(database.totals().await, "10\t10\t63666");
    bench.log.append(&events(0, 10, 1));
    sink.until("11\t11\t70666", || database.totals()).await;
    sink.stop().await;
}

fn settings(bench: &Bench) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: bench.log.bootstrap.clone(),
        ..KafkaSettings::default()
    }
}

async fn letter(bench: &Bench) -> Letter {
    let probe = Probe::new(&settings(bench), "letters");
    let deadline = Instant::now() + WAIT;
    let mut records = loop {
        match probe.read_range(&bench.log.letters, 0, 0, 1).await {
            Ok(records) => break records,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    match Entry::of(records.remove(0)) {
        Entry::Letter(letter) => *letter,
        Entry::Mark(mark) => panic!("{mark:?}"),
    }
}

async fn send_back(bench: &Bench, letter: &Letter) {
    let producer = stream::Producer::new(&settings(bench), ProducerOptions::default()).unwrap();
    let topic = bench.log.topic.as_str().into();
    let copy = to_reader(letter, &topic, 0, NOW);
    producer.send_acked(&copy).await.unwrap();
}
