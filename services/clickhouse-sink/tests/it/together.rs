//! Several partitions in one insert: fewer statements, and each partition's doubt is still its own.

use std::time::{Duration, Instant};

use engagement::event::Micros;
use engagement::wire::{self, Format};

use crate::bench::{Bench, event, events, totals};
use crate::proxy::Proxy;
use crate::table::writer;

/// Parts that inserts have made.
async fn parts(bench: &Bench) -> i64 {
    bench.database.run("SYSTEM FLUSH LOGS").await;
    let sql = format!(
        "SELECT count() FROM system.part_log WHERE database = '{}' AND table = 'events_enriched' AND event_type = 'NewPart'",
        bench.database.name
    );
    bench.database.run(&sql).await.parse().unwrap()
}

#[tokio::test]
async fn eight_partitions_that_are_written_all_the_time_make_a_part_or_two_an_interval() {
    const ROUNDS: i64 = 60;
    let bench = Bench::new("together", 8).await;
    let mut sink = bench.setup.clone().set("batch.interval", "500ms").start();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let all = (0..8).map(|partition| {
            let mut event = event(partition, round).build();
            event.source.committed_at = Micros(service::clock::now());
            event
        });
        bench.log.append(&all.collect::<Vec<_>>());
    }
    let written = totals(ROUNDS * 8);
    sink.until(&written, || bench.database.totals()).await;
    let intervals = begun.elapsed().as_millis() as i64 / 500 + 1;
    sink.stop().await;
    let parts = parts(&bench).await;
    assert!(
        parts <= intervals * 3,
        "{parts} parts in {intervals} intervals of 8 partitions"
    );
}

#[tokio::test]
async fn a_bad_row_of_one_partition_is_dead_lettered_and_those_that_went_with_it_are_written() {
    let bench = Bench::new("badtogether", 4).await;
    let constraint =
        "ALTER TABLE badtogether.events_enriched ADD CONSTRAINT short CHECK duration_ms != 666";
    bench.database.run(constraint).await;
    let bad = [0, 250, 499];
    let mut all = events(0, 0, 500);
    for bad in bad {
        all[bad].duration_ms = Some(666);
    }
    bench.log.append(&all);
    (1..4).for_each(|partition| bench.log.append(&events(partition, 0, 500)));
    bench.log.flush();
    let mut sink = bench.setup.start();
    sink.until("1997\t1997\t13979000", || bench.database.totals())
        .await;
    bench.committed_by(&mut sink, 500).await;
    let letters = bench.log.letters();
    let payloads: Vec<_> = letters
        .into_iter()
        .map(|letter| letter.payload.unwrap())
        .collect();
    assert_eq!(
        payloads,
        bad.map(|bad| wire::encode(&all[bad], Format::Protobuf))
    );
    sink.stop().await;
}

#[tokio::test]
async fn an_insert_of_several_partitions_that_arrives_late_writes_only_what_nobody_has_taken() {
    let bench = Bench::new("latetogether", 2).await;
    let proxy = Proxy::start(&bench.database.url).await;
    let append = |from| {
        (0..2).for_each(|partition| bench.log.append(&events(partition, from, 10)));
        bench.log.flush();
    };
    append(0);
    let mut sink = bench
        .setup
        .clone()
        .env("CLICKHOUSE_URL", &proxy.url)
        .start();
    sink.until(&totals(20), || bench.database.totals()).await;
    proxy.hold_one();
    append(10);
    proxy.holds().await;
    sink.kill9();
    // somebody takes one of the two partitions, and writes nothing yet
    let fence = "INSERT INTO latetogether.events_enriched_fences (lane, partition, holder) VALUES ('live', 0, (1000, 7))";
    bench.database.run(fence).await;
    let answer = proxy.let_go().await;
    let of_one = |partition: i32| {
        format!(
            "SELECT count() FROM latetogether.events_enriched WHERE src_partition = {partition}"
        )
    };
    assert_eq!(bench.database.run(&of_one(0)).await, "10", "{answer}");

    let mut next = bench.setup.clone().start();
    next.until(&totals(40), || bench.database.totals()).await;
    append(20);
    next.until(&totals(60), || bench.database.totals()).await;
    next.stop().await;
    assert_eq!(bench.database.totals().await, totals(60));
}

#[tokio::test]
async fn an_insert_that_runs_is_ended_by_whoever_takes_one_of_its_partitions() {
    let (database, writer) = writer("ended").await;
    let query_id = writer.table().query_id([3, 15].into_iter(), "somebody-1");
    let slow = format!(
        "INSERT INTO {} (event_id, event_ts) SELECT number, now64(6) FROM numbers(600) WHERE sleepEachRow(0.1) = 0 \
         SETTINGS max_block_size = 1, max_threads = 1",
        database.table()
    );
    let running = {
        let (database, query_id) = (database.clone(), query_id.clone());
        tokio::spawn(async move { database.run_as(&query_id, &slow).await })
    };
    let is_listed = format!("SELECT count() FROM system.processes WHERE query_id = '{query_id}'");
    let begun = Instant::now();
    while database.run(&is_listed).await != "1" {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never ran");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writer.take(5).await.unwrap();
    assert_eq!(database.run(&is_listed).await, "1", "of 3 and 15, not of 5");
    writer.take(15).await.unwrap();
    assert_eq!(database.run(&is_listed).await, "0");
    let ended = running.await.unwrap().unwrap_err();
    assert!(ended.contains("QUERY_WAS_CANCELLED"), "{ended}");
}
