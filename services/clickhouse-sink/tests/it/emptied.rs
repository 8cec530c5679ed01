//! A table that lacks what was written into it is refused by name.

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::EVENT_TS;
use stream::checkpoint::Checkpoint;

use crate::bench::{Bench, event, events, totals};
use crate::sink::Sink;

pub(crate) fn checkpoint(bench: &Bench) -> (i64, Checkpoint) {
    let (offset, metadata) = bench.log.committed(&bench.group, 0).unwrap();
    (offset, metadata.parse().unwrap())
}

/// It ends with 78 and says this, and nothing was written into the table.
pub(crate) async fn is_refused(bench: &Bench, sink: &mut Sink, says: &str) {
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
pub(crate) async fn wrote(bench: &Bench, all: &[EnrichedEvent], next: i64) {
    bench.log.append(all);
    let mut sink = bench.setup.start();
    bench.committed_by(&mut sink, next).await;
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
    bench.committed_by(&mut sink, 100).await;
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
    bench.committed_by(&mut sink, 200).await;
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
    bench.committed_by(&mut sink, 10).await;
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
