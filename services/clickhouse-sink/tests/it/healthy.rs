//! A table that lacks rows for a good reason is not refused.

use engagement::event::{Micros, Origin};
use engagement::testing::{EVENT_TS, Sample};

use crate::bench::{Bench, event, events, totals};
use crate::emptied::{checkpoint, is_refused, wrote};

const HOUR: i64 = 3_600_000_000;
const MONTH: i64 = 31 * 24 * HOUR;

#[tokio::test]
async fn batches_without_rows_updates_and_deletions_that_are_merged_and_rows_below_are_no_sign_of_another_table()
 {
    let bench = Bench::new("healthy", 1).await;
    wrote(&bench, &events(0, 0, 10), 10).await;
    let witness = checkpoint(&bench).1.stored;
    assert_eq!(witness.unwrap().position.offset, 9);
    // nothing is written: a record that was seen already, and records that are none
    bench.log.append(&events(0, 5, 5));
    bench.log.raw(0, Some(b"garbage"), Some("live/0/0/10"));
    bench.log.raw(0, None, None);
    bench.log.flush();
    let mut sink = bench.setup.start();
    bench.committed_by(&mut sink, 17).await;
    sink.stop().await;
    assert_eq!(
        checkpoint(&bench).1.stored,
        witness,
        "it outlives batches without rows"
    );
    // the witness is replaced, moved away, deleted; a deletion concerns what was never there
    let of_last = |offset: i64| Sample::new().event_id(9).at_position(0, offset);
    let moved = Micros(EVENT_TS.0 - HOUR);
    let longer = of_last(11).duration_ms(1).build();
    let earlier = of_last(12).event_ts(moved).replacing(&longer).build();
    let gone = of_last(13).event_ts(moved).deleted().build();
    let never_there = Sample::new().event_id(77_777).at_position(0, 14);
    let changes = [longer, earlier, gone, never_there.deleted().build()];
    for (number, change) in changes.iter().enumerate() {
        bench.log.append([change]);
        let mut sink = bench.setup.start();
        bench.committed_by(&mut sink, 18 + number as i64).await;
        bench
            .database
            .run("OPTIMIZE TABLE healthy.events_enriched FINAL")
            .await;
        sink.stop().await;
    }
    // a merge keeps the row of a lower position, because its revision is the higher one
    let later = Micros(EVENT_TS.0 + HOUR);
    let known = event(0, 15).event_id(500).event_ts(later);
    let mut stale = event(0, 16).event_id(500).event_ts(later).build();
    stale.revision = 1;
    wrote(&bench, &[known.origin(Origin::Snapshot).build()], 22).await;
    wrote(&bench, &[stale], 23).await;
    bench
        .database
        .run("OPTIMIZE TABLE healthy.events_enriched FINAL")
        .await;
    // the witness itself is deleted by hand, and a row of a higher position is there
    let newest = Micros(EVENT_TS.0 + 2 * HOUR);
    wrote(
        &bench,
        &[event(0, 17).event_ts(newest).build(), event(0, 18).build()],
        25,
    )
    .await;
    let witness = checkpoint(&bench).1.stored;
    assert_eq!(witness.unwrap().position.offset, 17);
    for deleted in ["event_id = 17", "event_id < 5"] {
        let sql = format!(
            "DELETE FROM healthy.events_enriched WHERE {deleted} SETTINGS lightweight_deletes_sync = 2"
        );
        bench.database.run(&sql).await;
    }
    wrote_more(&bench, 19, 25).await;
}

/// One more row, at this position and offset of the log, with another start before and after it.
async fn wrote_more(bench: &Bench, position: i64, offset: i64) {
    for more in [false, true, false] {
        if more {
            bench.log.append(&events(0, position, 1));
        }
        let mut sink = bench.setup.start();
        sink.until_readyz(|said| said.starts_with("{\"ok\":true"))
            .await;
        if more {
            bench.committed_by(&mut sink, offset + 1).await;
        }
        sink.stop().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_had_nothing_to_say_leaves_the_witness_and_one_that_had_is_one() {
    let bench = Bench::new("said", 1).await;
    let snapshot = |offset: i64, id: i64| {
        Sample::new()
            .event_id(id)
            .at_position(0, offset)
            .origin(Origin::Snapshot)
            .build()
    };
    wrote(&bench, &[snapshot(0, 1), snapshot(1, 2)], 2).await;
    assert_eq!(checkpoint(&bench).1.stored.unwrap().position.offset, 1);
    wrote(&bench, &[snapshot(2, 1), snapshot(3, 2)], 4).await;
    assert_eq!(checkpoint(&bench).1.stored.unwrap().position.offset, 1);
    wrote_more(&bench, 4, 4).await;
    bench
        .database
        .run("TRUNCATE TABLE said.events_enriched")
        .await;
    is_refused(&bench, &mut bench.setup.start(), "up to live/0/0/4").await;
}

#[tokio::test]
async fn retention_by_dropped_partitions_or_by_a_ttl_is_no_sign_of_another_table() {
    let bench = Bench::new("retained", 2).await;
    let month = |partition: i32, offset: i64, months: i64| {
        event(partition, offset)
            .event_ts(Micros(EVENT_TS.0 + months * MONTH))
            .build()
    };
    // partition 0 has nothing newer than its only month; partition 1 goes on
    bench.log.append([&month(0, 0, 0), &month(1, 0, 2)]);
    let mut sink = bench.setup.start();
    sink.until(&totals(2), || bench.database.totals()).await;
    bench.committed_by(&mut sink, 1).await;
    sink.stop().await;
    let database = &bench.database;
    let run = async |sql: &str| database.run(sql).await;
    let oldest = run("SELECT min(_partition_id) FROM retained.events_enriched").await;
    run(&format!(
        "ALTER TABLE retained.events_enriched DROP PARTITION {oldest}"
    ))
    .await;
    assert_eq!(
        run("SELECT count() FROM retained.events_enriched").await,
        "1"
    );
    bench.log.append([&month(0, 1, 0)]);
    let mut sink = bench.setup.start();
    sink.until(&totals(2), || bench.database.totals()).await;
    bench.committed_by(&mut sink, 2).await;
    sink.stop().await;
    // a TTL takes everything, at once and in the middle of a stream
    run("ALTER TABLE retained.events_enriched MODIFY TTL toDateTime(event_ts) + INTERVAL 1 SECOND SETTINGS mutations_sync = 2").await;
    run("OPTIMIZE TABLE retained.events_enriched FINAL").await;
    let mut sink = bench.setup.start();
    for offset in 2..5 {
        bench.log.append([&month(0, offset, 0)]);
        bench.committed_by(&mut sink, offset + 1).await;
        run("OPTIMIZE TABLE retained.events_enriched FINAL").await;
    }
    assert_eq!(
        run("SELECT countIf(src_partition = 0) FROM retained.events_enriched").await,
        "0"
    );
    sink.stop().await;
    // that it has passed is noted, so that a longer TTL does not make a riddle of it
    let mut sink = bench.setup.start();
    let noted = || async { format!("{:?}", checkpoint(&bench).1.stored) };
    sink.until("None", noted).await;
    sink.stop().await;
    // what is not old enough for it was not taken by it
    run("ALTER TABLE retained.events_enriched MODIFY TTL toDateTime(event_ts) + INTERVAL 50 YEAR")
        .await;
    wrote(&bench, &[month(0, 5, 0)], 6).await;
    run("TRUNCATE TABLE retained.events_enriched").await;
    let sink = bench.setup.start();
    sink.until_readyz(|said| said.contains("holds no row of partition 0"))
        .await;
}
