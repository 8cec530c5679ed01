//! One event to all three sinks, and the derived values of every NULL and border case.

use e2e::{Content, Event, World};

#[tokio::test]
async fn one_event_reaches_clickhouse_redis_and_the_webhook_receiver() {
    let world = World::shared().await;
    let content = world.insert_content(Content::podcast(300)).await;
    let id = world.insert_event(Event::play(&content, 7000)).await;

    let row = world.clickhouse_row(&id).await;
    assert_eq!(row["content_id"], content);
    assert_eq!(row["duration_ms"], "7000");
    assert_eq!(row["engagement_seconds"], "7");
    assert_eq!(row["engagement_pct"], "0.0233");
    assert_eq!(row["engagement_percent"], "2.33");

    let last = world.redis_last(&content).await;
    assert_eq!(last["engagement_pct"], 0.02);
    assert_eq!(world.redis_count(&content, 1).await, 1);
    world.redis_score("engagement:10min", &content, 7.0).await;
    world.redis_score("top:content:10m", &content, 1.0).await;

    let delivered = world.delivered(&id).await;
    assert_eq!(delivered["data"]["engagement_seconds"], 7.0);
    assert_eq!(delivered["data"]["engagement_ratio"], 0.0233);
    assert_eq!(
        delivered["data"].get("raw_payload"),
        None,
        "personal data stays out of webhooks unless asked for"
    );
}

/// Duration, length, then seconds, ratio and percent as ClickHouse prints them.
type Case = (
    &'static str,
    Option<i64>,
    Option<i32>,
    &'static str,
    &'static str,
    &'static str,
);
const CASES: [Case; 6] = [
    ("NULL duration", None, Some(300), "\\N", "\\N", "\\N"),
    ("NULL length", Some(7000), None, "7", "\\N", "\\N"),
    ("length 0", Some(7000), Some(0), "7", "\\N", "\\N"),
    ("0 ms", Some(0), Some(300), "0", "0", "0"),
    ("over 100 %", Some(600_000), Some(300), "600", "2", "200"),
    (
        "half-up",
        Some(16_845),
        Some(300),
        "16.845",
        "0.0562",
        "5.62",
    ),
];

#[tokio::test]
async fn derived_values_are_exact_and_null_where_they_cannot_be_known() {
    let world = World::shared().await;
    for (case, duration, length, seconds, ratio, percent) in CASES {
        let content = world
            .insert_content(Content {
                length_seconds: length,
                ..Content::podcast(0)
            })
            .await;
        let id = world
            .insert_event(Event {
                duration_ms: duration,
                ..Event::play(&content, 0)
            })
            .await;
        let row = world.clickhouse_row(&id).await;
        let found = [
            &row["engagement_seconds"],
            &row["engagement_pct"],
            &row["engagement_percent"],
        ];
        assert_eq!(found, [seconds, ratio, percent], "{case}");
        assert_eq!(row["enrichment_status"], "OK", "{case}");
    }
}

#[tokio::test]
async fn an_event_without_content_is_kept_and_marked() {
    let world = World::shared().await;
    let id = world
        .insert_event(Event {
            content_id: None,
            ..Event::play("", 1500)
        })
        .await;
    let row = world.clickhouse_row(&id).await;
    assert_eq!(
        (
            row["content_id"].as_str(),
            row["enrichment_status"].as_str()
        ),
        ("\\N", "NO_CONTENT")
    );
    assert_eq!(row["engagement_seconds"], "1.5");
    assert_eq!(
        world.delivered(&id).await["data"]["enrichment_status"],
        "NO_CONTENT"
    );
}
