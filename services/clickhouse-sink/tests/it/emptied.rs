//! A table that lacks what was written into it is refused by name, and one that does not is never refused.

use engagement::event::{EnrichedEvent, Micros, Origin};
use engagement::testing::{EVENT_TS, Sample};
use stream::checkpoint::Checkpoint;

use crate::bench::{Bench, event, events, totals};
use crate::sink::Sink;

const HOUR: i64 = 3_600_000_000;
const MONTH: i64 = 31 * 24 * HOUR;

/// Waits until the group's commit says so.
async fn committed(bench: &Bench, sink: &mut Sink, next: i64) {
    let at = || async {
        let found = bench.log.committed(&bench.group, 0);
        format!("{:?}", found.map(|(offset, _)| offset))
    };
    sink.until(&format!("Some({next})"), at).await;
}

fn checkpoint(bench: &Bench) -> (i64, Checkpoint) {
    let (offset, metadata) = bench.log.committed(&bench.group, 0).unwrap();
    (offset, metadata.parse().unwrap())
}

/// It ends with 78 and says this, and nothing was written into the table.
async fn is_refused(bench: &Bench, sink: &mut Sink, says: &str) {
    let before = bench.database.totals().await;
    assert_eq!(sink.exit().await, 78, "{}", sink.tail());
    for says in [
        says,
        "engagectl lineage adopt --table refill",
        "--table as-is",
        "engagectl verify",
    ] {
        assert!(sink.tail().contains(says), "{says}: {}", sink.tail());
    }
    assert_eq!(bench.database.totals().await, before);
}

/// These are written, the group stands at `next`, and the sink has stopped.
async fn wrote(bench: &Bench, all: &[EnrichedEvent], next: i64) {
    bench.log.append(all);
    let mut sink = bench.setup.start();
    committed(bench, &mut sink, next).await;
    sink.stop().await;
}

/// What `engagectl lineage adopt --table ..` writes.
fn adopt(bench: &Bench, refill: bool) {
    let (offset, at) = checkpoint(bench);
    let (offset, at) = match refill {
        true => (
            0,
            Checkpoint {
                epoch: at.epoch,
                ..Checkpoint::default()
            },
        ),
        false => (offset, Checkpoint { stored: None, ..at }),
    };
    bench.log.commit(&bench.group, 0, offset, &at.to_string());
}

#[tokio::test]
async fn a_table_that_is_emptied_under_a_running_sink_gets_no_further_row_and_can_be_filled_again()
{
    let bench = Bench::new("truncated", 2).await;
    bench.log.append(&events(0, 0, 100));
    bench.log.append(&events(1, 0, 10));
    let mut sink = bench.setup.start();
    sink.until(&totals(110), || bench.database.totals()).await;
    committed(&bench, &mut sink, 100).await;
    bench
        .database
        .run("TRUNCATE TABLE truncated.events_enriched")
        .await;
    bench.log.append(&events(0, 100, 100));
    // one lane stops, the other one does not know yet
    sink.until_readyz(|said| {
        said.contains("truncated.events_enriched holds no row of partition 0")
    })
    .await;
    sink.until_counted("engage_lineage_violations_total", 1.0)
        .await;
    assert_eq!(
        bench
            .database
            .run("SELECT count() FROM truncated.events_enriched")
            .await,
        "0"
    );
    sink.stop().await;
    let mut sink = bench.setup.start();
    let says = "although rows up to live/0/0/99 had been written";
    is_refused(&bench, &mut sink, says).await;

    for partition in [0, 1] {
        let at = Checkpoint::default().to_string();
        bench.log.commit(&bench.group, partition, 0, &at);
    }
    let mut sink = bench.setup.start();
    sink.until(&totals(210), || bench.database.totals()).await;
    committed(&bench, &mut sink, 200).await;
    sink.stop().await;
}

#[tokio::test]
async fn a_table_that_was_emptied_while_no_sink_ran_is_refused_before_the_next_record_comes() {
    let bench = Bench::new("silently", 1).await;
    wrote(&bench, &events(0, 0, 100), 100).await;
    bench
        .database
        .run("TRUNCATE TABLE silently.events_enriched")
        .await;
    let mut sink = bench.setup.start();
    is_refused(
        &bench,
        &mut sink,
        "table silently.events_enriched holds no row of partition 0",
    )
    .await;
    // it is as wanted: the next rows are written, and nothing else
    adopt(&bench, false);
    wrote(&bench, &events(0, 100, 5), 105).await;
    assert_eq!(bench.database.totals().await, totals(5));
    assert_eq!(checkpoint(&bench).1.stored.unwrap().position.offset, 104);
    // and that is a table that can be emptied again
    bench
        .database
        .run("TRUNCATE TABLE silently.events_enriched")
        .await;
    is_refused(&bench, &mut bench.setup.start(), "up to live/0/0/104").await;
    adopt(&bench, true);
    let mut sink = bench.setup.start();
    sink.until(&totals(105), || bench.database.totals()).await;
    sink.stop().await;
}

#[tokio::test]
async fn a_table_that_is_made_anew_while_a_lane_waits_for_it_is_refused() {
    let bench = Bench::new("anew", 1).await;
    bench.log.append(&events(0, 0, 10));
    let mut sink = bench.setup.start();
    sink.until(&totals(10), || bench.database.totals()).await;
    committed(&bench, &mut sink, 10).await;
    let ddl = bench
        .database
        .run("SHOW CREATE TABLE anew.events_enriched FORMAT TSVRaw")
        .await;
    bench
        .database
        .run("DROP TABLE anew.events_enriched SYNC")
        .await;
    bench.log.append(&events(0, 10, 10));
    sink.until_readyz(|said| said.contains("engagectl init"))
        .await;
    bench.database.run(&ddl).await;
    is_refused(
        &bench,
        &mut sink,
        "table anew.events_enriched holds no row of partition 0",
    )
    .await;
}

#[tokio::test]
async fn a_table_from_an_older_copy_is_refused_and_the_log_brings_the_rest_once() {
    let bench = Bench::new("older", 1).await;
    let all: Vec<_> = (0..100)
        .map(|offset| {
            event(0, offset)
                .event_ts(Micros(EVENT_TS.0 + offset))
                .build()
        })
        .collect();
    wrote(&bench, &all[..60], 60).await;
    let run = |sql: &'static str| bench.database.run(sql);
    run("CREATE TABLE older.copy CLONE AS older.events_enriched").await;
    wrote(&bench, &all[60..], 100).await;
    run("EXCHANGE TABLES older.copy AND older.events_enriched").await;
    let mut sink = bench.setup.start();
    is_refused(
        &bench,
        &mut sink,
        "holds partition 0 only up to live/0/0/59, although rows up to live/0/0/99",
    )
    .await;
    adopt(&bench, true);
    let mut sink = bench.setup.start();
    sink.until(&totals(100), || bench.database.totals()).await;
    sink.stop().await;
    // the other one again: it holds everything, whatever its UUID
    run("EXCHANGE TABLES older.copy AND older.events_enriched").await;
    wrote(&bench, &[event(0, 100).build()], 101).await;
    assert_eq!(bench.database.totals().await, totals(101));
}

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
    committed(&bench, &mut sink, 17).await;
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
        committed(&bench, &mut sink, 18 + number as i64).await;
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
            committed(bench, &mut sink, offset + 1).await;
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
    committed(&bench, &mut sink, 1).await;
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
    committed(&bench, &mut sink, 2).await;
    sink.stop().await;
    // a TTL takes everything, at once and in the middle of a stream
    run("ALTER TABLE retained.events_enriched MODIFY TTL toDateTime(event_ts) + INTERVAL 1 SECOND SETTINGS mutations_sync = 2").await;
    run("OPTIMIZE TABLE retained.events_enriched FINAL").await;
    let mut sink = bench.setup.start();
    for offset in 2..5 {
        bench.log.append([&month(0, offset, 0)]);
        committed(&bench, &mut sink, offset + 1).await;
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
