//! A table, a database, a topic of a test's own on the shared servers.

use std::time::Duration;

use engagement::event::EnrichedEvent;
use engagement::wire::{Format, encode};
use platform::{ClickHouseSettings, Schema};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub(crate) const PARTITIONS: i32 = 2;

const DDL: [&str; 3] = [
    include_str!("../../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../../deploy/clickhouse/02_events_enriched.sql"),
    include_str!("../../../../deploy/clickhouse/03_views.sql"),
];

/// Runs statements in Postgres.
pub(crate) async fn postgres(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// The table of a layout, in a schema of the test's own; keys of any type.
pub(crate) fn table(name: &str, schema: Schema, key: &str, content: &str) -> String {
    format!(
        "CREATE SCHEMA {name}; CREATE TABLE {name}.engagement_events ({} {key} PRIMARY KEY, content_id {content}, \
         event_type text, event_ts timestamptz NOT NULL, duration_ms integer)",
        schema.event_key()
    )
}

/// Runs one statement in ClickHouse.
pub(crate) async fn clickhouse(settings: &ClickHouseSettings, sql: &str) -> String {
    let password = settings.password.as_ref().unwrap();
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(settings.url.clone())
        .header("X-ClickHouse-User", &settings.user)
        .header("X-ClickHouse-Key", password.expose_secret())
        .body(sql.to_owned())
        .send()
        .await
        .unwrap();
    let failed = !response.status().is_success();
    let text = response.text().await.unwrap();
    assert!(!failed, "{sql}: {text}");
    text
}

/// A database of the test's own, by a user who may create one.
pub(crate) async fn database(
    server: &devstack::ClickHouse,
    name: &str,
    id_type: &str,
) -> ClickHouseSettings {
    let settings = ClickHouseSettings {
        url: server.url.parse().unwrap(),
        user: server.admin_user.clone(),
        password: Some(SecretString::from(server.admin_password.clone())),
        database: name.into(),
        ..ClickHouseSettings::default()
    };
    for statement in DDL.iter().flat_map(|file| file.split(';')) {
        let sql = statement
            .replace("{database}", name)
            .replace("{event_id_type}", id_type);
        if sql.contains("CREATE") {
            clickhouse(&settings, &sql).await;
        }
    }
    settings
}

/// Inserts the rows that a sink writes for some events, as far as they are compared.
pub(crate) fn insert(database: &str, events: &[EnrichedEvent]) -> String {
    let rows: Vec<String> = events.iter().map(row).collect();
    format!(
        "INSERT INTO {database}.events_enriched (event_id, content_id, event_ts, deleted, src_row, event_type, duration_ms, \
         revision) {}",
        rows.join(" UNION ALL ")
    )
}

fn row(event: &EnrichedEvent) -> String {
    let text = |value: Option<&str>| value.map_or("NULL".into(), |text| format!("'{text}'"));
    format!(
        "SELECT '{}', CAST({}, 'Nullable(String)'), fromUnixTimestamp64Micro({}, 'UTC'), {}, 1, '{}', CAST({}, 'Nullable(Int64)'), {}",
        event.event_id,
        text(event.content_id.as_deref()),
        event.event_ts.0,
        u8::from(event.deleted),
        event.event_type,
        event.duration_ms.map_or("NULL".into(), |ms| ms.to_string()),
        event.revision,
    )
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

pub(crate) async fn topics(bootstrap: &str, names: &[&str]) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().unwrap();
    let new = |name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
    let topics: Vec<_> = names.iter().map(|name| new(name)).collect();
    for made in admin
        .create_topics(&topics, &AdminOptions::new())
        .await
        .unwrap()
    {
        made.unwrap();
    }
}

/// Writes one record as it is.
pub(crate) async fn produce(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    payload: &[u8],
    headers: &[(&str, &str)],
) {
    let producer: FutureProducer = client(bootstrap).create().unwrap();
    send(&producer, topic, partition, payload, headers).await;
}

async fn send(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    payload: &[u8],
    headers: &[(&str, &str)],
) {
    let mut all = OwnedHeaders::new();
    for (key, value) in headers {
        all = all.insert(Header {
            key,
            value: Some(*value),
        });
    }
    let record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic)
        .partition(partition)
        .payload(payload)
        .headers(all);
    producer
        .send(record, Duration::from_secs(120))
        .await
        .unwrap();
}

/// Writes enriched events where they say they belong.
pub(crate) async fn enriched(bootstrap: &str, topic: &str, events: &[EnrichedEvent]) {
    let producer: FutureProducer = client(bootstrap).set("linger.ms", "0").create().unwrap();
    for event in events {
        let source = event.source.position().to_string();
        let headers = [
            ("content-type", Format::Protobuf.content_type()),
            ("engagement-source", source.as_str()),
        ];
        let payload = encode(event, Format::Protobuf);
        send(&producer, topic, event.source.partition, &payload, &headers).await;
    }
}

/// Writes what a backfill brings where it says it belongs.
pub(crate) async fn backfilled(bootstrap: &str, topic: &str, event: &EnrichedEvent, ticket: &str) {
    let source = event.source.position().to_string();
    let headers = [
        ("content-type", Format::Protobuf.content_type()),
        ("engagement-source", source.as_str()),
        ("engage-backfill", ticket),
    ];
    let payload = encode(event, Format::Protobuf);
    produce(bootstrap, topic, event.source.partition, &payload, &headers).await;
}

/// Writes a text under a key to the first partition; an empty one takes the key back.
pub(crate) async fn keyed(bootstrap: &str, topic: &str, key: &str, text: &str) {
    let producer: FutureProducer = client(bootstrap).create().unwrap();
    let record = FutureRecord::to(topic).partition(0).key(key);
    let record = match text {
        "" => record,
        _ => record.payload(text),
    };
    producer
        .send(record, Duration::from_secs(120))
        .await
        .unwrap();
}

/// Removes what lies before these offsets, as retention does.
pub(crate) async fn forget(bootstrap: &str, topic: &str, offsets: &[(i32, i64)]) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .unwrap();
    }
    admin
        .delete_records(&list, &AdminOptions::new())
        .await
        .unwrap();
}

/// Moves a group's position, as its service would.
pub(crate) fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let consumer: BaseConsumer = client(bootstrap).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .unwrap();
    }
    let commit = || consumer.commit(&list, CommitMode::Sync);
    stream::election::once_elected(Duration::from_secs(120), commit).unwrap();
}
