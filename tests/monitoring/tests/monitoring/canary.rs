//! The canary sees its rows in every sink, and a sink that stops.

use std::net::SocketAddr;

use monitoring::exposition::value;

use crate::pipeline::{PATIENCE, Running, eventually, page, pipeline};

const SEEN: &str = "engage_canary_seconds_count";
const FAILURES: &str = "engage_canary_failures_total";
const PARTITIONS: i32 = 16;

async fn metric(admin: SocketAddr, name: &str, labels: &[(&str, &str)]) -> Result<f64, String> {
    let (_, text) = page(admin, "/metrics").await.ok_or("no answer")?;
    value(&text, name, labels).ok_or_else(|| format!("no {name} {labels:?}"))
}

async fn at_least(admin: SocketAddr, wanted: f64, name: &str, labels: &[(&str, &str)]) {
    let what = format!("{name} {labels:?} at least {wanted}");
    eventually(&what, PATIENCE, async || {
        match metric(admin, name, labels).await? {
            found if found >= wanted => Ok(()),
            found => Err(found.to_string()),
        }
    })
    .await;
}

/// Nobody has the partitions, and their lag is told all the same.
async fn unattended(admin: SocketAddr, group: &str) {
    eventually("an unattended group", PATIENCE, async || {
        let (_, text) = page(admin, "/metrics").await.ok_or("no answer")?;
        let members = value(&text, "engage_group_members", &[("group", group)]);
        let lag_of = |partition: i32| {
            let partition = partition.to_string();
            let labels = [("group", group), ("partition", partition.as_str())];
            value(&text, "engage_group_lag", &labels)
        };
        let lag: f64 = (0..PARTITIONS).filter_map(lag_of).sum();
        match (members, lag > 0.0) {
            (Some(0.0), true) => Ok(()),
            other => Err(format!("{other:?}, lag {lag}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_back_from_every_sink_by_value_and_a_stopped_sink_is_noticed() {
    let (world, _turn) = pipeline().await;
    let canary = Running::canary(world, "10s");
    let admin = canary.admin;
    for sink in ["clickhouse", "redis", "webhook"] {
        at_least(admin, 5.0, SEEN, &[("sink", sink)]).await;
        let wrong = metric(admin, FAILURES, &[("sink", sink), ("kind", "wrong")]).await;
        assert_eq!(wrong, Ok(0.0), "{sink}");
    }
    for group in ["enricher", "clickhouse-sink", "redis-aggregator"] {
        at_least(admin, 1.0, "engage_group_members", &[("group", group)]).await;
    }

    world.terminate("clickhouse-sink");
    at_least(
        admin,
        1.0,
        FAILURES,
        &[("sink", "clickhouse"), ("kind", "late")],
    )
    .await;
    unattended(admin, "clickhouse-sink").await;

    world.restart("clickhouse-sink");
    let clickhouse = [("sink", "clickhouse")];
    let seen = metric(admin, SEEN, &clickhouse).await.unwrap();
    at_least(admin, seen + 5.0, SEEN, &clickhouse).await;
}
