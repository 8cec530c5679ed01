//! The script and the writer, without Kafka: batches of random sizes, time that moves, doubt, foreign keys.

use std::sync::Arc;
use std::time::Duration;

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use redis_aggregator::batch::{Batch, Wanted};
use redis_aggregator::config::Config;
use redis_aggregator::error::StoreError;
use redis_aggregator::history::Verdict;
use redis_aggregator::position::Applied;
use redis_aggregator::store::Store;
use redis_aggregator::window::bucket_of;
use redis_aggregator::write::{Change, Writer, Written};
use tokio_util::sync::CancellationToken;

use crate::support::*;

pub(crate) const NOW: Micros = Micros(1_800_000_000_000_000);

pub(crate) async fn writer(config: &Config) -> Writer {
    let store = Store::new(
        config.clone(),
        service::Health::default().condition("redis"),
    )
    .unwrap();
    if store.read(0).await.unwrap().is_none() {
        store
            .initialise(0, Applied::nothing_before(0), 0)
            .await
            .unwrap();
    }
    again(&store).await
}

async fn again(store: &Arc<Store>) -> Writer {
    let state = store.read(0).await.unwrap().unwrap();
    Writer::new(Arc::clone(store), 0, state, CancellationToken::new())
}

fn wanted(config: &Config) -> Wanted {
    Wanted {
        bucket_us: config.window.bucket_us(),
        last: true,
        recent: 100,
        users: true,
        minutes: true,
    }
}

/// The change that these events make after what the writer has applied.
pub(crate) fn change(
    config: &Config,
    writer: &Writer,
    events: &[EnrichedEvent],
    now: Micros,
) -> Change {
    let mut batch = Batch::new(wanted(config));
    let mut history = writer.state().history;
    let mut applied = writer.state().applied;
    for event in events {
        let (verdict, next) = history.judge(event);
        assert_eq!(verdict, Verdict::Count, "these tests make batches by hand");
        history = next;
        batch.add(event, event.source.offset);
        let source = Some(event.source.position());
        applied = Applied {
            source,
            before: source,
            enriched: event.source.offset,
        };
    }
    let newest_commit = events.iter().map(|event| event.source.committed_at).max();
    Change {
        applied,
        history,
        newest_commit,
        watermark: bucket_of(now, config.window.bucket_us()),
        payload: batch.encode(),
    }
}

#[tokio::test]
async fn random_batches_and_passing_time_give_what_a_recomputation_gives() {
    let url = &stack().redis().url;
    let mut connection = connect(url).await;
    for seed in 0..4 {
        let config = config(&unique("random"), url);
        let mut writer = writer(&config).await;
        let (log, mut random, mut done, mut now) =
            (random_log(seed, 0, 1200, NOW), Random(seed + 99), 0, NOW.0);
        while done < log.len() {
            let size = 1 + usize::try_from(random.below(80)).unwrap();
            let until = (done + size).min(log.len());
            now += i64::try_from(random.below(15_000_000)).unwrap();
            if random.below(12) == 0 {
                now += 200_000_000;
            }
            let batch = change(&config, &writer, &log[done..until], Micros(now));
            assert_eq!(writer.apply(&batch).await.unwrap(), Written::Done);
            let tick = change(
                &config,
                &writer,
                &[],
                Micros(now + i64::try_from(random.below(30_000_000)).unwrap()),
            );
            writer.apply(&tick).await.unwrap();
            done = until;
            compare(&config, &mut connection, &[log[..done].to_vec()])
                .await
                .unwrap_or_else(|d| panic!("seed {seed}, {done}: {d}"));
        }
        let late = change(&config, &writer, &[], Micros(now + 3_600_000_000));
        writer.apply(&late).await.unwrap();
        assert!(
            stored(&config, &mut connection, &[0])
                .await
                .window
                .is_empty(),
            "an hour later nothing is in the window"
        );
        compare(&config, &mut connection, &[log]).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_change_twice_counts_once_and_one_from_elsewhere_is_refused() {
    let url = &stack().redis().url;
    let config = config(&unique("twice"), url);
    let mut connection = connect(url).await;
    let log = random_log(7, 0, 60, NOW);
    let (mut first, mut second) = (writer(&config).await, writer(&config).await);
    let batch = change(&config, &first, &log[..40], NOW);
    first.apply(&batch).await.unwrap();
    assert_eq!(
        second.apply(&batch).await.unwrap(),
        Written::Done,
        "the same change was applied already"
    );
    first
        .apply(&change(&config, &first, &log[40..50], NOW))
        .await
        .unwrap();
    let ahead = change(&config, &second, &log[40..60], NOW);
    assert!(matches!(
        second.apply(&ahead).await,
        Err(StoreError::Moved { .. })
    ));
    compare(&config, &mut connection, &[log[..50].to_vec()])
        .await
        .unwrap();
}

#[tokio::test]
async fn an_answer_that_never_came_is_settled_by_asking_again() {
    let own = devstack::Stack::builder()
        .redis()
        .private()
        .start()
        .await
        .unwrap();
    let url = &own.redis().url;
    let mut config = config(&unique("timeout"), url);
    config.redis.response_timeout = Duration::from_millis(150);
    let mut connection = connect(url).await;
    let log = random_log(8, 0, 30, NOW);
    let mut writer = writer(&config).await;
    writer
        .apply(&change(&config, &writer, &log[..10], NOW))
        .await
        .unwrap();
    // answers are held back for longer than the timeout; what was sent runs afterwards
    let _: () = query(&mut connection, &["CLIENT", "PAUSE", "700", "WRITE"]).await;
    let batch = change(&config, &writer, &log[10..], NOW);
    assert_eq!(writer.apply(&batch).await.unwrap(), Written::Done);
    compare(&config, &mut connection, &[log]).await.unwrap();
    own.shutdown().await;
}

#[tokio::test]
async fn other_windows_in_the_configuration_are_built_from_the_buckets() {
    let url = &stack().redis().url;
    let name = unique("windows");
    let mut short = config(&name, url);
    let mut connection = connect(url).await;
    let log = random_log(9, 0, 400, NOW);
    let mut first = writer(&short).await;
    first
        .apply(&change(&short, &first, &log[..200], NOW))
        .await
        .unwrap();
    short
        .leaderboards
        .0
        .iter_mut()
        .for_each(|board| board.window = Duration::from_secs(120));
    let mut second = writer(&short).await;
    second
        .apply(&change(
            &short,
            &second,
            &log[200..],
            Micros(NOW.0 + 20_000_000),
        ))
        .await
        .unwrap();
    compare(&short, &mut connection, &[log]).await.unwrap();
    let old: i64 = query(
        &mut connection,
        &[
            "EXISTS",
            &format!("{name}:{{0}}:w:60"),
            &format!("{name}:{{0}}:w:60:events"),
        ],
    )
    .await;
    assert_eq!(old, 0, "the windows of the old configuration are gone");
}

#[tokio::test]
async fn a_reader_key_of_another_type_is_replaced_and_a_state_key_stops() {
    let url = &stack().redis().url;
    let config = config(&unique("types"), url);
    let mut connection = connect(url).await;
    let event = Sample::new().content_id("x").at_position(0, 0).build();
    let mut writer = writer(&config).await;
    for key in [
        &config.keys.content_count,
        &config.keys.content_stats,
        &config.keys.content_users,
        &config.keys.recent_events.key(),
    ] {
        let _: () = query(&mut connection, &["RPUSH", &key.of("x"), "someone else's"]).await;
    }
    writer
        .apply(&change(&config, &writer, std::slice::from_ref(&event), NOW))
        .await
        .unwrap();
    let count: i64 = query(
        &mut connection,
        &["GET", &config.keys.content_count.of("x")],
    )
    .await;
    let recent: i64 = query(
        &mut connection,
        &["XLEN", &config.keys.recent_events.key().of("x")],
    )
    .await;
    let users: String = query(
        &mut connection,
        &["HGET", &config.keys.content_stats.of("x"), "unique_users"],
    )
    .await;
    assert_eq!((count, recent, users.as_str()), (1, 1, "1"));

    let totals = format!("{}{{0}}:t", config.redis.prefix);
    let _: () = query(&mut connection, &["SET", &totals, "not ours"]).await;
    let next = Sample::new().content_id("x").at_position(0, 1).build();
    let position: String = query(
        &mut connection,
        &["HGET", &format!("{}{{0}}:pos", config.redis.prefix), "at"],
    )
    .await;
    let error = writer
        .apply(&change(&config, &writer, &[next], NOW))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.remedy().contains("count anew"));
    let after: String = query(
        &mut connection,
        &["HGET", &format!("{}{{0}}:pos", config.redis.prefix), "at"],
    )
    .await;
    assert_eq!(position, after, "nothing was written");
}

#[tokio::test]
async fn the_last_event_follows_time_updates_and_deletions() {
    let url = &stack().redis().url;
    let config = config(&unique("last"), url);
    let mut connection = connect(url).await;
    let mut writer = writer(&config).await;
    let at = |id: i64, offset: i64, ago: i64| {
        let mut event = Sample::new()
            .event_id(id)
            .content_id("x")
            .at_position(0, offset)
            .build();
        (event.event_ts, event.source.committed_at) = (Micros(NOW.0 - ago * 1_000_000), NOW);
        event
    };
    let newest = at(2, 1, 10);
    let mut gone = newest.clone();
    gone.source = at(2, 3, 10).source;
    gone.deleted = true;
    gone.previous = Sample::new().replacing(&newest).build().previous;
    for (event, shown) in [
        (at(1, 0, 20), Some(1)),
        (newest, Some(2)),
        (at(3, 2, 30), Some(2)),
        (gone, None),
        (at(4, 4, 60), Some(4)),
    ] {
        writer
            .apply(&change(&config, &writer, &[event], NOW))
            .await
            .unwrap();
        let json: Option<String> =
            query(&mut connection, &["GET", &config.keys.content_last.of("x")]).await;
        let id = json.map(|json| {
            serde_json::from_str::<serde_json::Value>(&json).unwrap()["event_id"]
                .as_i64()
                .unwrap()
        });
        assert_eq!(id, shown);
    }
    let ttl: i64 = query(&mut connection, &["TTL", &config.keys.content_last.of("x")]).await;
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    let ttl: i64 = query(
        &mut connection,
        &["TTL", &config.keys.content_count.of("x")],
    )
    .await;
    assert_eq!(ttl, -1, "counts have no TTL");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initialisation_that_comes_late_leaves_the_position_that_is_there() {
    let config = config(&unique("late-begin"), &stack().redis().url);
    let mut writer = writer(&config).await;
    let events: Vec<EnrichedEvent> = random_log(5, 0, 20, NOW);
    let change = change(&config, &writer, &events, NOW);
    writer.apply(&change).await.unwrap();
    let health = service::Health::default().condition("redis");
    let store = Store::new(config, health).unwrap();
    let before = store.read(0).await.unwrap();
    let made = store.initialise(0, Applied::nothing_before(0), 0).await;
    assert!(!made.unwrap(), "it says that it made nothing");
    assert_eq!(store.read(0).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_error_of_a_connection_that_was_given_up_says_nothing_of_the_one_in_use() {
    let config = config(&unique("late-error"), &stack().redis().url);
    let health = service::Health::default();
    let store = Store::new(config, health.condition("redis")).unwrap();
    let broken = || redis::RedisError::from((redis::ErrorKind::Io, "broken"));
    let old = store.lease().await.unwrap();
    store.failed(&old, broken()).await;
    assert!(!health.ready().ok, "nothing is in use");
    let new = store.lease().await.unwrap();
    assert!(health.ready().ok);
    store.failed(&old, broken()).await;
    assert!(health.ready().ok, "the new connection has not failed");
    store.failed(&new, broken()).await;
    assert!(!health.ready().ok);
}
