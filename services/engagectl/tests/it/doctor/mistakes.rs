//! One function for each place: make the mistake, see it named, repair it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use stream::election::once_elected;

use super::world::{World, found};
use crate::support::{Running, WAIT, texts, tool};

pub(super) async fn in_postgres(world: &World) {
    for (mistake, place, words) in [
        (
            "ALTER TABLE engagement_events REPLICA IDENTITY DEFAULT",
            "REPLICA IDENTITY FULL on engagement_events",
            "missing in postgres",
        ),
        (
            "ALTER PUBLICATION engage_cdc DROP TABLE content",
            "table content in publication engage_cdc",
            "missing in postgres",
        ),
        (
            "ALTER PUBLICATION engage_cdc SET (publish = 'insert, truncate')",
            "operations of publication",
            "missing in postgres",
        ),
        (
            "DELETE FROM engage_heartbeat",
            "table engage_heartbeat",
            "is empty",
        ),
    ] {
        world.sql(mistake).await;
        world.doctor().names(place, words, "engagectl init");
        world.init();
        world.is_well(mistake);
    }
}

async fn clickhouse(world: &World, sql: &'static str) {
    let clickhouse = world.stack.clickhouse();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(&clickhouse.url)
        .header("X-ClickHouse-User", &clickhouse.admin_user)
        .header("X-ClickHouse-Key", &clickhouse.admin_password);
    let answer = request.body(sql).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{sql}: {text}");
}

pub(super) async fn in_clickhouse(world: &World) {
    clickhouse(
        world,
        "ALTER TABLE engagement.events_enriched DROP COLUMN device",
    )
    .await;
    let found = world.doctor();
    found.names("column device", "missing in clickhouse", "engagectl init");
    found.has("error", "view engagement.events", "device");
    world.init();
    world.is_well("the column is back");

    clickhouse(
        world,
        "ALTER TABLE engagement.events_enriched MODIFY COLUMN duration_ms Nullable(Int32)",
    )
    .await;
    world.doctor().names(
        "clickhouse",
        "duration_ms is Nullable(Int32)",
        "MODIFY COLUMN duration_ms Nullable(Int64)",
    );
    clickhouse(
        world,
        "ALTER TABLE engagement.events_enriched MODIFY COLUMN duration_ms Nullable(Int64)",
    )
    .await;

    clickhouse(
        world,
        "RENAME TABLE engagement.events_enriched TO engagement.aside",
    )
    .await;
    clickhouse(world, "CREATE TABLE engagement.events_enriched AS engagement.aside ENGINE = MergeTree ORDER BY event_ts").await;
    world
        .doctor()
        .names("clickhouse", "has engine MergeTree", "engagectl init");
    clickhouse(world, "DROP TABLE engagement.events_enriched SYNC").await;
    clickhouse(
        world,
        "RENAME TABLE engagement.aside TO engagement.events_enriched",
    )
    .await;
}

pub(super) async fn in_redis(world: &World) {
    let client = redis::Client::open(world.stack.redis().url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = async |key: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        let command = command.arg("SET").arg(key).arg(value);
        let () = command.query_async(&mut connection).await.unwrap();
    };
    set("maxmemory-policy", "allkeys-lru").await;
    world.doctor().names(
        "redis",
        "allkeys-lru",
        "CONFIG SET maxmemory-policy noeviction",
    );
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "no").await;
    world
        .doctor()
        .has("warning", "redis persistence", "appendonly is no");
    set("appendonly", "yes").await;
}

pub(super) async fn in_topics(world: &World) {
    world.topic("enriched-of-two", 2, &[]).await;
    let mut doctor = world.tool(&["-o", "json", "doctor"]);
    doctor.env("KAFKA_ENRICHED_TOPIC", "enriched-of-two");
    let seen = found(&mut doctor);
    seen.names("enriched-of-two", "4 and 2 partitions", "4 partitions");

    // an hour is kept, and the oldest record that the sink has not done is fifty minutes old
    world
        .topic("enriched-for-an-hour", 4, &[("retention.ms", "3600000")])
        .await;
    send(
        world,
        "enriched-for-an-hour",
        service::clock::now() / 1000 - 50 * 60 * 1000,
    );
    commit(world, "clickhouse-sink", "enriched-for-an-hour");
    let mut doctor = world.tool(&["-o", "json", "doctor"]);
    doctor.env("KAFKA_ENRICHED_TOPIC", "enriched-for-an-hour");
    let seen = found(&mut doctor);
    seen.names(
        "group clickhouse-sink",
        "retention overtakes group clickhouse-sink in ",
        "--add-config retention.ms=",
    );
    seen.names(
        "group clickhouse-sink",
        "nobody is in it, and 1 records wait",
        "start its service",
    );
    seen.names(
        "kafka",
        "has retention.ms = 3600000",
        "--add-config retention.ms=604800000",
    );

    // a key without the content
    world.topic("cdc-by-id", 4, &[]).await;
    let change = r#"{"op":"c","after":{"id":1,"content_id":"c","event_type":"play","event_ts":"2026-01-08T14:21:52Z"},"source":{"lsn":7,"txId":1}}"#;
    produce(
        world,
        BaseRecord::to("cdc-by-id")
            .partition(0)
            .key(r#"{"id":1}"#)
            .payload(change),
    );
    let mut doctor = world.tool(&["-o", "json", "doctor"]);
    doctor.env("KAFKA_CDC_TOPIC", "cdc-by-id");
    let seen = found(&mut doctor);
    seen.names("keys of cdc-by-id", "partition 0", "message.key.columns");
}

fn send(world: &World, topic: &str, at: i64) {
    let record = BaseRecord::<str, str>::to(topic).partition(0).payload("x");
    produce(world, record.timestamp(at));
}

fn produce(world: &World, record: BaseRecord<'_, str, str>) {
    let producer: BaseProducer = world.kafka().producer_config().create().unwrap();
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(WAIT).unwrap();
}

fn commit(world: &World, group: &str, topic: &str) {
    let consumer: BaseConsumer = world.kafka().probe_config(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(0))
        .unwrap();
    once_elected(WAIT, || consumer.commit(&list, CommitMode::Sync)).unwrap();
}

pub(super) fn of_targets(world: &World) {
    // a port that was free a moment ago takes no connection
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://u:hush@{closed}/hook");
    let mut doctor = world.tool(&["-o", "json", "doctor", "--webhook", &url]);
    let seen = found(&mut doctor);
    seen.names("webhook 127.0.0.1", "refused", "webhook-forwarder check");
    seen.names(
        "webhook 127.0.0.1",
        "credentials in its URL",
        "bearer_token_file",
    );
    seen.has("warning", "webhook 127.0.0.1", "not encrypted");
    assert!(!seen.text.contains("hush"), "{}", seen.text);

    // a receiver that is there, and gets nothing that counts
    let port = devstack::free_port().unwrap();
    let mut listen = tool();
    let receiver = format!("127.0.0.1:{port}");
    listen.args(["webhook", "listen", "--addr", &receiver]);
    let _receiver = Running::start(&mut listen);
    let target = format!("http://{receiver}/webhook");
    let begun = Instant::now();
    loop {
        let seen = found(&mut world.tool(&["-o", "json", "doctor", "--webhook", &target]));
        if seen.text.contains("answers (") {
            break;
        }
        assert!(begun.elapsed() < WAIT, "{}", seen.text);
    }
    let stats = std::thread::spawn(move || deliveries(&receiver))
        .join()
        .unwrap();
    assert_eq!(stats, 0, "nothing was delivered");
}

fn deliveries(receiver: &str) -> usize {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client
            .get(format!("http://{receiver}/events?limit=10"))
            .send();
        let told: Value = answer.await.unwrap().json().await.unwrap();
        let list = told.as_array().or_else(|| told["events"].as_array());
        list.unwrap().len()
    })
}

pub(super) fn servers_away(world: &World) {
    let mut doctor = world.tool(&["-o", "json", "doctor"]);
    let seen = found(doctor.env("REDIS_URL", "redis://127.0.0.1:9"));
    assert_eq!(seen.code, Some(69), "{}", seen.text);
    seen.names("redis", "127.0.0.1:9", "REDIS_URL");
    seen.has("ok", "slot engage_cdc", "wal_status");
    seen.has("ok", "connector engage-cdc", "RUNNING");

    let mut doctor = world.tool(&["-o", "json", "doctor"]);
    let seen = found(doctor.env("DATABASE_URL", "postgres://u@127.0.0.1:9/x"));
    seen.names("postgres", "cannot reach postgres", "DATABASE_URL");
    seen.has("ok", "connector engage-cdc", "RUNNING");
    seen.has("ok", "redis", "noeviction");
}

pub(super) async fn of_the_connector(world: &World) {
    world.connector("pause").await;
    let found = world.until("the pause shows", |found| found.text.contains("PAUSED"));
    found.names(
        "connector engage-cdc",
        "is PAUSED",
        "/connectors/engage-cdc/resume",
    );
    world.connector("resume").await;
}

/// The slot falls behind more than Postgres keeps, while a watch looks on.
pub(super) async fn a_lost_slot(world: &World) {
    let words = ["-o", "json", "doctor", "--watch", "--every", "200ms"];
    let mut watch = Running::start(&mut world.tool(&words));
    let mut said = vec![line(&mut watch)];
    while !said
        .iter()
        .any(|one| one["is"].as_str().unwrap().contains("RUNNING"))
    {
        said.push(line(&mut watch));
    }
    world.connector("pause").await;
    world
        .sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        .await;
    world.sql("SELECT pg_reload_conf()").await;
    let begun = Instant::now();
    let last = loop {
        world
            .sql("INSERT INTO engagement_events (event_type) VALUES ('click'); SELECT pg_switch_wal(); CHECKPOINT")
            .await;
        if let Some(text) = watch.line_within(Duration::from_millis(500)) {
            let value: Value = serde_json::from_str(&text).unwrap();
            if !value["plan"].is_null() {
                break value;
            }
            said.push(value);
        }
        assert!(begun.elapsed() < WAIT, "{said:?}");
    };
    assert_eq!(watch.ended().code(), Some(78), "{last}");
    let backfill = last["plan"]["backfill"].as_str().unwrap();
    let captured = last["plan"]["captured"].as_str().unwrap();
    assert!(
        backfill.starts_with("engagectl backfill --start 20"),
        "{last}"
    );
    assert!(backfill.ends_with("Z --end now"), "{last}");
    assert!(captured > backfill.split(' ').nth(3).unwrap(), "{last}");
    world.doctor().names(
        "slot engage_cdc",
        "wal_status is lost",
        "engagectl backfill --start 20",
    );
    plan_as_text(world);
    backfill_is_a_command(world, backfill);
}

fn line(watch: &mut Running) -> Value {
    serde_json::from_str(&watch.line()).unwrap()
}

/// The same for a person, whose watch begins with the loss.
fn plan_as_text(world: &World) {
    let output = world.tool(&["doctor", "--watch"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(78), "{out}{err}");
    let steps = [
        "1. curl -X PUT",
        "engagectl backfill --start 20",
        "engagectl verify",
    ];
    for step in steps {
        assert!(out.contains(step), "{step:?} is missing in {out}");
    }
}

/// What is printed can be typed: it plans the rows of the gap.
fn backfill_is_a_command(world: &World, backfill: &str) {
    let words: Vec<&str> = backfill.split(' ').skip(1).chain(["--dry-run"]).collect();
    let output = world.tool(&words).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{backfill}: {out}{err}");
}

pub(super) async fn a_slot_that_is_gone(world: &World) {
    world
        .sql("SELECT pg_drop_replication_slot('engage_cdc')")
        .await;
    let found = world.doctor();
    found.names("slot engage_cdc", "there is no such slot", "engagectl");
    found.names(
        "connect",
        "slot engage_cdc is gone",
        "engagectl backfill --start 20",
    );
}

pub(super) async fn a_wrong_wal_level(world: &World) {
    world.sql("ALTER SYSTEM SET wal_level = replica").await;
    world.stack.postgres().restart().await.unwrap();
    let found = world.doctor();
    found.names(
        "postgres",
        "wal_level is replica",
        "ALTER SYSTEM SET wal_level = logical",
    );
}
