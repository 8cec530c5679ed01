//! Postgres against the enriched topic.

use engagement::event::Origin;
use verify::{Kind, Sink};

use crate::stores;
use crate::world::{TEXTS, UUIDS, World, names};

#[tokio::test]
async fn a_topic_that_mirrors_the_table_is_equal_and_repeats_are_only_told() {
    let world = World::new("mirror", &TEXTS).await;
    world.append(&world.events[30..]).await;
    let found = world.found(Sink::Enriched).await;
    assert!(found.is_equal(), "{found}");
    assert_eq!(found.compared, 40);
    assert!(
        found.notes[0].starts_with("10 records at or below"),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn updates_moves_and_deletions_end_in_the_state_of_the_table() {
    let mut world = World::new("changes", &UUIDS).await;
    let old = world.events[6].clone();
    let mut changed = old.clone();
    changed.duration_ms = Some(9);
    changed.previous = previous(&old);
    world.place(&mut changed);
    let mut gone = world.events[7].clone();
    gone.deleted = true;
    gone.previous = previous(&gone.clone());
    world.place(&mut gone);
    world.append(&[changed, gone]).await;
    assert_eq!(names(&world.found(Sink::Enriched).await).len(), 2);
    world
        .postgres(
            "UPDATE {table} SET duration_ms = 9 WHERE id = 6; DELETE FROM {table} WHERE id = 7",
        )
        .await;
    let found = world.found(Sink::Enriched).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
}

fn previous(old: &engagement::event::EnrichedEvent) -> Option<engagement::event::Previous> {
    Some(engagement::event::Previous {
        event_id: old.event_id.clone(),
        event_ts: old.event_ts,
        content_id: old.content_id.clone(),
        event_type: old.event_type.clone(),
        duration_ms: old.duration_ms,
    })
}

#[tokio::test]
async fn a_row_that_never_came_is_missing_and_one_that_was_rolled_back_is_surplus() {
    let world = World::new("lost", &UUIDS).await;
    world
        .postgres("DELETE FROM {table} WHERE id = 3; INSERT INTO {table} VALUES (555, NULL, 'play', now(), 1)")
        .await;
    let found = world.found(Sink::Enriched).await;
    let names = names(&found);
    assert!(names.contains(&(Kind::Surplus, "3".into())), "{names:?}");
    assert!(names.contains(&(Kind::Missing, "555".into())), "{names:?}");
    assert_eq!((found.missing, found.surplus), (1, 1));
}

#[tokio::test]
async fn an_event_in_the_dead_letters_is_told_and_not_missing() {
    let world = World::new("letters", &UUIDS).await;
    world
        .postgres("INSERT INTO {table} VALUES (556, NULL, 'play', 'infinity', 1)")
        .await;
    assert!(!world.found(Sink::Enriched).await.is_equal());
    let letter = br#"{"op":"c","after":{"id":556,"event_ts":"infinity"}}"#;
    let kafka = &world.sources.kafka;
    let topic = format!("{}enricher", kafka.dead_letter_prefix);
    stores::produce(&kafka.settings.bootstrap_servers, &topic, 0, letter, &[]).await;
    let report = world.compare(Sink::Enriched).await;
    assert!(report.is_equal(), "{report}");
    assert_eq!(report.dead_letters.events, ["556"]);
    assert_eq!(report.dead_letters.topics, [(topic, 1)]);
}

#[tokio::test]
async fn a_hole_and_a_record_that_is_none_are_violations_by_place() {
    let mut world = World::new("hole", &UUIDS).await;
    let mut lost = world.events[2].clone();
    world.place(&mut lost);
    let mut next = world.events[2].clone();
    next.event_id = "900".into();
    world.place(&mut next);
    world.append(&[next]).await;
    let kafka = &world.sources.kafka;
    stores::produce(
        &kafka.settings.bootstrap_servers,
        &kafka.enriched_topic,
        0,
        b"\xff",
        &[],
    )
    .await;
    let found = world.found(Sink::Enriched).await;
    assert_eq!(found.violations, 2, "{found}");
    let holes = found
        .differences
        .iter()
        .filter(|d| d.what.contains("records are missing"));
    assert_eq!(holes.count(), 1);
    assert!(names(&found).contains(&(Kind::Surplus, "900".into())));
}

#[tokio::test]
async fn rows_that_a_later_snapshot_repeats_count_once_and_those_it_alone_brings_count_too() {
    let mut world = World::new("again", &UUIDS).await;
    world
        .postgres("INSERT INTO {table} VALUES (700, NULL, 'play', '2026-01-08T14:21:52Z', 7000)")
        .await;
    let mut rows: Vec<_> = world.events[..5].to_vec();
    let mut new = rows[0].clone();
    (new.event_id, new.content_id, new.duration_ms) = ("700".into(), None, Some(7000));
    new.event_type = "play".into();
    rows.push(new);
    for row in &mut rows {
        row.origin = Origin::Snapshot;
        world.place(row);
        row.revision = 5000;
    }
    world.append(&rows).await;
    let found = world.found(Sink::Enriched).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.starts_with("6 rows that may repeat")),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn a_record_that_is_none_is_explained_by_a_dead_letter_of_a_sink() {
    let world = World::new("given_up", &UUIDS).await;
    let kafka = &world.sources.kafka;
    let bootstrap = &kafka.settings.bootstrap_servers;
    stores::produce(bootstrap, &kafka.enriched_topic, 1, b"{", &[]).await;
    assert_eq!(world.found(Sink::Enriched).await.violations, 1);
    let in_partition = world
        .events
        .iter()
        .filter(|event| event.source.partition == 1);
    let offset = in_partition.count().to_string();
    let topic = format!("{}webhook-forwarder", kafka.dead_letter_prefix);
    let headers = [("__connect.errors.offset", offset.as_str())];
    stores::produce(bootstrap, &topic, 1, b"{", &headers).await;
    let found = world.found(Sink::Enriched).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert!(
        found.notes[0].starts_with("1 records that are no enriched event"),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn a_topic_that_lost_its_beginning_is_compared_from_the_first_whole_minute_it_covers() {
    let mut world = World::new("retention", &UUIDS).await;
    let forgotten = world.ends();
    let mut fresh = Vec::new();
    for (n, minutes) in [(1000, 10), (1001, 10), (1002, 12), (1003, 13)] {
        let mut event = world.events[1 + n % 2].clone();
        event.event_id = n.to_string();
        event.event_ts.0 += minutes * 60_000_000;
        event.source.committed_at.0 += minutes * 60_000_000;
        world.place(&mut event);
        fresh.push(event);
    }
    world.insert(&fresh).await;
    world.append(&fresh).await;
    let kafka = &world.sources.kafka;
    stores::forget(
        &kafka.settings.bootstrap_servers,
        &kafka.enriched_topic,
        &forgotten,
    )
    .await;
    let found = world.found(Sink::Enriched).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!(found.compared, 2, "{found}");
    assert!(
        found.notes[0].contains("from 2026-01-08T14:3"),
        "{:?}",
        found.notes
    );
    world
        .postgres("DELETE FROM {table} WHERE id IN (1000, 1003)")
        .await;
    assert_eq!(
        names(&world.found(Sink::Enriched).await),
        [(Kind::Surplus, "1003".into())]
    );
}
