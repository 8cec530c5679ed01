//! Connect forgets how far it was: it takes a snapshot again, and nothing is lost or counted twice.

use std::time::Duration;

use e2e::World;
use platform::Schema;
use sqlx::{Connection as _, PgConnection};

const ROWS: i32 = 40;

#[tokio::test]
async fn a_worker_that_lost_its_offsets_takes_a_snapshot_again_and_every_sink_is_exact() {
    let world = World::start(Schema::Uuid).await;
    insert(&world).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;

    let connector = format!("{}/connectors/engage-cdc", world.addresses().connect_url);
    let client = reqwest::Client::new();
    let stopped = client
        .put(format!("{connector}/stop"))
        .send()
        .await
        .unwrap();
    assert!(stopped.status().is_success(), "{stopped:?}");
    world
        .eventually("the offsets are gone", || async {
            let deleted = client.delete(format!("{connector}/offsets")).send().await;
            deleted.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    insert(&world).await;
    let resumed = client
        .put(format!("{connector}/resume"))
        .send()
        .await
        .unwrap();
    assert!(resumed.status().is_success(), "{resumed:?}");

    insert(&world).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;
    let all = world.clickhouse_count("device = 'offsets'").await;
    assert_eq!(all, i64::from(3 * ROWS));
    assert!(
        world.clickhouse_count("origin = 'SNAPSHOT'").await >= i64::from(ROWS),
        "the rows of the meantime came by snapshot"
    );
}

async fn insert(world: &World) {
    let url = &world.addresses().postgres_url;
    let mut postgres = PgConnection::connect(url).await.unwrap();
    sqlx::query(
        "INSERT INTO engagement_events (event_type, duration_ms, device) \
         SELECT 'play', n, 'offsets' FROM generate_series(1, $1) n",
    )
    .bind(ROWS)
    .execute(&mut postgres)
    .await
    .unwrap();
}
