//! The join: contents from the topic, from Postgres, from nowhere.

use std::time::{Duration, Instant};

use engagement::event::{EnrichmentStatus, Origin};
use serde_json::json;

use crate::broker::{decode, header, header_text};
use crate::cdc;
use crate::world::{CONTENT, PATIENCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_joined_with_its_content_and_keeps_key_and_position() {
    let world = World::new(2).await;
    world.publish_content();
    world
        .broker
        .produce(&world.config.input.cdc_topic, 1, &World::inserts(1..=1));
    let enricher = world.start();
    let messages = world
        .broker
        .read_at_least(&world.config.output.topic, 1, 1)
        .await;
    enricher.stop().await;

    let (message, event) = (&messages[0], decode(&messages[0]));
    assert_eq!(rdkafka::Message::key(message), Some(CONTENT.as_bytes()));
    assert_eq!(header_text(message, "engagement-source"), "live/0/1/0");
    assert_eq!(
        header_text(message, "content-type"),
        "application/x-protobuf"
    );
    assert_eq!(header(message, "traceparent"), None);
    assert_eq!(
        (event.event_id.as_str(), event.enrichment_status),
        ("1", EnrichmentStatus::Ok)
    );
    assert_eq!(event.content_title.as_deref(), Some("Rust in Production"));
    assert_eq!(
        (event.length_seconds, event.ratio_e4()),
        (Some(300), Some(233))
    );
    assert_eq!(
        (event.source.prev, event.source.commit_lsn, event.source.lsn),
        (-1, 101_000, 101_500)
    );
    assert_eq!(event.raw_payload.as_deref(), Some(r#"{"app": "7.2"}"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_the_content_is_seen_by_later_events_and_leaves_earlier_ones() {
    let world = World::new(1).await;
    world.publish_content();
    let enricher = world.start();
    world.produce(&World::inserts(1..=1));
    world.enriched(1).await;

    let old = cdc::content_row(CONTENT, "Rust in Production", Some(300));
    let new = cdc::content_row(CONTENT, "Second Edition", Some(600));
    world.produce_content(&[cdc::content("u", Some(&old), Some(&new), cdc::at(2))]);
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 1;
    // the two topics race by design: later events see the update once it has arrived
    while world
        .enriched(usize::try_from(sent).unwrap())
        .await
        .last()
        .unwrap()
        .length_seconds
        != Some(600)
    {
        assert!(Instant::now() < deadline, "the update is not seen");
        sent += 1;
        world.produce(&World::inserts(sent..=sent));
    }
    enricher.stop().await;
    let events = world.enriched(usize::try_from(sent).unwrap()).await;
    assert_eq!(events[0].length_seconds, Some(300));
    assert_eq!(
        events.last().unwrap().content_title.as_deref(),
        Some("Second Edition")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_its_topic_did_not_bring_is_looked_up_in_postgres() {
    let world = World::new(1).await;
    world
        .insert_content(CONTENT, "Only in Postgres", Some(100))
        .await;
    world.produce(&World::inserts(1..=50));
    let enricher = world.start();
    let events = world.expect_ids(1..=50).await;
    enricher.stop().await;
    assert!(
        events
            .iter()
            .all(|event| event.content_title.as_deref() == Some("Only in Postgres"))
    );
    assert_eq!(events[0].content_slug.as_deref(), Some("Only in Postgres"));
    assert_eq!(
        events[0].publish_ts.unwrap().to_string(),
        "2026-01-01T00:00:00Z"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_says_is_absent_is_missing_at_once_and_no_content_is_no_miss() {
    let world = World::new(1).await;
    let mut config = world.config.clone();
    config.database.content_wait = 2 * PATIENCE;
    let unknown = cdc::event_row(1, Some("00000000-0000-4000-8000-000000000000"));
    let malformed = cdc::event_row(2, Some("not-a-uuid"));
    let none = cdc::event_row(3, None);
    let rows = [unknown, malformed, none];
    let changes: Vec<_> = (1..)
        .zip(&rows)
        .map(|(at, row)| cdc::insert(row, cdc::at(at)))
        .collect();
    world.produce(&changes);
    let enricher = world.start_with(config);
    // it gives up long before a wait for Postgres would
    let events = world.expect_ids(1..=3).await;
    enricher.stop().await;
    let statuses: Vec<_> = events.iter().map(|event| event.enrichment_status).collect();
    assert_eq!(
        statuses,
        [
            EnrichmentStatus::Missing,
            EnrichmentStatus::Missing,
            EnrichmentStatus::NoContent
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.length_seconds.is_none() && event.ratio_e4().is_none())
    );
    assert_eq!(events[2].content_id, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_cannot_be_asked_a_partition_waits_its_budget_once_and_keeps_the_order() {
    let world = World::new(1).await;
    let mut config = world.config.clone();
    config.database.url = Some("postgres://engage:engage@127.0.0.1:1/engage".into());
    config.database.content_wait = Duration::from_secs(1);
    world.produce(&World::inserts(1..=1));
    let enricher = world.start_with(config);
    let first = world.expect_ids(1..=1).await;
    let other = cdc::event_row(2, Some("00000000-0000-4000-8000-000000000000"));
    let started = Instant::now();
    world.produce(&[cdc::insert(&other, cdc::at(200))]);
    world.produce(&World::inserts(300..=400));
    let events = world.expect_ids([1, 2].into_iter().chain(300..=400)).await;
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "not once for each of the 102 events: {:?}",
        started.elapsed()
    );
    enricher.stop().await;
    assert_eq!(first[0].enrichment_status, EnrichmentStatus::Missing);
    assert!(
        events
            .iter()
            .all(|event| event.enrichment_status == EnrichmentStatus::Missing)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_arrives_while_its_event_waits_is_used() {
    let world = World::new(1).await;
    let mut config = world.config.clone();
    config.database.url = None;
    config.database.content_wait = PATIENCE;
    let enricher = world.start_with(config);
    enricher.until_ready().await;
    world.produce(&World::inserts(1..=2));
    world.publish_content();
    let events = world.expect_ids(1..=2).await;
    enricher.stop().await;
    assert!(
        events
            .iter()
            .all(|event| event.enrichment_status == EnrichmentStatus::Ok)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_rows_updates_deletes_and_moves_carry_what_they_replace() {
    let world = World::new(1).await;
    world.publish_content();
    let (first, mut second) = (
        cdc::event_row(1, Some(CONTENT)),
        cdc::event_row(1, Some(CONTENT)),
    );
    second["duration_ms"] = json!(9000);
    // a value stored out of line that did not change comes as a placeholder
    second["raw_payload"] = json!("__debezium_unavailable_value");
    world.produce(&[
        cdc::event("r", None, Some(&first), cdc::at(1)),
        cdc::event("u", Some(&first), Some(&second), cdc::at(2)),
        cdc::event("d", Some(&second), None, cdc::at(3)),
        cdc::Change {
            key: Some(format!(r#"{{"content_id":"{CONTENT}"}}"#).into_bytes()),
            value: None,
        },
        cdc::insert(&cdc::event_row(2, Some(CONTENT)), cdc::at(4)),
    ]);
    let enricher = world.start();
    let events = world.expect_ids([1, 1, 1, 2]).await;
    enricher.stop().await;
    let [read, updated, deleted, last] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (read.origin, read.source.lsn, read.revision),
        (Origin::Snapshot, 0, 1500)
    );
    assert_eq!(
        (
            updated.duration_ms,
            updated.previous.as_ref().unwrap().duration_ms
        ),
        (Some(9000), Some(7000))
    );
    assert_eq!(updated.raw_payload.as_deref(), Some(r#"{"app": "7.2"}"#));
    assert!(deleted.deleted && deleted.previous.as_ref().unwrap().duration_ms == Some(9000));
    assert_eq!(
        (last.source.offset, last.source.prev),
        (4, 2),
        "the tombstone is no link"
    );
    assert!(updated.revision < deleted.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_all_bigint_schema_needs_nothing_but_configuration() {
    let world = World::new(1).await;
    let ddl = format!(
        "CREATE TABLE {}_big (content_id bigint PRIMARY KEY, content_type text, length_seconds integer)",
        world.table
    );
    sqlx::query(sqlx::AssertSqlSafe(ddl))
        .execute(&world.pool)
        .await
        .unwrap();
    let sql = format!("INSERT INTO {}_big VALUES (8, 'video', 50)", world.table);
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&world.pool)
        .await
        .unwrap();
    let mut config = world.config.clone();
    config.schema.event_key = "event_id".into();
    config.schema.content_id = "content_id".into();
    config.database.content_table = format!("public.{}_big", world.table);
    config.output.format = enricher::config::OutputFormat::Json;
    let row = |id: i64, content: i64| {
        json!({
            "event_id": id, "content_id": content, "user_id": 5, "event_type": "play", "event_ts": "2026-01-08T14:21:52Z",
            "duration_ms": 7000, "device": null, "raw_payload": null
        })
    };
    let content = json!({"content_id": 7, "content_type": "video", "length_seconds": 300});
    let mut published = cdc::content("c", None, Some(&content), cdc::at(1));
    published.key = Some(br#"{"content_id":7}"#.to_vec());
    world.produce_content(&[published]);
    world.produce(&[
        cdc::insert(&row(1, 7), cdc::at(1)),
        cdc::insert(&row(2, 8), cdc::at(2)),
    ]);
    let enricher = world.start_with(config);
    let events = world.expect_ids(1..=2).await;
    enricher.stop().await;
    assert_eq!(
        (
            events[0].content_id.as_deref(),
            events[0].user_id.as_deref()
        ),
        (Some("7"), Some("5"))
    );
    assert_eq!(
        (events[0].length_seconds, events[1].length_seconds),
        (Some(300), Some(50))
    );
}
