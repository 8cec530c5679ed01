//! Crashes, lost answers and rewound offsets: the count stays exact.

use devstack::Stack;
use stream::checkpoint::Checkpoint;

use crate::bench::{Bench, events, totals};
use crate::clickhouse::Database;
use crate::proxy::Proxy;
use crate::sink::Setup;

/// Rows in the table, 0 while it cannot be asked.
async fn count(database: &Database) -> i64 {
    database
        .totals()
        .await
        .split('\t')
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

#[tokio::test]
async fn kill_9_of_the_sink_in_the_middle_of_a_batch_neither_doubles_nor_loses() {
    let bench = Bench::new("killed", 2).await;
    let append = |from, count| {
        (0..2).for_each(|partition| bench.log.append(&events(partition, from, count)));
    };
    append(0, 12_000);
    let setup = bench.setup.clone().set("batch.rows", "700");
    let killed_at = async |reached: i64| {
        let mut sink = setup.start();
        let seen = || async { count(&bench.database).await.to_string() };
        sink.until_it(
            "rows",
            |seen| seen.parse::<i64>().is_ok_and(|seen| seen >= reached),
            seen,
        )
        .await;
        sink.kill9();
    };
    for reached in [1, 9_000, 20_000] {
        killed_at(reached).await;
    }
    // one of them shall have written more than it has committed
    let mut each = 12_000;
    while !is_ahead(&bench).await {
        assert!(each < 60_000, "commits never lag behind");
        append(each, 3_000);
        killed_at(2 * each + 1).await;
        each += 3_000;
    }
    append(each, 3_000);
    let mut sink = setup.start();
    sink.until(&totals(2 * (each + 3_000)), || bench.database.totals())
        .await;
    sink.until_counted("engage_clickhouse_read_backs_total", 1.0)
        .await;
    sink.stop().await;
}

/// Whether the table holds records that the group has not committed.
async fn is_ahead(bench: &Bench) -> bool {
    let written = format!(
        "SELECT src_partition, max(src_offset) + 1 FROM {} GROUP BY src_partition FORMAT TSV",
        bench.database.table()
    );
    let written = bench.database.run(&written).await;
    written.lines().any(|line| {
        let (partition, next) = line.split_once('\t').unwrap();
        let committed = bench
            .log
            .committed(&bench.group, partition.parse().unwrap());
        committed.is_none_or(|(offset, _)| offset < next.parse::<i64>().unwrap())
    })
}

#[tokio::test]
async fn kill_9_of_clickhouse_in_the_middle_of_an_insert_neither_doubles_nor_loses() {
    let bench = Bench::new("chkilled", 1).await;
    let own = Stack::builder()
        .clickhouse()
        .private()
        .start()
        .await
        .unwrap();
    let database = Database::create(own.clickhouse(), "chkilled", "Int64").await;
    let setup = Setup::new(&bench.log, &database, "chkilled-own")
        .set("batch.rows", "300")
        .set("batch.interval", "100ms");
    let mut written = 10_000;
    bench.log.append(&events(0, 0, written));
    let mut sink = setup.start();
    for reached in [1, 8_000] {
        let seen = || async { count(&database).await.to_string() };
        sink.until_it(
            "rows",
            |seen| seen.parse::<i64>().is_ok_and(|seen| seen >= reached),
            seen,
        )
        .await;
        own.clickhouse().kill9().await.unwrap();
        // whatever it had done before: now it has something to write
        bench.log.append(&events(0, written, 5_000));
        written += 5_000;
        sink.until_readyz(|ready| ready.contains("wait for ClickHouse"))
            .await;
        own.clickhouse().restart().await.unwrap();
    }
    assert_eq!(written, 20_000);
    sink.until(&totals(20_000), || database.totals()).await;
    sink.until_counted("engage_sink_errors_total", 1.0).await;
}

#[tokio::test]
async fn an_answer_lost_after_the_insert_ran_doubles_nothing() {
    let bench = Bench::new("cut", 1).await;
    let proxy = Proxy::start(&bench.database.url).await;
    proxy.cut(3);
    bench.log.append(&events(0, 0, 5_000));
    let mut sink = bench
        .setup
        .clone()
        .env("CLICKHOUSE_URL", &proxy.url)
        .set("batch.rows", "500")
        .start();
    sink.until(&totals(5_000), || bench.database.totals()).await;
    assert_eq!(proxy.left(), 0, "all cuts were made");
    for metric in [
        "engage_clickhouse_read_backs_total",
        "engage_sink_errors_total",
    ] {
        sink.until_counted(metric, 3.0).await;
    }
    sink.stop().await;
    assert_eq!(bench.database.totals().await, totals(5_000));
}

#[tokio::test]
async fn rewound_and_lost_offsets_write_nothing_twice() {
    let bench = Bench::new("rewound", 1).await;
    let all = events(0, 0, 1_000);
    bench.log.append(&all);
    let mut sink = bench.setup.start();
    sink.until(&totals(1_000), || bench.database.totals()).await;
    sink.stop().await;
    let at = all[99].source.position();
    let checkpoint = Checkpoint {
        position: Some(at),
        before: Some(at),
        ..Checkpoint::default()
    };
    bench
        .log
        .commit(&bench.group, 0, 100, &checkpoint.to_string());
    let lost = format!("{}-lost", bench.group);
    for (group, last) in [(bench.group.as_str(), 1_001), (&lost, 1_002)] {
        bench.log.append(&events(0, last - 1, 1));
        let mut sink = bench.setup.clone().env("KAFKA_GROUP_ID", group).start();
        sink.until_it(
            "all rows",
            |seen| seen.starts_with(&last.to_string()),
            || bench.database.totals(),
        )
        .await;
        sink.stop().await;
        assert_eq!(bench.database.totals().await, totals(last), "group {group}");
        assert_eq!(
            bench.log.committed(group, 0).map(|(offset, _)| offset),
            Some(last)
        );
    }
}

#[tokio::test]
async fn a_sink_that_stood_still_reads_back_before_it_writes() {
    let bench = Bench::new("paused", 1).await;
    bench.log.append(&events(0, 0, 100));
    let mut paused = bench.setup.start();
    paused.until(&totals(100), || bench.database.totals()).await;
    paused.signal("STOP");
    bench.log.append(&events(0, 100, 100));
    let mut other = Setup::new(&bench.log, &bench.database, &bench.group)
        .set("batch.interval", "200ms")
        .start();
    other.until(&totals(200), || bench.database.totals()).await;
    paused.signal("CONT");
    bench.log.append(&events(0, 200, 100));
    other.until(&totals(300), || bench.database.totals()).await;
    other.stop().await;
    bench.log.append(&events(0, 300, 100));
    paused.until(&totals(400), || bench.database.totals()).await;
    paused.stop().await;
    assert_eq!(bench.database.totals().await, totals(400));
}

#[tokio::test]
async fn a_partition_goes_from_one_sink_to_another_without_a_trace() {
    let bench = Bench::new("handover", 4).await;
    let second =
        Setup::new(&bench.log, &bench.database, &bench.group).set("batch.interval", "50ms");
    let append =
        |from: i64| (0..4).for_each(|partition| bench.log.append(&events(partition, from, 1_000)));
    append(0);
    let mut first = bench.setup.start();
    first
        .until(&totals(4_000), || bench.database.totals())
        .await;
    let mut second = second.start();
    for round in 1..4 {
        append(round * 1_000);
        second
            .until(&totals((round + 1) * 4_000), || bench.database.totals())
            .await;
    }
    first.stop().await;
    append(4_000);
    second
        .until(&totals(20_000), || bench.database.totals())
        .await;
    second.stop().await;
    assert_eq!(bench.database.totals().await, totals(20_000));
}
