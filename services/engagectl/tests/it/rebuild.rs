//! `engagectl rebuild`: a table that the real sink fills, a Redis that the real aggregator counts in, and their loss.

mod door;
pub(crate) mod world;

use door::Door;
use serde_json::Value;
use world::{World, events};

const EXECUTE: [&str; 3] = ["rebuild", "redis", "--execute"];

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_made_anew_under_a_live_stream_and_is_what_it_would_have_been() {
    let mut world = World::start("rebuilt", 3).await;
    world.produce(events(1, 900, 3)).await;
    let sink = world.sink();
    let aggregator = world.aggregator();
    world.counted("before the loss").await;
    aggregator.stop().await;
    world.empty_redis().await;
    let refused = world.aggregator().failure().await;
    assert!(
        refused.contains("engagectl rebuild redis --execute"),
        "{refused}"
    );

    world.produce(events(2, 300, 3)).await;
    world.stored().await;
    let plan = world.tool().json(&world.words(&["rebuild", "redis"]));
    assert_eq!(plan["executed"], false);
    assert_eq!(plan["partitions"].as_array().unwrap().len(), 3);
    assert!(world.places().await.iter().all(|(at, _)| at.is_empty()));
    let parts = || plan["partitions"].as_array().unwrap().iter();
    assert!(parts().all(|part| part["found"] == "empty"));
    let begins = |part: &Value| part["goes_on_at"].as_i64().unwrap();
    assert!(
        parts().all(|part| begins(part) > 0 && part["window_records"].as_u64() > Some(0)),
        "{plan:#}"
    );

    world.produce(events(3, 300, 3)).await;
    let said = world.carried_out(&EXECUTE).await;
    assert!(said.contains("made; start redis-aggregator"), "{said}");
    world.produce(events(4, 300, 3)).await;
    let again = world.tool().text(&world.words(&EXECUTE));
    assert!(again.contains("nothing to make"), "{again}");
    let aggregator = world.aggregator();
    world.counted("after the rebuild").await;

    let (code, busy) = world.tool().refused(&world.words(&EXECUTE));
    assert!(code == 75 && busy.contains("has members"), "{busy}");
    aggregator.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_is_refused_by_the_lanes_and_carried_out_by_the_next_run() {
    let mut world = World::start("killed", 3).await;
    // many contents: many steps
    world.produce(events(5, 2400, 600)).await;
    let sink = world.sink();
    let aggregator = world.aggregator();
    world.counted("before the loss").await;
    aggregator.stop().await;
    world.empty_redis().await;

    // a partition is registered, begun, added to by three scripts at least, and finished
    for scripts in [2, 3, 5] {
        let door = Door::before(&world.redis_url(), scripts).await;
        world.killed_at(&door, &EXECUTE).await;
        let left = world.places().await;
        let is_begun = |at: &str| at.starts_with("rebuilding:");
        assert!(
            left.iter().any(|(at, _)| is_begun(at)),
            "after {scripts}: {left:?}"
        );
        let refused = world.aggregator().stopped_lane().await;
        assert!(
            refused.contains("engagectl rebuild redis --execute"),
            "{refused}"
        );
    }
    world.carried_out(&EXECUTE).await;
    assert!(
        world
            .places()
            .await
            .iter()
            .all(|(at, made)| at.contains('@') && *made)
    );
    let aggregator = world.aggregator();
    world.counted("after the rebuild").await;
    aggregator.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_in_use_is_replaced_only_when_asked_for_and_what_a_backfill_brought_is_counted_then()
 {
    let mut world = World::start("replaced", 2).await;
    world.produce(events(6, 400, 3)).await;
    let (sink, aggregator) = (world.sink(), world.aggregator());
    world.counted("before").await;
    aggregator.stop().await;
    let (code, refused) = world.tool().refused(&world.words(&EXECUTE));
    assert!(code == 78 && refused.contains("--replace"), "{refused}");

    world.insert_by_backfill(7).await;
    world
        .carried_out(&["rebuild", "redis", "--replace", "--execute"])
        .await;
    let aggregator = world.aggregator();
    world.counted("with the rows of the backfill").await;
    aggregator.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_rows_is_named_and_so_is_one_that_was_emptied() {
    let mut world = World::start("lacking", 2).await;
    world.produce(events(8, 300, 3)).await;
    let sink = world.sink();
    world.stored().await;
    world
        .clickhouse(&format!(
            "DELETE FROM {0}.events_enriched WHERE event_id = (SELECT event_id FROM {0}.events_enriched WHERE src_partition = 0 \
             GROUP BY event_id HAVING count() = 1 ORDER BY max(src_offset) DESC LIMIT 1 OFFSET 5)",
            world.name()
        ))
        .await;
    let (code, refused) = world.tool().refused(&world.words(&["rebuild", "redis"]));
    assert!(
        code == 78 && refused.contains("ClickHouse lacks"),
        "{refused}"
    );
    let healthy = world
        .tool()
        .refused(&world.words(&["rebuild", "clickhouse"]));
    assert!(
        healthy.0 == 78 && healthy.1.contains("was not lost"),
        "{}",
        healthy.1
    );

    sink.stop().await;
    world
        .clickhouse(&format!("TRUNCATE TABLE {}.events_enriched", world.name()))
        .await;
    let (code, refused) = world.tool().refused(&world.words(&["rebuild", "redis"]));
    assert!(
        code == 78 && refused.contains("engagectl rebuild clickhouse"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_table_is_filled_again_from_the_first_record_of_the_log() {
    let mut world = World::start("refilled", 2).await;
    world.produce(events(9, 500, 3)).await;
    let sink = world.sink();
    world.stored().await;
    let (code, busy) = world
        .tool()
        .refused(&world.words(&["rebuild", "clickhouse", "--execute"]));
    assert!(code == 78 && busy.contains("was not lost"), "{busy}");
    world
        .clickhouse(&format!("TRUNCATE TABLE {}.events_enriched", world.name()))
        .await;
    let words = world.words(&["rebuild", "clickhouse", "--execute"]);
    let (code, busy) = world.tool().refused(&words);
    assert!(code == 75 && busy.contains("has members"), "{busy}");
    sink.stop().await;

    let plan = world.tool().json(&world.words(&["rebuild", "clickhouse"]));
    assert_eq!(
        (&plan["source"], &plan["backfill"]),
        (&"log".into(), &Value::Null)
    );
    world
        .carried_out(&["rebuild", "clickhouse", "--execute"])
        .await;
    let again = world.tool().json(&world.words(&["rebuild", "clickhouse"]));
    let moves = |value: &Value| value["lanes"][0]["moves"].as_array().unwrap().len();
    assert_eq!((moves(&plan), moves(&again)), (2, 0));
    let sink = world.sink();
    world.stored().await;
    sink.stop().await;
}
