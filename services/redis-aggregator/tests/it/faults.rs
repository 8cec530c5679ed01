//! Redis that dies, is wiped, refuses to keep what it is given, or is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use devstack::Stack;
use engagement::event::Micros;
use redis_aggregator::config::Config;
use redis_aggregator::connection::Server;

use crate::support::*;
use crate::support_kafka::*;

/// A Redis of its own; Kafka is shared.
async fn own_redis(name: &str, partitions: i32) -> (Stack, Config) {
    let own = Stack::builder().redis().private().start().await.unwrap();
    let config = config(&unique(name), &own.redis().url);
    let config = with_topics(config, &stack().kafka().bootstrap, partitions).await;
    (own, config)
}

fn now() -> Micros {
    Micros(service::clock::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_killed_and_started_again_ends_up_exact() {
    let (own, config) = own_redis("killed", 2).await;
    let logs = Arc::new(vec![
        random_log(11, 0, 1200, now()),
        random_log(12, 1, 1200, now()),
    ]);
    let running = Running::start(&config);
    for part in 0..4 {
        for log in logs.iter() {
            produce(&config, &log[part * 300..(part + 1) * 300]).await;
        }
        if part < 3 {
            own.redis().kill9().await.unwrap();
            running.says(&["redis"]).await;
            own.redis().start().await.unwrap();
        }
    }
    settled(&config, &own.redis().url, logs).await;
    running.stop().await;
    own.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_waited_for_and_counts_once() {
    let (own, mut config) = own_redis("hangs", 1).await;
    config.redis.response_timeout = Duration::from_millis(200);
    let logs = Arc::new(vec![random_log(13, 0, 900, now())]);
    let running = Running::start(&config);
    for part in logs[0].chunks(300) {
        produce(&config, part).await;
        own.redis().pause().unwrap();
        running.says(&["redis"]).await;
        own.redis().resume().unwrap();
    }
    settled(&config, &own.redis().url, logs).await;
    running.stop().await;
    own.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_redis_is_recognised_while_running_and_at_the_next_start() {
    let (own, config) = own_redis("wiped", 2).await;
    let logs = Arc::new(vec![
        random_log(14, 0, 100, now()),
        random_log(15, 1, 100, now()),
    ]);
    let running = Running::start(&config);
    for log in logs.iter() {
        produce(&config, &log[..50]).await;
    }
    let half: Vec<_> = logs.iter().map(|log| log[..50].to_vec()).collect();
    settled(&config, &own.redis().url, Arc::new(half)).await;
    let mut connection = connect(&own.redis().url).await;
    let _: () = query(&mut connection, &["FLUSHALL"]).await;
    for log in logs.iter() {
        produce(&config, &log[50..]).await;
    }
    let failure = running.failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(failure.what().contains("count anew"), "{}", failure.what());
    let failure = Running::start(&config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(failure.what().contains("wiped"), "{}", failure.what());
    let left: Vec<String> = query(
        &mut connection,
        &["KEYS", &format!("{}*:t", config.redis.prefix)],
    )
    .await;
    assert!(left.is_empty(), "nothing was counted from zero: {left:?}");

    // What the remedy says; the keys are gone already.
    delete_group(&config).await;
    let running = Running::start(&config);
    settled(&config, &own.redis().url, logs).await;
    running.stop().await;
    own.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_evict_is_refused_with_the_remedy() {
    let (own, config) = own_redis("evicts", 1).await;
    let mut connection = connect(&own.redis().url).await;
    let _: () = query(
        &mut connection,
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    )
    .await;
    let failure = Running::start(&config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(failure.what().contains("allkeys-lru"), "{}", failure.what());
    assert!(
        failure
            .remedy_text()
            .unwrap()
            .contains("maxmemory-policy noeviction")
    );
    own.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_comes_up_ends_with_its_own_exit_code() {
    let mut config = config(&unique("absent"), "redis://127.0.0.1:1");
    config.redis.start_timeout = Duration::from_millis(300);
    let failure = Running::start(&config).failure().await;
    assert_eq!(failure.exit().code(), 69);
    assert!(failure.remedy_text().unwrap().contains("REDIS_URL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_started_anew_has_its_append_only_file_rewritten_first() {
    let (own, config) = own_redis("rewrite", 1).await;
    let meta = format!("{}meta", config.redis.prefix);
    let mut run_ids = Vec::new();
    for _ in 0..2 {
        let running = Running::start(&config);
        let mut connection = connect(&own.redis().url).await;
        eventually("the run of the server is noted", || {
            let (mut connection, meta, seen) = (connection.clone(), meta.clone(), run_ids.clone());
            async move {
                let run: Option<String> = query(&mut connection, &["HGET", &meta, "run_id"]).await;
                if run.is_some() && run != seen.last().cloned().flatten() {
                    Ok(())
                } else {
                    Err(format!("{run:?}"))
                }
            }
        })
        .await;
        run_ids.push(query::<Option<String>>(&mut connection, &["HGET", &meta, "run_id"]).await);
        let info: String = query(&mut connection, &["INFO", "persistence"]).await;
        assert!(
            !info.contains("aof_last_rewrite_time_sec:-1"),
            "it was rewritten: {info}"
        );
        running.stop().await;
        own.redis().kill9().await.unwrap();
        own.redis().start().await.unwrap();
    }
    own.shutdown().await;
}

/// Directories where the next rewrites of the append-only file want to put theirs, as a disk without space refuses them.
struct NoRewrite(Vec<PathBuf>);

impl NoRewrite {
    async fn at(url: &str) -> Self {
        let found: Vec<String> = query(&mut connect(url).await, &["CONFIG", "GET", "dir"]).await;
        let files = Path::new(&found[1]).join("appendonlydir");
        let targets = (2..9).map(|number| files.join(format!("appendonly.aof.{number}.base.rdb")));
        let free: Vec<PathBuf> = targets.filter(|path| !path.exists()).collect();
        for path in &free {
            fs::create_dir_all(path.join("full")).unwrap();
        }
        Self(free)
    }

    fn end(self) {
        for path in self.0 {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_that_fails_is_asked_for_again_until_it_ends_well() {
    let (own, config) = own_redis("unwritten", 1).await;
    let logs = Arc::new(vec![random_log(16, 0, 300, now())]);
    let blocked = NoRewrite::at(&own.redis().url).await;
    let running = Running::start(&config);
    produce(&config, &logs[0][..100]).await;
    running.says(&["redis"]).await;
    blocked.end();
    let part = |count: usize| Arc::new(vec![logs[0][..count].to_vec()]);
    settled(&config, &own.redis().url, part(100)).await;

    own.redis().kill9().await.unwrap();
    own.redis().start().await.unwrap();
    let blocked = NoRewrite::at(&own.redis().url).await;
    produce(&config, &logs[0][100..200]).await;
    running
        .says(&["could not rewrite its append-only file"])
        .await;
    blocked.end();
    produce(&config, &logs[0][200..]).await;
    settled(&config, &own.redis().url, part(300)).await;
    running.stop().await;
    own.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_ask_for_the_rewrite_at_once_are_one_rewrite() {
    let (own, config) = own_redis("rewrites", 1).await;
    let server = Server::new(&config.redis).unwrap();
    for _ in 0..20 {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let server = server.clone();
            opening.spawn(async move { server.open().await.map(drop) });
        }
        for opened in opening.join_all().await {
            opened.unwrap();
        }
        own.redis().kill9().await.unwrap();
        own.redis().start().await.unwrap();
    }
    own.shutdown().await;
}
