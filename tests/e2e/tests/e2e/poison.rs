//! Records that no enricher can understand: kept with their bytes, and the stream goes on.

use e2e::{Content, Event, World};

#[tokio::test]
async fn a_poison_record_is_dead_lettered_with_its_bytes_and_the_stream_goes_on() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(300)).await;
    let before = world.insert_event(Event::play(&content, 1000)).await;
    world.clickhouse_row(&before).await;

    let key = format!("{{\"content_id\":\"{content}\"}}");
    let poison = format!("{{\"op\":\"c\",\"after\":{{\"id\":\"no number {content}\"");
    world
        .produce("cdc.public.engagement_events", &key, poison.as_bytes())
        .await;

    let letter = world
        .dead_letter("engagement.dlq.enricher", poison.as_bytes())
        .await;
    assert_eq!(
        letter.header("__connect.errors.topic").as_deref(),
        Some("cdc.public.engagement_events")
    );
    assert!(
        letter
            .header("__connect.errors.exception.message")
            .is_some_and(|text| !text.is_empty())
    );
    assert_eq!(letter.key.as_deref(), Some(key.as_bytes()));

    let after = world.insert_event(Event::play(&content, 2000)).await;
    assert_eq!(world.clickhouse_row(&after).await["duration_ms"], "2000");
    assert_eq!(world.redis_count(&content, 2).await, 2);
}
