//! The all-BIGINT schema, and every service killed and restarted in the middle of a stream: afterwards each
//! sink holds exactly what Postgres holds.

use std::time::Duration;

use e2e::{Content, Event, World};
use engagectl::generator::{Mix, Options, Progress};
use engagectl::pipeline::SERVICES;
use platform::Schema;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn every_service_restarted_in_the_middle_of_a_stream_leaves_every_sink_exact() {
    let world = World::start(Schema::Bigint).await;
    let content = world
        .insert_content(Content {
            id: "42".into(),
            ..Content::podcast(300)
        })
        .await;
    let id = world.insert_event(Event::play(&content, 7000)).await;
    let row = world.clickhouse_row(&id).await;
    assert_eq!(
        (row["content_id"].as_str(), row["engagement_pct"].as_str()),
        ("42", "0.0233")
    );

    let stop = CancellationToken::new();
    let progress = Progress::default();
    let stream = tokio::spawn(generate(
        world.addresses().postgres_url.clone(),
        progress.clone(),
        stop.clone(),
    ));
    for service in SERVICES {
        world.wait_for_rows(&progress, 200).await;
        world.kill(service);
        world.wait_for_rows(&progress, 200).await;
        world.restart(service);
        world.wait_for_rows(&progress, 200).await;
        world.terminate(service);
        world.restart(service);
    }
    world.wait_for_rows(&progress, 200).await;
    stop.cancel();
    stream.await.unwrap().unwrap();
    world
        .every_sink_equals_postgres(Duration::from_secs(300))
        .await;
}

async fn generate(
    url: String,
    progress: Progress,
    stop: CancellationToken,
) -> Result<(), sqlx::Error> {
    let options = Options {
        rate: "300/s".parse().unwrap(),
        burst: 2000,
        duration: None,
        seed: 11,
        mix: Mix::default(),
        contents: 50,
        schema: Schema::Bigint,
        ..Options::default()
    };
    engagectl::generator::run(url, options, progress, stop).await
}
