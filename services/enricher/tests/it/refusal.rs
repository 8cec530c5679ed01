//! Bad input: dead letters, stopped lanes, refused starts.

use rdkafka::Message;
use rdkafka::message::ToBytes;
use serde_json::json;

use crate::broker::header_text;
use crate::cdc::{self, Change};
use crate::world::{CONTENT, World, text};

fn poison(bytes: &[u8]) -> Change {
    Change {
        key: Some(format!(r#"{{"content_id":"{CONTENT}"}}"#).into_bytes()),
        value: Some(bytes.to_vec()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_goes_to_the_dead_letters_with_its_bytes_and_the_stream_goes_on_in_order() {
    let world = World::new(1).await;
    world.publish_content();
    let unknown = cdc::event(
        "x",
        None,
        Some(&cdc::event_row(9, Some(CONTENT))),
        cdc::at(9),
    );
    let mut no_key = cdc::event_row(9, Some(CONTENT));
    no_key["id"] = json!(null);
    let no_key = cdc::insert(&no_key, cdc::at(9));
    let bad = [poison(b"{\"op\":"), poison(b"\xff\xfe"), unknown, no_key];
    let mut changes = World::inserts(1..=2);
    for (at, bad) in (3..).zip(&bad) {
        changes.push(bad.clone());
        changes.extend(World::inserts(at..=at));
    }
    world.produce(&changes);
    let enricher = world.start();
    world.expect_ids(1..=6).await;
    let letters = world
        .broker
        .read_at_least(&world.config.output.dead_letter_topic, 0, bad.len())
        .await;
    world
        .until_committed(i64::try_from(changes.len()).unwrap())
        .await;
    enricher.stop().await;

    let bytes: Vec<_> = letters
        .iter()
        .map(|letter| letter.payload().unwrap().to_vec())
        .collect();
    assert_eq!(bytes, bad.clone().map(|change| change.value.unwrap()));
    assert_eq!(letters[0].key(), bad[0].key.as_deref());
    let kinds: Vec<_> = letters
        .iter()
        .map(|letter| header_text(letter, "engage.dlq.error_kind"))
        .collect();
    assert_eq!(
        kinds,
        [
            "malformed_json",
            "malformed_json",
            "unknown_operation",
            "missing_primary_key"
        ]
    );
    assert_eq!(header_text(&letters[0], "__connect.errors.offset"), "2");
    assert_eq!(
        header_text(&letters[0], "__connect.errors.topic"),
        world.config.input.cdc_topic
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_ten_megabytes_is_a_dead_letter_and_the_chain_goes_around_it() {
    let world = World::new(1).await;
    world.publish_content();
    let mut big = cdc::event_row(2, Some(CONTENT));
    big["raw_payload"] = json!("x".repeat(10 << 20));
    let big = cdc::insert(&big, cdc::at(102));
    world.produce(&World::inserts(1..=1));
    world.produce(std::slice::from_ref(&big));
    world.produce(&World::inserts(3..=3));
    let enricher = world.start();
    world.expect_ids([1, 3]).await;
    let letters = world
        .broker
        .read_at_least(&world.config.output.dead_letter_topic, 0, 1)
        .await;
    enricher.stop().await;
    assert_eq!(letters[0].payload().unwrap().to_bytes(), big.value.unwrap());
    assert_eq!(
        header_text(&letters[0], "engage.dlq.error_kind"),
        "too_large"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_of_rubbish_stops_and_says_so() {
    let world = World::new(1).await;
    world.produce(&vec![poison(b"rubbish"); 300]);
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("of the last 100 records were rejected"),
        "{}",
        text(&failure)
    );
    let letters = world
        .broker
        .read(&world.config.output.dead_letter_topic, 0)
        .len();
    assert!(letters < 150, "{letters} dead letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_stops_its_lane_after_what_came_before_and_skip_lets_it_go_on() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=5));
    world.produce(&[cdc::truncate(cdc::at(106))]);
    world.produce(&World::inserts(7..=9));
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("truncated") && text(&failure).contains("lineage.skip"),
        "{}",
        text(&failure)
    );
    world.expect_ids(1..=5).await;
    world.until_committed(5).await;

    let mut config = world.config.clone();
    config.lineage.skip = vec!["0/5".into()];
    let enricher = world.start_with(config);
    world.expect_ids((1..=5).chain(7..=9)).await;
    enricher.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_lane_does_not_stop_the_others() {
    let world = World::new(2).await;
    world.publish_content();
    world.produce(&[cdc::truncate(cdc::at(1))]);
    let enricher = world.start();
    let topic = &world.config.output.topic;
    world
        .broker
        .produce(&world.config.input.cdc_topic, 1, &World::inserts(1..=3));
    world.broker.read_at_least(topic, 1, 3).await;
    world
        .broker
        .produce(&world.config.input.cdc_topic, 1, &World::inserts(4..=6));
    world.broker.read_at_least(topic, 1, 6).await;
    enricher.stop().await;
    assert_eq!(world.broker.end(topic, 0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_carry_the_content_stops_and_names_the_setting() {
    let world = World::new(1).await;
    let mut change = World::inserts(1..=1).remove(0);
    change.key = Some(br#"{"id":1}"#.to_vec());
    world.produce(&[change]);
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("message.key.columns"),
        "{}",
        text(&failure)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_topics_and_differing_partition_counts_are_refused_by_name() {
    let world = World::new(2).await;
    let mut config = world.config.clone();
    config.output.topic = format!("{}.nowhere", config.output.topic);
    let failure = world.start_with(config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("enriched.nowhere") && text(&failure).contains("engagectl init"),
        "{}",
        text(&failure)
    );

    let mut config = world.config.clone();
    config.output.topic = format!("{}.narrow", config.output.topic);
    world.broker.create(&config.output.topic, 1, false).await;
    let failure = world.start_with(config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("has 1 partitions") && text(&failure).contains("has 2"),
        "{}",
        text(&failure)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_finds_all_problems_at_once() {
    use service::App;
    let world = World::new(1).await;
    assert!(
        enricher::Enricher::check(&world.config)
            .await
            .iter()
            .all(service::Finding::is_ok)
    );
    let mut config = world.config.clone();
    config.output.topic = "nowhere-1".into();
    config.input.content_topic = "nowhere-2".into();
    config.database.content_table = "public.nowhere_3".into();
    let findings = enricher::Enricher::check(&config).await;
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| !finding.is_ok())
        .map(|finding| finding.what.as_str())
        .collect();
    assert_eq!(bad, ["topic nowhere-2", "topic nowhere-1", "postgres"]);
}
