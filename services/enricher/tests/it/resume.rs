//! Where the enricher continues: the tail of its own output decides, and the change topic must agree.

use engagement::event::EnrichedEvent;
use stream::lineage::Checkpoint;

use crate::cdc;
use crate::world::{CONTENT, World, text};

async fn run_until(world: &World, ids: std::ops::RangeInclusive<i64>) -> Vec<EnrichedEvent> {
    let enricher = world.start();
    let events = world.expect_ids(ids).await;
    enricher.stop().await;
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_continues_at_the_tail_whatever_happened_to_the_groups_offsets() {
    let world = World::new(1).await;
    world.publish_content();
    let (group, topic) = (
        world.config.input.group_id.clone(),
        world.config.input.cdc_topic.clone(),
    );
    world.produce(&World::inserts(1..=100));
    run_until(&world, 1..=100).await;
    let checkpoint: Checkpoint = world.until_committed(100).await.parse().unwrap();
    assert_eq!(
        checkpoint.position.map(|position| position.offset),
        Some(99)
    );
    assert!(
        checkpoint
            .database
            .is_some_and(|database| database.system > 0)
    );

    world.produce(&World::inserts(101..=120));
    world.broker.rewind(&group, &topic, 0, 7);
    run_until(&world, 1..=120).await;
    world.until_committed(120).await;

    world.produce(&World::inserts(121..=140));
    world.broker.delete_group(&group).await;
    run_until(&world, 1..=140).await;
    world.until_committed(140).await;

    world.broker.rewind(&group, &topic, 0, 140);
    world.produce(&World::inserts(141..=150));
    world.broker.rewind(&group, &topic, 0, 150);
    run_until(&world, 1..=150).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_debezium_sends_again_is_dropped_also_across_a_restart() {
    let world = World::new(1).await;
    world.publish_content();
    // rows of one COPY share their LSNs
    let copy: Vec<_> = (20..=30)
        .map(|id| cdc::insert(&cdc::event_row(id, Some(CONTENT)), cdc::at(500)))
        .collect();
    world.produce(&World::inserts(1..=19));
    world.produce(&copy[..6]);
    run_until(&world, 1..=25).await;

    world.produce(&World::inserts(10..=19));
    world.produce(&copy[..8]);
    run_until(&world, 1..=27).await;

    world.produce(&World::inserts(1..=19));
    world.produce(&copy);
    run_until(&world, 1..=30).await;
    assert_eq!(world.broker.end(&world.config.output.topic, 0), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_change_topic_stops_the_lane_and_a_new_epoch_adopts_it() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    run_until(&world, 1..=10).await;
    let topic = &world.config.input.cdc_topic;
    world.broker.delete(topic).await;
    world.broker.create(topic, 1, false).await;

    world.produce(&World::inserts(31..=35));
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("lineage adopt"),
        "{}",
        text(&failure)
    );

    // grown past the old end: only the proof tells
    world.produce(&World::inserts(36..=50));
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(text(&failure).contains("event 10"), "{}", text(&failure));

    let mut config = world.config.clone();
    config.lineage.epoch = Some(1);
    let enricher = world.start_with(config.clone());
    let events = world.enriched(30).await;
    enricher.stop().await;
    let adopted: Vec<_> = events[10..]
        .iter()
        .map(|event| (event.source.epoch, event.source.offset, event.source.prev))
        .collect();
    assert_eq!(adopted[..2], [(1, 0, -1), (1, 1, 0)]);
    assert_eq!(events[10].revision >> 56, 1);

    // once adopted, it goes on with or without the setting, and never back
    world.produce(&World::inserts(51..=52));
    let enricher = world.start();
    assert_eq!(
        world.enriched(32).await[31].source.position().to_string(),
        "live/1/0/21"
    );
    enricher.stop().await;
    config.lineage.epoch = Some(0);
    let failure = world.start_with(config).failure().await;
    assert!(
        text(&failure).contains("epoch 1 is written already"),
        "{}",
        text(&failure)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_emptied_by_retention_continues_with_the_position_of_the_commit() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    run_until(&world, 1..=10).await;
    world.until_committed(10).await;
    world.broker.expire(&world.config.output.topic, 0).await;

    world.produce(&World::inserts(5..=13));
    let enricher = world.start();
    // three behind the ten that are gone
    let events = world.enriched(13).await;
    enricher.stop().await;
    let found: Vec<_> = events
        .iter()
        .map(|event| (event.event_id.as_str(), event.source.prev))
        .collect();
    assert_eq!(found, [("11", 9), ("12", 16), ("13", 17)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_record_is_no_gap_but_unread_ones_are() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    run_until(&world, 1..=10).await;
    world.broker.expire(&world.config.input.cdc_topic, 0).await;
    world.produce(&World::inserts(11..=12));
    run_until(&world, 1..=12).await;

    world.produce(&World::inserts(13..=14));
    world.broker.expire(&world.config.input.cdc_topic, 0).await;
    world.produce(&World::inserts(15..=15));
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("removed by retention"),
        "{}",
        text(&failure)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_output_is_refused() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    run_until(&world, 1..=10).await;
    world.until_committed(10).await;
    let topic = &world.config.output.topic;
    world.broker.delete(topic).await;
    world.broker.create(topic, 1, false).await;
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("topic is new"),
        "{}",
        text(&failure)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_contradict_the_mark_stop_the_lane() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    let mut late = cdc::at(5);
    late.committed_ms += 10 * 60 * 1000;
    world.produce(&[cdc::insert(&cdc::event_row(77, Some(CONTENT)), late)]);
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("lineage adopt"),
        "{}",
        text(&failure)
    );
    world.expect_ids(1..=10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_than_the_one_noted_with_the_mark_is_refused() {
    let world = World::new(1).await;
    world.publish_content();
    world.produce(&World::inserts(1..=10));
    run_until(&world, 1..=10).await;
    let mut checkpoint: Checkpoint = world.until_committed(10).await.parse().unwrap();
    let database = checkpoint.database.as_mut().unwrap();
    database.system += 1;
    let (group, topic) = (&world.config.input.group_id, &world.config.input.cdc_topic);
    world
        .broker
        .commit(group, topic, 0, 10, &checkpoint.to_string());
    let failure = world.start().failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        text(&failure).contains("system identifier"),
        "{}",
        text(&failure)
    );
}
