//! A person is erased by hand as docs/privacy.md says: no store shows them any more, and every sink stays equal.

use std::time::Duration;

use e2e::{Content, Event, World};

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

async fn rows_of(world: &World, user: &str) -> i64 {
    let database = &world.addresses().clickhouse_database;
    let sql = format!("SELECT count() FROM {database}.events_enriched WHERE user_id = '{user}'");
    world.clickhouse(&sql).await.trim().parse().unwrap()
}

fn user() -> String {
    uuid::Uuid::now_v7().to_string()
}
