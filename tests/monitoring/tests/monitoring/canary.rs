//! The canary sees its rows in every sink, and a sink that stops.

use monitoring::exposition::value;

use crate::pipeline::{PATIENCE, Running, eventually, page, pipeline};

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_back_from_every_sink_by_value_and_a_stopped_sink_is_noticed() {
    let (world, _turn) = pipeline().await;
    let canary = Running::canary(world, "10s");
    let metric = async |name: &str, labels: &[(&str, &str)]| -> Result<f64, String> {
        let (_, text) = page(canary.admin, "/metrics").await.ok_or("no answer")?;
        value(&text, name, labels).ok_or_else(|| format!("no {name} {labels:?}"))
    };
    let at_least = async |wanted: f64, name: &str, labels: &[(&str, &str)]| {
        eventually(
            &format!("{name} {labels:?} at least {wanted}"),
            PATIENCE,
            async || match metric(name, labels).await? {
                found if found >= wanted => Ok(()),
                found => Err(found.to_string()),
            },
        )
        .await;
    };
    for sink in ["clickhouse", "redis", "webhook"] {
        at_least(5.0, "engage_canary_seconds_count", &[("sink", sink)]).await;
        let wrong = [("sink", sink), ("kind", "wrong")];
        let failures = metric("engage_canary_failures_total", &wrong).await;
        assert_eq!(failures, Ok(0.0), "{sink}");
    }
    for group in ["enricher", "clickhouse-sink", "redis-aggregator"] {
        at_least(1.0, "engage_group_members", &[("group", group)]).await;
    }

    world.terminate("clickhouse-sink");
    let late = [("sink", "clickhouse"), ("kind", "late")];
    at_least(1.0, "engage_canary_failures_total", &late).await;
    // nobody has the partitions any more, and the lag is told all the same
    eventually("an unattended group", PATIENCE, async || {
        let group = ("group", "clickhouse-sink");
        let (_, text) = page(canary.admin, "/metrics").await.ok_or("no answer")?;
        let members = value(&text, "engage_group_members", &[group]);
        let lag: f64 = (0..16)
            .filter_map(|p| {
                value(
                    &text,
                    "engage_group_lag",
                    &[group, ("partition", &p.to_string())],
                )
            })
            .sum();
        match (members, lag > 0.0) {
            (Some(0.0), true) => Ok(()),
            other => Err(format!("{other:?}, lag {lag}")),
        }
    })
    .await;

    world.restart("clickhouse-sink");
    let seen = metric("engage_canary_seconds_count", &[("sink", "clickhouse")]).await;
    at_least(
        seen.unwrap() + 5.0,
        "engage_canary_seconds_count",
        &[("sink", "clickhouse")],
    )
    .await;
}
