//! Inserts that arrive when nobody waits for them any more: each of these once wrote rows twice.

use crate::bench::{Bench, event, events, totals};
use crate::proxy::Proxy;
use crate::sink::Setup;

/// What the server says to an insert that is not under the highest fence.
const NOTHING: &str = "\"written_rows\":\"0\"";

/// A sink that sends through the proxy, with its first 10 events in the table and an insert of the next 10 held back.
async fn held(bench: &Bench, proxy: &Proxy, setup: &Setup) -> crate::sink::Sink {
    bench.log.append(&events(0, 0, 10));
    let mut sink = setup.clone().env("CLICKHOUSE_URL", &proxy.url).start();
    sink.until(&totals(10), || bench.database.totals()).await;
    proxy.hold_one();
    bench.log.append(&events(0, 10, 10));
    proxy.holds().await;
    sink
}

fn direct(bench: &Bench, group: &str) -> Setup {
    Setup::new(&bench.log, &bench.database, group).set("batch.interval", "200ms")
}

#[tokio::test]
async fn an_insert_that_arrives_after_its_sender_died_writes_nothing_twice() {
    let bench = Bench::new("latedead", 1).await;
    let proxy = Proxy::start(&bench.database.url).await;
    held(&bench, &proxy, &bench.setup).await.kill9();
    let mut next = direct(&bench, &bench.group).start();
    next.until(&totals(20), || bench.database.totals()).await;
    let answer = proxy.let_go().await;
    assert!(answer.contains(NOTHING), "{answer}");
    bench.log.append(&events(0, 20, 10));
    next.until(&totals(30), || bench.database.totals()).await;
    next.stop().await;
}

#[tokio::test]
async fn an_insert_of_ones_own_that_arrives_after_it_was_given_up_writes_nothing_twice() {
    let bench = Bench::new("lateown", 1).await;
    let proxy = Proxy::start(&bench.database.url).await;
    let impatient = bench.setup.clone().set("clickhouse.request_timeout", "1s");
    let mut sink = held(&bench, &proxy, &impatient).await;
    sink.until(&totals(20), || bench.database.totals()).await;
    let answer = proxy.let_go().await;
    assert!(answer.contains(NOTHING), "{answer}");
    bench.log.append(&events(0, 20, 10));
    sink.until(&totals(30), || bench.database.totals()).await;
    sink.stop().await;
}

#[tokio::test]
async fn a_group_whose_commit_was_lost_writes_nothing_twice_beside_a_late_insert() {
    let bench = Bench::new("latecommit", 1).await;
    let proxy = Proxy::start(&bench.database.url).await;
    held(&bench, &proxy, &bench.setup).await.kill9();
    let mut next = direct(&bench, "latecommit-without").start();
    next.until(&totals(20), || bench.database.totals()).await;
    let answer = proxy.let_go().await;
    assert!(answer.contains(NOTHING), "{answer}");
    bench.log.append([&event(0, 20).build()]);
    next.until(&totals(21), || bench.database.totals()).await;
    next.stop().await;
}

#[tokio::test]
async fn a_sink_that_stood_still_and_is_told_to_stop_writes_nothing_twice() {
    let bench = Bench::new("latestop", 1).await;
    let proxy = Proxy::start(&bench.database.url).await;
    let mut still = held(&bench, &proxy, &bench.setup).await;
    still.signal("STOP");
    let mut next = direct(&bench, &bench.group).start();
    next.until(&totals(20), || bench.database.totals()).await;
    let answer = proxy.let_go().await;
    assert!(answer.contains(NOTHING), "{answer}");
    still.signal("CONT");
    still.stop().await;
    bench.log.append(&events(0, 20, 10));
    next.until(&totals(30), || bench.database.totals()).await;
    next.stop().await;
}

#[tokio::test]
async fn a_sink_is_told_that_somebody_else_has_taken_its_partition() {
    let bench = Bench::new("taken", 1).await;
    bench.log.append(&events(0, 0, 10));
    let mut sink = bench.setup.start();
    sink.until(&totals(10), || bench.database.totals()).await;
    let fence = "INSERT INTO taken.events_enriched_fences (lane, partition, holder) VALUES ('live', 0, (1000, 7))";
    bench.database.run(fence).await;
    bench.log.append(&events(0, 10, 10));
    sink.until(&totals(20), || bench.database.totals()).await;
    assert!(
        sink.tail()
            .contains("another owner has taken the partition over"),
        "{}",
        sink.tail()
    );
    sink.stop().await;
    let highest = "SELECT max(holder).1 FROM taken.events_enriched_fences WHERE partition = 0";
    assert_eq!(bench.database.run(highest).await, "1001");
}

#[tokio::test]
async fn a_table_of_fences_that_is_missing_is_named_at_the_start() {
    let bench = Bench::new("unfenced", 1).await;
    bench
        .database
        .run("DROP TABLE unfenced.events_enriched_fences")
        .await;
    let mut sink = bench.setup.start();
    assert_eq!(sink.exit().await, 78, "{}", sink.tail());
    for expected in ["events_enriched_fences", "engagectl init"] {
        assert!(sink.tail().contains(expected), "{}", sink.tail());
    }
}
