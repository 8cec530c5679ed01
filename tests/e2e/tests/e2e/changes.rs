//! Changes of contents and of events after the fact.

use e2e::{Content, Event, World};

#[tokio::test]
async fn an_update_of_the_content_is_seen_by_later_events_only() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    let before = world.insert_event(Event::play(&content, 50_000)).await;
    assert_eq!(world.clickhouse_row(&before).await["engagement_pct"], "0.5");

    world
        .sql(
            "UPDATE content SET length_seconds = 200 WHERE id = $1::uuid",
            &[&content],
        )
        .await;
    let after = world
        .eventually("an event that sees the new length", || async {
            let id = world.insert_event(Event::play(&content, 50_000)).await;
            (world.clickhouse_row(&id).await["length_seconds"] == "200").then_some(id)
        })
        .await;
    assert_eq!(world.clickhouse_row(&after).await["engagement_pct"], "0.25");
    assert_eq!(
        world.clickhouse_row(&before).await["engagement_pct"],
        "0.5",
        "history is not rewritten"
    );
}

#[tokio::test]
async fn an_updated_event_replaces_its_former_self_in_every_sink() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    let id = world.insert_event(Event::play(&content, 10_000)).await;
    world.clickhouse_row(&id).await;
    assert_eq!(world.redis_count(&content, 1).await, 1);

    world
        .sql(
            "UPDATE engagement_events SET duration_ms = 30000 WHERE id = $1::bigint",
            &[&id],
        )
        .await;
    world
        .eventually("30 s in ClickHouse", || async {
            (world.clickhouse_row(&id).await["engagement_seconds"] == "30").then_some(())
        })
        .await;
    world.redis_score("engagement:10min", &content, 30.0).await;
    assert_eq!(
        world.redis_count(&content, 1).await,
        1,
        "an update is no second event"
    );
}

#[tokio::test]
async fn a_change_of_the_event_time_moves_the_row_and_leaves_no_copy() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    let id = world.insert_event(Event::play(&content, 10_000)).await;
    let row = world.clickhouse_row(&id).await;
    world.sql("UPDATE engagement_events SET event_ts = event_ts - interval '40 days' WHERE id = $1::bigint", &[&id]).await;
    // another month is another part of the insert: what goes and what comes can be seen one before the other
    let (all, old) = (
        format!("event_id = {id}"),
        format!("event_id = {id} AND event_ts = '{}'", row["event_ts"]),
    );
    world
        .eventually("one row, at another event_ts", || async {
            let found = (
                world.clickhouse_count(&all).await,
                world.clickhouse_count(&old).await,
            );
            (found == (1, 0)).then_some(())
        })
        .await;
    let moved = world.clickhouse_row(&id).await;
    assert_eq!(moved["duration_ms"], row["duration_ms"]);
}

#[tokio::test]
async fn a_deleted_event_leaves_every_sink() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(100)).await;
    let kept = world.insert_event(Event::play(&content, 10_000)).await;
    let gone = world.insert_event(Event::play(&content, 20_000)).await;
    world.clickhouse_row(&gone).await;
    assert_eq!(world.redis_count(&content, 2).await, 2);

    world
        .sql(
            "DELETE FROM engagement_events WHERE id = $1::bigint",
            &[&gone],
        )
        .await;
    let filter = format!("content_id = '{content}'");
    world
        .eventually("one event in ClickHouse", || async {
            (world.clickhouse_count(&filter).await == 1).then_some(())
        })
        .await;
    assert_eq!(world.redis_count(&content, 1).await, 1);
    world.redis_score("engagement:10min", &content, 10.0).await;
    world.clickhouse_row(&kept).await;
}

#[tokio::test]
async fn an_event_of_a_content_that_postgres_no_longer_has_goes_out_as_missing() {
    let world = World::shared().await;
    let content = "0badc0de-0000-4000-8000-000000000001";
    // Replication role skips the foreign key, as a sharded or partly replicated platform would.
    let id = world.insert_orphan(content).await;
    let row = world.clickhouse_row(&id).await;
    assert_eq!(row["enrichment_status"], "MISSING");
    assert_eq!(row["engagement_seconds"], "5", "seconds need no content");
    assert_eq!(row["engagement_pct"], "\\N");
}
