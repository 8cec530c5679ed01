//! The enriched topic against the deliveries of a receiver.

use verify::delivery::key_of;
use verify::{Kind, Sink};

use crate::receiver::{commit, delivered, message};
use crate::stores;
use crate::world::names;

#[tokio::test]
async fn messages_as_the_forwarder_makes_them_are_equal() {
    let (world, _) = delivered("webhook_equal").await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.behind), (40, 0));
}

#[tokio::test]
async fn a_delivery_that_was_dropped_is_missing_and_one_of_nothing_is_surplus() {
    let (world, got) = delivered("webhook_dropped").await;
    let lost = message(&world.events[11]);
    got.messages.lock().unwrap().remove(&key_of(&lost.id));
    got.messages.lock().unwrap().insert(77, 1);
    let found = world.found(Sink::Webhook).await;
    let expected = [
        (Kind::Missing, lost.id),
        (Kind::Surplus, "msg_000000000000004d..".into()),
    ];
    assert_eq!(names(&found), expected);
    assert!(found.differences[0].what.contains("created of event 11"));
}

#[tokio::test]
async fn another_body_is_named_whether_it_came_first_or_again() {
    let (world, got) = delivered("webhook_body").await;
    let other = message(&world.events[5]);
    got.messages.lock().unwrap().insert(key_of(&other.id), 1);
    got.changed.lock().unwrap().push("msg_again".into());
    let found = world.found(Sink::Webhook).await;
    assert_eq!((found.changed, found.violations), (1, 1));
    assert_eq!(
        names(&found),
        [
            (Kind::Changed, other.id),
            (Kind::Violation, "msg_again".into())
        ]
    );
}

#[tokio::test]
async fn what_the_group_has_not_done_may_be_there_or_not() {
    let (world, got) = delivered("webhook_pending").await;
    commit(&world, &world.events[..30]);
    let last = message(&world.events[39]);
    got.messages.lock().unwrap().remove(&key_of(&last.id));
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
    assert_eq!((found.compared, found.behind), (30, 10));
}

#[tokio::test]
async fn what_the_forwarder_gave_up_is_not_missing() {
    let (world, got) = delivered("webhook_letter").await;
    let event = &world.events[20];
    got.messages
        .lock()
        .unwrap()
        .remove(&key_of(&message(event).id));
    let kafka = &world.sources.kafka;
    let topic = format!("{}webhook-forwarder", kafka.dead_letter_prefix);
    let offset = event.source.offset.to_string();
    let headers = [("__connect.errors.offset", offset.as_str())];
    stores::produce(
        &kafka.settings.bootstrap_servers,
        &topic,
        event.source.partition,
        b"",
        &headers,
    )
    .await;
    let found = world.found(Sink::Webhook).await;
    assert!(found.is_equal(), "{found} {:?}", found.differences);
}
