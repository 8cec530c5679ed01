//! Records that no enricher can understand: kept with their bytes, and the stream goes on.

use std::time::Duration;

use e2e::{Content, Event, World};
use engagectl::generator::{Changes, Mix, Options, Progress};
use stream::KafkaSettings;
use stream::dead_letter::ERROR_KIND;
use stream::headers::last_text;
use stream::scan::Scanner;
use tokio_util::sync::CancellationToken;

const LETTERS: &str = "engagement.dlq.enricher";

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

    let letter = world.dead_letter(LETTERS, poison.as_bytes()).await;
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

#[tokio::test]
async fn rows_of_the_generator_with_absurd_times_are_dead_lettered_and_every_sink_stays_exact() {
    let world = World::shared().await;
    let progress = Progress::default();
    let options = Options {
        burst: 400,
        duration: Some(Duration::ZERO),
        seed: 31,
        contents: 20,
        mix: Mix {
            poison_ratio: 0.05,
            disorder_ratio: 0.1,
            ..Mix::default()
        },
        changes: Changes {
            update_ratio: 0.05,
            delete_ratio: 0.02,
            content_churn: 0.02,
        },
        ..Options::default()
    };
    let url = world.addresses().postgres_url.clone();
    let written =
        engagectl::generator::run(url, options, progress.clone(), CancellationToken::new());
    written.await.unwrap();
    let poison = progress.counts().poison;
    assert!(poison > 5, "{:?}", progress.counts());
    world
        .eventually("a dead letter for each absurd time", || async {
            (absurd(world).await >= poison).then_some(())
        })
        .await;
    world
        .every_sink_equals_postgres(Duration::from_secs(180))
        .await;
}

/// How many letters say `absurd_timestamp`.
async fn absurd(world: &World) -> u64 {
    let settings = KafkaSettings {
        bootstrap_servers: world.addresses().kafka.clone(),
        ..KafkaSettings::default()
    };
    let read = move || {
        let scanner = Scanner::open(&settings, "reader", LETTERS).unwrap();
        let (mut found, spans) = (0, scanner.spans().unwrap());
        let count = |record: stream::Record| {
            let kind = last_text(&record.headers, ERROR_KIND);
            found += u64::from(kind == Some("absurd_timestamp"));
        };
        scanner.read(&spans, count).unwrap();
        found
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}
