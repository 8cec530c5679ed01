//! The enriched topic against Redis, whose state the real aggregator makes.

use std::time::Duration;

use engagement::event::EnrichedEvent;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use redis_aggregator::config::Config;
use redis_aggregator::sums::Sums;
use secrecy::SecretString;
use service::{Context, Health, Lifecycle};
use verify::{Kind, RedisSource, Sink};

use crate::stores;
use crate::world::{UUIDS, World, names, unique};

/// Lets the aggregator take what the topic holds, then ends it: nothing moves while the test changes things.
async fn aggregated(name: &str) -> (World, MultiplexedConnection) {
    let mut world = World::new(name, &UUIDS).await;
    let url = world.stack.redis().url.clone();
    let prefix = unique("prefix");
    let mut config = Config {
        kafka: world.sources.kafka.settings.clone(),
        ..Config::default()
    };
    config.redis.url = SecretString::from(url.as_str());
    config.redis.prefix = format!("{prefix}:");
    config
        .input
        .enriched_topic
        .clone_from(&world.sources.kafka.enriched_topic);
    config.input.dead_letter_topic = format!("{}.dlq.redis", world.name);
    config.input.group_id.clone_from(&prefix);
    config.keys.content_count.key = format!("{prefix}:count:{{id}}");
    for key in [
        &mut config.keys.content_last.key,
        &mut config.keys.content_stats.key,
        &mut config.keys.content_users.key,
    ] {
        *key = format!("{prefix}:{key}");
    }
    config.keys.recent_events.key = format!("{prefix}:recent:{{id}}");
    config.keys.minute_bucket.key = format!("{prefix}:minute:{{id}}");
    let bootstrap = &world.sources.kafka.settings.bootstrap_servers;
    stores::topics(bootstrap, &[&config.input.dead_letter_topic]).await;
    let mut source = RedisSource::new(url.parse().unwrap());
    source.prefix = format!("{prefix}:");
    source.count_key = Some(format!("{prefix}:count:"));
    world.sources.redis = Some(source);
    // Events of now, so that the windows hold something.
    let mut fresh = world.events[1..9].to_vec();
    for (n, event) in fresh.iter_mut().enumerate() {
        event.event_id = format!("{}", 2000 + n);
        event.event_ts = engagement::event::Micros(service::clock::now());
        event.source.committed_at = event.event_ts;
        world.place(event);
    }
    world.append(&fresh).await;
    run_once(&world, &config).await;
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(60)))
        .set_response_timeout(Some(Duration::from_secs(60)));
    let connection = redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap();
    (world, connection)
}

async fn run_once(world: &World, config: &Config) {
    let context = Context {
        lifecycle: Lifecycle::default(),
        health: Health::default(),
    };
    let lifecycle = context.lifecycle.clone();
    let task = tokio::spawn(redis_aggregator::serve(config.clone(), context));
    world.settled(Sink::Redis).await;
    lifecycle.soft().cancel();
    tokio::time::timeout(Duration::from_secs(120), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

/// Partition and id of a content, which the test is about.
fn content(world: &World) -> (i32, String) {
    let event = &world.events[1];
    (event.source.partition, event.content_id.clone().unwrap())
}

#[tokio::test]
async fn what_the_aggregator_made_is_equal_with_its_windows_and_rankings() {
    let (world, _) = aggregated("redis_equal").await;
    let found = world.found(Sink::Redis).await;
    assert!(found.is_equal(), "{found}");
    assert_eq!(
        found.compared,
        32 + 7,
        "events with a content: of the first 40 and of the fresh ones"
    );
    assert!(
        found.equal >= 8,
        "totals and windows of four contents: {found}"
    );
}

#[tokio::test]
async fn a_changed_count_is_named_by_its_key() {
    let (world, mut redis) = aggregated("redis_count").await;
    let (_, id) = content(&world);
    let key = format!(
        "{}{id}",
        world
            .sources
            .redis
            .as_ref()
            .unwrap()
            .count_key
            .as_ref()
            .unwrap()
    );
    let _: i64 = cmd("INCR").arg(&key).query_async(&mut redis).await.unwrap();
    let found = world.found(Sink::Redis).await;
    assert_eq!(names(&found), [(Kind::Changed, key)]);
}

#[tokio::test]
async fn totals_that_were_lost_changed_or_invented_are_named() {
    let (world, mut redis) = aggregated("redis_totals").await;
    let (partition, id) = content(&world);
    let prefix = &world.sources.redis.as_ref().unwrap().prefix;
    let key = format!("{prefix}{{{partition}}}:t");
    let _: i64 = cmd("HDEL")
        .arg(&key)
        .arg(&id)
        .query_async(&mut redis)
        .await
        .unwrap();
    let invent = "return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(3, 5, 1, 1, 1, 1, 0))";
    let _: i64 = redis::Script::new(invent)
        .key(&key)
        .arg("invented")
        .invoke_async(&mut redis)
        .await
        .unwrap();
    let found = world.found(Sink::Redis).await;
    let names = names(&found);
    assert!(
        names.contains(&(Kind::Missing, format!("content {id}"))),
        "{names:?}"
    );
    assert!(
        names.contains(&(Kind::Surplus, "content invented".into())),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_window_and_a_ranking_that_differ_are_named() {
    let (world, mut redis) = aggregated("redis_window").await;
    let (partition, id) = content(&world);
    let prefix = &world.sources.redis.as_ref().unwrap().prefix;
    let window = format!("{prefix}{{{partition}}}:w:60");
    let change = "local v = { cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1])) } v[2] = v[2] + 1 \
                  return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(unpack(v)))";
    let _: i64 = redis::Script::new(change)
        .key(&window)
        .arg(&id)
        .invoke_async(&mut redis)
        .await
        .unwrap();
    let found = world.found(Sink::Redis).await;
    let whats: Vec<&str> = found.differences.iter().map(|d| d.what.as_str()).collect();
    assert!(
        whats
            .iter()
            .any(|what| what.starts_with("window of 60 buckets")),
        "{whats:?}"
    );
    assert!(
        whats.iter().any(|what| what.starts_with("ranking seconds")),
        "{whats:?}"
    );
}

#[tokio::test]
async fn a_wiped_store_is_missing_everything() {
    let (world, mut redis) = aggregated("redis_wiped").await;
    let prefix = &world.sources.redis.as_ref().unwrap().prefix;
    let keys: Vec<String> = cmd("KEYS")
        .arg(format!("{prefix}*"))
        .query_async(&mut redis)
        .await
        .unwrap();
    let _: i64 = cmd("DEL").arg(keys).query_async(&mut redis).await.unwrap();
    let found = world.found(Sink::Redis).await;
    assert_eq!((found.missing, found.equal), (4, 0), "{found}");
    assert_eq!(found.behind, 48);
}

#[tokio::test]
async fn totals_that_a_rebuild_has_made_are_compared_with_postgres_where_they_differ_from_the_topic()
 {
    let (world, mut redis) = aggregated("redis_rebuilt").await;
    let (partition, id) = content(&world);
    let of_content = |event: &&EnrichedEvent| event.content_id.as_deref() == Some(id.as_str());
    let mut in_postgres = Sums::default();
    for event in world.events.iter().filter(of_content) {
        in_postgres += Sums::of(&event.event_type, event.duration_ms);
    }
    let source = world.sources.redis.clone().unwrap();
    let key = |rest: &str| format!("{}{{{partition}}}:{rest}", source.prefix);
    let pack = "for i = 2, 8 do ARGV[i] = tonumber(ARGV[i]) end \
                return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(unpack(ARGV, 2)))";
    let _: i64 = redis::Script::new(pack)
        .key(key("t"))
        .arg(&id)
        .arg(&in_postgres.to_array()[..])
        .invoke_async(&mut redis)
        .await
        .unwrap();
    let count = format!("{}{id}", source.count_key.unwrap());
    let _: () = cmd("SET")
        .arg(&count)
        .arg(in_postgres.events)
        .query_async(&mut redis)
        .await
        .unwrap();
    let found = world.found(Sink::Redis).await;
    assert_eq!(names(&found), [(Kind::Missing, format!("content {id}"))]);

    let _: i64 = cmd("HSET")
        .arg(key("pos"))
        .arg("rebuilt")
        .arg(1)
        .query_async(&mut redis)
        .await
        .unwrap();
    let found = world.found(Sink::Redis).await;
    assert!(found.is_equal(), "{found}");
    let said = found.notes.join("\n");
    assert!(
        said.contains("1 contents of partitions that were rebuilt"),
        "{said}"
    );
}
