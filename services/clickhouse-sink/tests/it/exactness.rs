//! What the table holds after ordinary and less ordinary histories.

use engagement::event::{Lane, Micros, Origin};
use engagement::testing::{EVENT_TS, Sample};

use crate::bench::{Bench, event, events, totals};

const DAY: i64 = 86_400_000_000;

#[tokio::test]
async fn every_event_is_written_once_and_the_offsets_follow() {
    let bench = Bench::new("once", 4).await;
    for partition in 0..4 {
        bench.log.append(&events(partition, 0, 500));
    }
    let mut sink = bench.setup.start();
    sink.until(&totals(2_000), || bench.database.totals()).await;
    // rows are in the table before the sink has the answer to its insert
    for metric in [
        "engage_sink_batch_rows_sum",
        "engage_freshness_seconds_count",
    ] {
        sink.until_counted(metric, 2_000.0).await;
    }
    let ready = |page: &str| page.starts_with('{') && !page.contains("\"ok\":false");
    sink.until_readyz(ready).await;
    sink.stop().await;
    for partition in 0..4 {
        let (offset, metadata) = bench
            .log
            .committed(&bench.group, partition)
            .expect("a commit");
        assert_eq!(offset, 500);
        assert!(
            metadata.contains(&format!("position=live/0/{partition}/499")),
            "{metadata}"
        );
    }
}

#[tokio::test]
async fn what_zombies_repeat_is_dropped() {
    let bench = Bench::new("zombie", 1).await;
    let all = events(0, 0, 300);
    bench.log.append(&all[..200]);
    bench.log.append(&all[50..180]);
    bench.log.append(&all[150..]);
    let mut sink = bench.setup.start();
    sink.until(&totals(300), || bench.database.totals()).await;
    let dropped = || async {
        sink.metric("engage_duplicates_dropped_total")
            .await
            .to_string()
    };
    assert_eq!(dropped().await, "180");
}

#[tokio::test]
async fn updates_and_deletions_leave_the_current_state_in_the_view() {
    let bench = Bench::new("updates", 1).await;
    let kept = event(0, 0).build();
    let (before, gone) = (
        event(0, 1).event_id(1).build(),
        event(0, 2).event_id(2).build(),
    );
    let next_month = Micros(EVENT_TS.0 + 31 * DAY);
    let later = event(0, 3)
        .event_id(1)
        .event_ts(next_month)
        .replacing(&before)
        .build();
    let longer = event(0, 4)
        .event_id(1)
        .event_ts(next_month)
        .duration_ms(9_000)
        .replacing(&later)
        .build();
    let elsewhere = event(0, 5)
        .event_id(1)
        .event_ts(next_month)
        .duration_ms(9_000)
        .content_id("other")
        .replacing(&longer)
        .build();
    let deleted = event(0, 6).event_id(2).deleted().build();
    bench
        .log
        .append([&kept, &before, &gone, &later, &longer, &elsewhere, &deleted]);
    let mut sink = bench.setup.start();
    sink.until("2\t2\t16000", || bench.database.visible()).await;
    let table = bench.database.table();
    assert_eq!(
        bench
            .database
            .run(&format!(
                "SELECT content_id, toYYYYMM(event_ts) FROM {}.events WHERE event_id = 1",
                bench.database.name
            ))
            .await,
        "other\t202602"
    );
    let deletions =
        format!("SELECT src_offset, src_row FROM {table} WHERE deleted ORDER BY src_offset");
    assert_eq!(bench.database.run(&deletions).await, "3\t0\n5\t0\n6\t1");
    assert_eq!(
        bench
            .database
            .run(&format!("SELECT count() FROM {table}"))
            .await,
        "9"
    );
}

#[tokio::test]
async fn an_event_that_moves_to_a_content_of_another_partition_is_there_once() {
    let bench = Bench::new("moved", 2).await;
    let here = event(0, 0).event_id(1).content_id("a").build();
    let mut gone = event(0, 5)
        .event_id(1)
        .content_id("a")
        .deleted()
        .moved()
        .build();
    let mut there = event(1, 5).event_id(1).content_id("b").moved().build();
    (gone.revision, there.revision) = (7_000, 7_000);
    there.source.prev = -1;
    gone.source.prev = 0;
    bench.log.append([&here, &there, &gone]);
    let mut sink = bench.setup.start();
    let content = format!("SELECT content_id FROM {}.events", bench.database.name);
    sink.until("3", || {
        bench
            .database
            .run("SELECT count() FROM moved.events_enriched")
    })
    .await;
    assert_eq!(bench.database.run(&content).await, "b");
}

#[tokio::test]
async fn a_snapshot_adds_only_what_is_missing_and_repairs_what_is_stale() {
    let bench = Bench::new("snapshot", 1).await;
    let streamed = events(0, 0, 3);
    bench.log.append(&streamed);
    let again = |offset: i64, id: i64| {
        Sample::new()
            .event_id(id)
            .at_position(0, offset)
            .origin(Origin::Snapshot)
    };
    let stale = again(5, 2)
        .event_ts(Micros(EVENT_TS.0 + DAY))
        .duration_ms(8_000)
        .build();
    bench.log.append([
        &again(3, 0).build(),
        &again(4, 1).build(),
        &stale,
        &again(6, 77).build(),
        &again(7, 77).build(),
    ]);
    let mut sink = bench.setup.start();
    sink.until("4\t4\t29000", || bench.database.visible()).await;
    let rows = format!(
        "SELECT src_offset, src_row, deleted FROM {} ORDER BY src_offset, src_row",
        bench.database.table()
    );
    assert_eq!(
        bench.database.run(&rows).await,
        "0\t1\t0\n1\t1\t0\n2\t1\t0\n5\t0\t1\n5\t1\t0\n6\t1\t0"
    );
}

#[tokio::test]
async fn a_redriven_record_is_applied_by_its_revision() {
    let bench = Bench::new("redriven", 1).await;
    let newer = event(0, 5).event_id(1).prev(-1).duration_ms(9_000).build();
    let mut old = event(0, 6).event_id(1).lane(Lane::Redrive).build();
    let mut missing = event(0, 7).event_id(2).lane(Lane::Redrive).build();
    // what they were when they were given up
    (old.revision, missing.revision) = (2_000, 3_000);
    bench.log.append([&newer, &old, &missing, &missing]);
    let mut sink = bench.setup.start();
    sink.until("2\t2\t16000", || bench.database.totals()).await;
}

#[tokio::test]
async fn more_than_a_hundred_table_partitions_fit_one_batch() {
    let bench = Bench::new("months", 1).await;
    let months: Vec<_> = (0..120)
        .map(|n| {
            event(0, n)
                .event_ts(Micros(EVENT_TS.0 - n * 31 * DAY))
                .build()
        })
        .collect();
    bench.log.append(&months);
    let mut sink = bench.setup.start();
    sink.until(&totals(120), || bench.database.totals()).await;
    let partitions = format!(
        "SELECT uniqExact(_partition_id) FROM {}",
        bench.database.table()
    );
    assert_eq!(bench.database.run(&partitions).await, "120");
}

#[tokio::test]
async fn event_ids_may_be_uuids_or_text() {
    for (name, id_type, id) in [
        ("uuids", "UUID", "00112233-4455-6677-8899-aabbccddeeff"),
        ("texts", "String", "a'b\\c\u{e4}"),
    ] {
        let bench = Bench::with_ids(name, 1, id_type).await;
        let streamed = event(0, 0).event_id(id).build();
        let again = event(0, 1).event_id(id).origin(Origin::Snapshot).build();
        let other = event(0, 2)
            .event_id("ffffffff-4455-6677-8899-aabbccddeeff")
            .build();
        bench.log.append([&streamed, &again, &other]);
        let mut sink = bench.setup.start();
        sink.until("2\t2\t14000", || bench.database.totals()).await;
        let ids = bench
            .database
            .json(&format!(
                "SELECT event_id FROM {name}.events ORDER BY src_offset LIMIT 1"
            ))
            .await;
        assert_eq!(ids[0]["event_id"], id);
    }
}
