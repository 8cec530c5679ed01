//! `engagectl trace`.

use std::process::{Command, Output};

use e2e::{Content, Event, Traced};
use serde_json::Value;

use crate::event::Committed;

fn engagectl(traced: &Traced) -> Command {
    let addresses = traced.world().addresses();
    let mut command = Command::new(devstack::program_beside_test("engagectl"));
    command
        .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
        .env("DATABASE_URL", &addresses.postgres_url)
        .env("REDIS_URL", &addresses.redis_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
        .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database)
        .env(
            "JAEGER_URL",
            traced.jaeger_url().unwrap_or("http://127.0.0.1:9"),
        );
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn traced_way(traced: &Traced, id: &str) -> Value {
    let receiver = format!("http://{}", traced.world().addresses().receiver);
    let output = engagectl(traced)
        .args(["-o", "json", "trace", id, "--receiver", &receiver])
        .output()
        .unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn the_way_of_an_event_is_told_from_its_commit_into_every_sink() {
    let (traced, _turn) = Traced::turn().await;
    let world = traced.world();
    let content = world.insert_content(Content::podcast(300)).await;
    let id = world.insert_event(Event::play(&content, 7000)).await;
    let event = Committed::read(world, &id).await;
    world.redis_count(&content, 1).await;
    world.delivered(&id).await;
    let way = world
        .eventually("every step done", || async {
            let way = traced_way(traced, &id);
            let steps = way["changes"][0]["steps"].as_array()?.clone();
            let done = steps.iter().all(|step| step["state"] == "done");
            // Redis and the frontiers are read after the sinks themselves
            (done && steps.len() == 5).then_some(way)
        })
        .await;
    let change = &way["changes"][0];
    assert_eq!(way["in_postgres"], true);
    assert_eq!(change["operation"], "created");
    assert_eq!(change["committed_at"], event.at.to_string());
    assert_eq!(change["source"], event.position.to_string());
    assert_eq!(change["trace_id"], event.trace_id());
    assert_eq!(change["sampled"], event.is_chosen(traced.share()));
    let steps = change["steps"].as_array().unwrap();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "captured",
            "enriched",
            "clickhouse",
            "redis",
            "webhook demo"
        ]
    );
    for timed in [0, 1, 2, 4] {
        let after = steps[timed]["after_ms"].as_i64().unwrap();
        assert!((-1..120_000).contains(&after), "{}", steps[timed]);
    }
}

#[tokio::test]
async fn an_unknown_event_is_said_to_be_unknown_with_what_to_do_next() {
    let (traced, _turn) = Traced::turn().await;
    let output = engagectl(traced)
        .args(["trace", "777777777777"])
        .output()
        .unwrap();
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(64), "{out}{err}");
    assert!(
        out.is_empty() && err.contains("no event 777777777777 is known"),
        "{err}"
    );
    assert!(
        err.contains("engagectl trace 777777777777 --since 24h"),
        "{err}"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_a_note_and_not_the_end() {
    let (traced, _turn) = Traced::turn().await;
    let world = traced.world();
    let content = world.insert_content(Content::podcast(300)).await;
    let id = world.insert_event(Event::play(&content, 7000)).await;
    Committed::read(world, &id).await;
    let output = engagectl(traced)
        .args(["trace", &id])
        .env("CLICKHOUSE_URL", "http://127.0.0.1:9")
        .env("JAEGER_URL", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    for part in [
        "created: committed",
        "captured",
        "enriched",
        "clickhouse            unknown",
    ] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    assert!(out.contains("note: ClickHouse cannot be asked"), "{out}");
}
