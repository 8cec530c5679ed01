//! What a process holds while ClickHouse is away and the log grows.

use crate::bench::{Bench, events, totals};
use crate::proxy::Proxy;

/// What a container of this service may use.
const LIMIT_MIB: u64 = 100;
const PARTITIONS: i32 = 16;
const EVENTS: i64 = 3_000;

#[tokio::test]
async fn an_outage_with_a_backlog_and_its_end_stay_within_the_memory_limit() {
    let bench = Bench::new("memory", PARTITIONS).await;
    let proxy = Proxy::start(&bench.database.url).await;
    let through = bench.setup.clone().env("CLICKHOUSE_URL", &proxy.url);
    let mut sink = through.start();
    bench.log.append(&events(0, 0, 1));
    sink.until(&totals(1), || bench.database.totals()).await;
    let idle = sink.peak_mib();
    proxy.shut(true);
    let title = "t".repeat(700);
    for partition in 0..PARTITIONS {
        let mut backlog = events(partition, 1, EVENTS);
        for event in &mut backlog {
            event.content_title = Some(title.clone());
        }
        bench.log.append(&backlog);
    }
    // Some lanes have a batch that they cannot write, the others wait for memory, all with a full inbox.
    sink.until_readyz(|ready| ready.contains("wait for ClickHouse"))
        .await;
    proxy.shut(false);
    let all = i64::from(PARTITIONS) * EVENTS + 1;
    sink.until(&totals(all), || bench.database.totals()).await;
    let peak = sink.peak_mib();
    assert!(
        peak < LIMIT_MIB,
        "{idle} MiB resident, then {peak} at most; allowed are {LIMIT_MIB}"
    );
    eprintln!("{idle} MiB resident, then {peak} at most");
    sink.stop().await;
}
