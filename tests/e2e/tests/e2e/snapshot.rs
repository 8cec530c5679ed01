//! Rows that were there before Engage was.

use e2e::World;

#[tokio::test]
async fn rows_from_before_the_connector_arrive_once_as_snapshot() {
    let world = World::shared().await;
    let filter = "origin = 'SNAPSHOT'";
    world
        .eventually("every row from before in ClickHouse", || async {
            (world.clickhouse_count(filter).await == e2e::ROWS_BEFORE).then_some(())
        })
        .await;
    let content = e2e::CONTENT_BEFORE;
    assert_eq!(
        world.redis_count(content, e2e::ROWS_BEFORE).await,
        e2e::ROWS_BEFORE
    );
    assert_eq!(
        world
            .clickhouse_count(&format!("{filter} AND content_title = 'Before'"))
            .await,
        e2e::ROWS_BEFORE
    );
}
