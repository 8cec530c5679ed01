//! Rows, records, tables and settings that are refused, each by name.

use engagement::event::Micros;
use engagement::wire::{self, Format};

use crate::bench::{Bench, event, events, totals};
use crate::sink::Setup;

#[tokio::test]
async fn a_bad_row_is_found_and_dead_lettered_and_the_others_are_written() {
    let bench = Bench::new("badrow", 1).await;
    bench
        .database
        .run("ALTER TABLE badrow.events_enriched ADD CONSTRAINT short CHECK duration_ms != 666")
        .await;
    let mut all = events(0, 0, 2_000);
    for bad in [0, 777, 1_999] {
        all[bad].duration_ms = Some(666);
    }
    bench.log.append(&all);
    let mut sink = bench.setup.start();
    sink.until("1997\t1997\t13979000", || bench.database.totals())
        .await;
    bench.committed_by(&mut sink, 2000).await;
    let letters = bench.log.letters();
    let payloads: Vec<_> = letters
        .iter()
        .map(|letter| letter.payload.clone().unwrap())
        .collect();
    assert_eq!(
        payloads,
        [0, 777, 1_999].map(|bad| wire::encode(&all[bad], Format::Protobuf))
    );
    assert!(
        letters[0].kind == "refused" && letters[0].message.contains("469"),
        "{}",
        letters[0].message
    );
}

#[tokio::test]
async fn records_that_are_no_events_and_events_that_have_no_row_are_dead_lettered() {
    let bench = Bench::new("poison", 1).await;
    let position = |offset: i64| event(0, offset).build().source.position().to_string();
    bench.log.append(&events(0, 0, 50));
    bench.log.raw(0, Some(b"garbage"), Some(&position(50)));
    bench.log.raw(0, Some(b"somebody else's"), None);
    bench.log.raw(0, None, None);
    let far = event(0, 51)
        .event_ts(Micros(20_000_000_000_000_000))
        .build();
    let text = event(0, 52).event_id("abc").build();
    bench.log.append([&far, &text]);
    bench.log.append(&events(0, 53, 50));
    let mut sink = bench.setup.start();
    sink.until(&totals(100), || bench.database.totals()).await;
    // 50 and 50 events, three records that are none, two that have no row: letters and rows are done by then
    bench.committed_by(&mut sink, 105).await;
    let letters = bench.log.letters();
    let kinds: Vec<_> = letters.iter().map(|letter| letter.kind.as_str()).collect();
    let [malformed, unstorable] = ["malformed", "unstorable"];
    assert_eq!(
        kinds,
        [malformed, malformed, malformed, unstorable, unstorable]
    );
    let said = |letter: usize, words: &str| letters[letter].message.contains(words);
    assert!(
        said(3, "event_ts 2603") && said(4, "\"abc\" is no Int64"),
        "{:?} {:?}",
        letters[3].message,
        letters[4].message
    );
}

#[tokio::test]
async fn a_record_that_is_none_at_the_end_is_passed_by_a_commit_and_the_next_event_is_written() {
    let bench = Bench::new("poisonend", 1).await;
    bench.log.append(&events(0, 0, 50));
    let mut sink = bench.setup.start();
    sink.until(&totals(50), || bench.database.totals()).await;
    sink.stop().await;
    bench.log.raw(0, Some(b"last before the stop"), None);
    bench.log.flush();
    let mut sink = bench.setup.start();
    bench.committed_by(&mut sink, 51).await;
    sink.stop().await;
    bench.log.append(&events(0, 50, 1));
    let mut sink = bench.setup.start();
    sink.until(&totals(51), || bench.database.totals()).await;
}

#[tokio::test]
async fn a_partition_of_rubbish_stops_instead_of_flooding_the_dead_letters() {
    let bench = Bench::new("rubbish", 1).await;
    (0..300).for_each(|_| bench.log.raw(0, Some(b"rubbish"), None));
    bench.log.flush();
    let mut sink = bench.setup.start();
    assert_eq!(sink.exit().await, 78, "{}", sink.tail());
    assert!(
        sink.tail()
            .contains("of the last 100 records were rejected"),
        "{}",
        sink.tail()
    );
    assert!(bench.log.letters().len() < 150);
}

#[tokio::test]
async fn a_hole_in_the_log_stops_the_lane_after_what_came_before_it() {
    let bench = Bench::new("hole", 1).await;
    bench.log.append(&events(0, 0, 10));
    bench.log.append(&events(0, 12, 10));
    let mut sink = bench.setup.start();
    assert_eq!(sink.exit().await, 78, "{}", sink.tail());
    assert_eq!(bench.database.totals().await, totals(10));
    assert!(
        sink.tail()
            .contains("records are missing between live/0/0/9 and live/0/0/12"),
        "{}",
        sink.tail()
    );
    assert_eq!(
        bench.log.committed("hole", 0).map(|(offset, _)| offset),
        Some(10)
    );
}

/// Starts a sink that must end by itself, and gives exit code and log.
async fn refused(setup: &Setup) -> (i32, String) {
    let mut sink = setup.start();
    (sink.exit().await, sink.tail())
}

#[tokio::test]
async fn a_missing_table_column_or_right_ends_the_process_by_name() {
    let bench = Bench::new("missing", 1).await;
    let (code, log) = refused(&bench.setup.clone().env("CLICKHOUSE_DATABASE", "nowhere")).await;
    assert!(
        code == 78
            && log.contains("table nowhere.events_enriched does not exist")
            && log.contains("engagectl init"),
        "{code} {log}"
    );

    let (code, log) = refused(&bench.setup.clone().env("CLICKHOUSE_PASSWORD", "wrong")).await;
    assert!(
        code == 78 && log.contains("code 516") && log.contains("CLICKHOUSE_PASSWORD"),
        "{code} {log}"
    );

    bench
        .database
        .run("ALTER TABLE missing.events_enriched MODIFY COLUMN device Nullable(FixedString(3))")
        .await;
    let (code, log) = refused(&bench.setup).await;
    assert!(
        code == 78
            && log.contains(
                "column device of table missing.events_enriched is Nullable(FixedString(3))"
            ),
        "{code} {log}"
    );

    bench
        .database
        .run("ALTER TABLE missing.events_enriched DROP COLUMN device")
        .await;
    let (code, log) = refused(&bench.setup).await;
    assert!(
        code == 78 && log.contains("table missing.events_enriched has no column device"),
        "{code} {log}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_ends_the_process_after_the_startup_time() {
    let bench = Bench::new("silent", 1).await;
    let setup = bench
        .setup
        .clone()
        .env("CLICKHOUSE_URL", "http://127.0.0.1:9")
        .set("clickhouse.startup", "1s");
    let (code, log) = refused(&setup).await;
    assert!(code == 69 && log.contains("CLICKHOUSE_URL"), "{code} {log}");
}

#[tokio::test]
async fn a_column_dropped_while_running_stops_the_lanes_by_name() {
    let bench = Bench::new("dropped", 1).await;
    bench.log.append(&events(0, 0, 10));
    let mut sink = bench.setup.start();
    sink.until(&totals(10), || bench.database.totals()).await;
    bench
        .database
        .run("ALTER TABLE dropped.events_enriched DROP COLUMN content_slug")
        .await;
    bench.log.append(&events(0, 10, 10));
    assert_eq!(sink.exit().await, 78, "{}", sink.tail());
    assert!(sink.tail().contains("content_slug"), "{}", sink.tail());
    assert_eq!(
        bench.log.committed("dropped", 0).map(|(offset, _)| offset),
        Some(10)
    );
}

#[tokio::test]
async fn a_table_that_is_not_there_yet_or_for_a_while_is_waited_for() {
    let bench = Bench::new("away", 1).await;
    let (run, away) = (
        |sql: &'static str| bench.database.run(sql),
        "RENAME TABLE away.events_enriched TO away.elsewhere",
    );
    let back = "RENAME TABLE away.elsewhere TO away.events_enriched";
    bench.log.append(&events(0, 0, 10));
    run(away).await;
    let mut sink = bench.setup.start();
    sink.until_readyz(|said| said.contains("table away.events_enriched does not exist"))
        .await;
    run(back).await;
    sink.until(&totals(10), || bench.database.totals()).await;

    run(away).await;
    bench.log.append(&events(0, 10, 10));
    sink.until_readyz(|said| {
        said.contains("away.events_enriched") && said.contains("engagectl init")
    })
    .await;
    run(back).await;
    sink.until(&totals(20), || bench.database.totals()).await;
    sink.until_readyz(|said| !said.contains("partitions wait"))
        .await;
    sink.stop().await;
}
