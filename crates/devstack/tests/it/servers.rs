//! Each server starts, keeps its data over restart and `kill -9`, and is what its consumers need.

use std::time::Duration;

use devstack::{Kind, Stack, StackError};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use sqlx::{Connection, PgConnection};

use crate::support::{append, http, last_line, redis, redis_within, runs, wait_for};

#[tokio::test]
async fn redis_keeps_its_data_over_restart_and_kill9() {
    let stack = Stack::builder().redis().start().await.unwrap();
    let server = stack.redis();
    assert_eq!(redis(server.port(), "SET a 1").unwrap(), "+OK\r\n");
    assert!(
        redis(server.port(), "CONFIG GET maxmemory-policy")
            .unwrap()
            .contains("noeviction")
    );
    server.restart().await.unwrap();
    assert!(redis(server.port(), "GET a").unwrap().contains('1'));

    let file = stack
        .dir()
        .join("redis/appendonlydir/appendonly.aof.1.incr.aof");
    redis(server.port(), "CONFIG SET appendfsync always").unwrap();
    redis(server.port(), "SET a 2").unwrap();
    server.kill9().await.unwrap();
    append(&file, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r");
    server.start().await.unwrap();
    assert!(
        redis(server.port(), "GET a").unwrap().contains('2'),
        "a torn tail costs no earlier write"
    );
}

#[tokio::test]
async fn a_killed_server_is_seen_to_be_gone() {
    let stack = Stack::builder().redis().start().await.unwrap();
    let pid = stack.redis().pid().unwrap();
    stack.redis().kill9().await.unwrap();
    assert_eq!(stack.redis().pid(), None);
    assert!(!runs(pid));
    assert!(matches!(
        stack.redis().pause(),
        Err(StackError::NotRunning {
            server: Kind::Redis
        })
    ));
}

#[tokio::test]
async fn a_server_killed_by_somebody_else_is_seen_to_be_gone() {
    let stack = Stack::builder().redis().start().await.unwrap();
    let pid = stack.redis().pid().unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    wait_for("the server to be gone", || !stack.redis().is_running());
    stack.redis().start().await.unwrap();
    assert_eq!(redis(stack.redis().port(), "PING").unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_paused_server_does_not_answer_until_it_is_resumed() {
    let stack = Stack::builder().redis().start().await.unwrap();
    stack.redis().pause().unwrap();
    let silence = Duration::from_millis(300);
    assert!(redis_within(silence, stack.redis().port(), "PING").is_err());
    assert!(stack.redis().is_running());
    stack.redis().resume().unwrap();
    assert_eq!(redis(stack.redis().port(), "PING").unwrap(), "+PONG\r\n");
    stack.redis().pause().unwrap();
    stack.redis().stop().await.unwrap();
    assert!(
        !stack.redis().is_running(),
        "a frozen server can be stopped"
    );
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_reported_with_the_end_of_its_log() {
    let stack = Stack::builder().redis().start().await.unwrap();
    stack.redis().stop().await.unwrap();
    let folder = stack.dir().join("redis/appendonlydir");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let error = stack.redis().start().await.unwrap_err().to_string();
    assert!(
        error.starts_with("Redis ended (exit status: 1) while waiting for PING on 127.0.0.1:"),
        "{error}"
    );
    assert!(error.contains("appendonlydir"), "the log says why: {error}");
}

async fn count(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn postgres_keeps_its_data_over_restart_and_kill9() {
    let stack = Stack::builder().postgres().start().await.unwrap();
    let server = stack.postgres();
    let mut owner = PgConnection::connect(&server.url).await.unwrap();
    for sql in [
        "CREATE EXTENSION pgcrypto",
        "CREATE TABLE kept (id int)",
        "INSERT INTO kept VALUES (1)",
    ] {
        sqlx::query(sql).execute(&mut owner).await.unwrap();
    }
    let level: String = sqlx::query_scalar("SHOW wal_level")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(level, "logical");
    server.restart().await.unwrap();
    assert_eq!(
        count(&server.url).await,
        1,
        "a client that stays connected does not hold up the stop"
    );

    let mut admin = PgConnection::connect(&server.admin_url).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES (2)")
        .execute(&mut admin)
        .await
        .unwrap();
    server.kill9().await.unwrap();
    server.start().await.unwrap();
    assert_eq!(count(&server.url).await, 2);
}

/// Writes one record, and returns the offset after the last.
fn write_one(bootstrap: &str, topic: &str) -> i64 {
    let config = |pairs: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        for (key, value) in pairs {
            config.set(*key, *value);
        }
        config
    };
    let producer: BaseProducer = config(&[("acks", "all"), ("message.max.bytes", "20000000")])
        .create()
        .unwrap();
    let large = vec![b'x'; 15_000_000];
    producer
        .send(BaseRecord::<(), _>::to(topic).payload(&large))
        .unwrap();
    producer.flush(Duration::from_secs(120)).unwrap();
    let consumer: BaseConsumer = config(&[]).create().unwrap();
    consumer
        .fetch_watermarks(topic, 0, Duration::from_secs(60))
        .unwrap()
        .1
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_its_data_over_restart_and_kill9() {
    let stack = Stack::builder().kafka().start().await.unwrap();
    let server = stack.kafka();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &server.bootstrap)
        .create()
        .unwrap();
    let topic =
        NewTopic::new("kept", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "33554432");
    let created = admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    assert_eq!(
        created,
        [Ok("kept".to_owned())],
        "a broker that counts as ready creates topics"
    );
    assert_eq!(write_one(&server.bootstrap, "kept"), 1);
    server.restart().await.unwrap();
    assert_eq!(write_one(&server.bootstrap, "kept"), 2);
    server.kill9().await.unwrap();
    server.start().await.unwrap();
    assert_eq!(write_one(&server.bootstrap, "kept"), 3);
}

#[tokio::test]
async fn connect_knows_debezium_and_comes_back() {
    let stack = Stack::builder().connect().start().await.unwrap();
    let plugins = http(stack.connect().port(), "GET", "/connector-plugins", "");
    assert!(
        plugins.contains("io.engage.connect.PostgresConnector"),
        "{plugins}"
    );
    assert!(plugins.contains("3.7.0.Final"), "{plugins}");
    stack.connect().kill9().await.unwrap();
    stack.connect().start().await.unwrap();
    assert!(http(stack.connect().port(), "GET", "/connectors", "").contains("200 OK"));
}

#[tokio::test]
async fn clickhouse_keeps_its_data_over_restart_and_kill9_and_its_user_can_what_the_sink_needs() {
    let stack = Stack::builder().clickhouse().start().await.unwrap();
    let server = stack.clickhouse();
    let run = |sql: &str| {
        let answer = http(
            server.port(),
            "POST",
            "/?user=engage&password=engage&database=engagement",
            sql,
        );
        (answer.contains(" 200 OK"), last_line(&answer).to_owned())
    };
    for sql in [
        "CREATE TABLE kept (id UInt64, at DateTime) ENGINE = ReplacingMergeTree ORDER BY id",
        "CREATE VIEW seen AS SELECT * FROM kept FINAL",
        "INSERT INTO kept SELECT * FROM input('id UInt64, at DateTime') WHERE now() < toDateTime(4000000000) FORMAT CSV\n1,1700000000",
        "KILL QUERY WHERE query_id = 'none' SYNC",
        "SELECT count() FROM system.processes",
        "CREATE DATABASE IF NOT EXISTS engagement ENGINE = Atomic",
    ] {
        let (ok, answer) = run(sql);
        assert!(ok, "{sql}: {answer}");
    }
    assert_eq!(
        run("SELECT engine FROM system.databases WHERE name = 'engagement'").1,
        "Atomic"
    );
    assert!(
        !run("CREATE DATABASE elsewhere").0,
        "no rights outside its database"
    );
    server.restart().await.unwrap();
    assert_eq!(run("SELECT count() FROM seen").1, "1");
    assert!(run("INSERT INTO kept VALUES (2, 0)").0);
    server.kill9().await.unwrap();
    server.start().await.unwrap();
    assert_eq!(run("SELECT count() FROM seen").1, "2");
}

#[tokio::test]
async fn each_further_listener_of_kafka_sends_its_clients_to_its_own_advertised_port() {
    let advertised = [1_u16, 2];
    let stack = Stack::builder()
        .kafka()
        .kafka_advertised_at(&advertised)
        .start()
        .await
        .unwrap();
    let listeners = &stack.kafka().listeners;
    assert_eq!(listeners.len(), advertised.len());
    for (listener, port) in listeners.iter().zip(advertised) {
        assert_eq!(port_named_by(listener), i32::from(port));
    }
    assert_eq!(
        port_named_by(&stack.kafka().bootstrap),
        i32::from(stack.kafka().port())
    );
}

/// The port at which the broker wants to be reached by those who ask at `bootstrap`.
fn port_named_by(bootstrap: &str) -> i32 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    let metadata = consumer
        .fetch_metadata(None, Duration::from_secs(60))
        .unwrap();
    metadata.brokers()[0].port()
}
