//! A person is erased, by hand as docs/privacy.md says, and by `engagectl erase` under a running pipeline: no store shows them any
//! more, every sink stays equal, and no reader of the enriched topic meets anything but events.

use std::process::{Command, Stdio};
use std::time::Duration;

use devstack::program_beside_test;
use e2e::{Content, Event, World};
use serde_json::Value;

#[tokio::test]
async fn a_person_erased_by_hand_is_in_no_sink_any_more_and_every_sink_is_exact() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    let (blanked, deleted) = (user(), user());
    for (user, duration) in [(&blanked, 1_000), (&deleted, 2_000)] {
        let id = world.insert_event(Event::play(&content, duration)).await;
        let named = "UPDATE engagement_events SET user_id = $1::uuid, device = 'a phone' WHERE id = $2::bigint";
        world.sql(named, &[user, &id]).await;
        world
            .eventually("the event names its user", || async {
                (world.clickhouse_row(&id).await["user_id"] == **user).then_some(())
            })
            .await;
    }

    // in Postgres, one by either way
    let blank = "UPDATE engagement_events SET user_id = NULL, device = NULL, raw_payload = NULL WHERE user_id = $1::uuid";
    world.sql(blank, &[&blanked]).await;
    world
        .sql(
            "DELETE FROM engagement_events WHERE user_id = $1::uuid",
            &[&deleted],
        )
        .await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;

    // in ClickHouse, what was replaced
    // (what a merge has taken already is gone; the row of a deletion stays)
    let of_the_deletion = rows_of(world, &deleted).await;
    assert!(of_the_deletion > 0, "it carries the fields it had");
    for user in [&blanked, &deleted] {
        let blank = format!(
            "ALTER TABLE {}.events_enriched UPDATE user_id = NULL, device = NULL, raw_payload = NULL WHERE user_id = '{user}' \
             SETTINGS mutations_sync = 2",
            world.addresses().clickhouse_database
        );
        world.clickhouse(&blank).await;
        assert_eq!(rows_of(world, user).await, 0);
    }

    // the sink goes on, in that partition too
    let next = world.insert_event(Event::play(&content, 3_000)).await;
    world.clickhouse_row(&next).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;
    let last = world.redis_last(&content).await.to_string();
    assert!(
        !last.contains(&blanked) && !last.contains(&deleted),
        "{last}"
    );
}

#[tokio::test]
async fn a_person_is_erased_by_one_command_while_the_pipeline_runs_and_every_sink_is_exact() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    for what in ["null", "delete"] {
        let user = user();
        let mut ids = Vec::new();
        for duration in [4_000, 5_000] {
            let id = world.insert_event(Event::play(&content, duration)).await;
            let named = "UPDATE engagement_events SET user_id = $1::uuid, device = 'a phone' WHERE id = $2::bigint";
            world.sql(named, &[&user, &id]).await;
            ids.push(id);
        }
        world
            .eventually("the last event names its user", || async {
                let last = world.clickhouse_row(&ids[1]).await;
                (last["user_id"] == *user).then_some(())
            })
            .await;

        let receipt = erase(world, &user, what).await;
        let said = &receipt["receipt"];
        assert_eq!(said["complete"], true, "{said:#}");
        let stores = said["stores"].as_array().unwrap();
        let of = |store: &str| stores.iter().find(|found| found["store"] == store).unwrap();
        assert_eq!(of("postgres")["found"], 2, "{said:#}");
        assert!(of("clickhouse")["found"].as_u64().unwrap() >= 2, "{said:#}");
        assert_eq!(rows_of(world, &user).await, 0);
        if what == "null" {
            // the event stays, and counts
            assert_eq!(world.clickhouse_row(&ids[0]).await["duration_ms"], "4000");
        }
    }
    let next = world.insert_event(Event::play(&content, 6_000)).await;
    world.clickhouse_row(&next).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;
}

/// Runs the tool to its end; the signed receipt.
async fn erase(world: &World, user: &str, what: &str) -> Value {
    let addresses = world.addresses();
    let mut command = Command::new(program_beside_test("engagectl"));
    command
        .stdin(Stdio::null())
        .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
        .env("DATABASE_URL", &addresses.postgres_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
        .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database)
        .env("REDIS_URL", &addresses.redis_url)
        .env("ERASE_KEY", key())
        .args(["erase", "--user", user, "--postgres", what, "--execute"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await;
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", world.service_logs());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An Ed25519 key as openssl writes it; it protects nothing.
fn key() -> String {
    let label = "PRIVATE KEY";
    let body = format!("MC4CAQAwBQYDK2VwBCIEI{}", "A".repeat(43));
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

async fn rows_of(world: &World, user: &str) -> i64 {
    let database = &world.addresses().clickhouse_database;
    let sql = format!("SELECT count() FROM {database}.events_enriched WHERE user_id = '{user}'");
    world.clickhouse(&sql).await.trim().parse().unwrap()
}

fn user() -> String {
    uuid::Uuid::now_v7().to_string()
}
