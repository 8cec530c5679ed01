//! Nobody gets further than its work needs: no way in without TLS, no right beside those listed.

use std::time::Duration;

use secure::World;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use stream::{KafkaSettings, RunError, contact};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn no_store_lets_anybody_in_without_tls() {
    let world = World::shared().await;
    let [_, redis, kafka, _] = world.places.addresses();
    let postgres = world.postgres_url("engage_reader");
    let plain = format!("{}?sslmode=disable", postgres.split('?').next().unwrap());
    let error = PgConnection::connect(&plain).await.unwrap_err().to_string();
    assert!(error.contains("no encryption"), "{error}");

    let client = redis::Client::open(redis.replace("rediss", "redis")).unwrap();
    assert!(client.get_multiplexed_async_connection().await.is_err());

    let settings = KafkaSettings {
        bootstrap_servers: kafka,
        ..KafkaSettings::default()
    };
    let asked = contact::partitions(&settings, "x", &["engagement.enriched.v1"], PATIENCE).await;
    assert!(
        matches!(asked, Err(RunError::Unreachable { .. })),
        "{asked:?}"
    );
}

#[tokio::test]
async fn roles_that_read_in_postgres_neither_write_nor_see_more() {
    let world = World::shared().await;
    let refused = async |role: &str, sql: &str| refused(world, role, sql).await;
    refused("engage_enricher", "SELECT * FROM engagement_events").await;
    refused("engage_enricher", "DELETE FROM content").await;
    refused("engage_reader", "UPDATE engagement_events SET device = 'x'").await;
    refused("engage_reader", "CREATE TABLE mine (id int)").await;
    refused("engage_canary", "SELECT device FROM engagement_events").await;
    refused("engage_canary", "SELECT title FROM content").await;
    refused("engage_canary", "DELETE FROM engagement_events").await;
    refused("engage_canary", "UPDATE content SET title = 'x'").await;
}

async fn refused(world: &World, role: &str, sql: &str) {
    let mut connection = PgConnection::connect(&world.postgres_url(role))
        .await
        .unwrap();
    let answer = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await;
    let error = answer.expect_err(sql);
    assert!(
        error.to_string().contains("permission denied"),
        "{role}: {sql}: {error}"
    );
}

#[tokio::test]
async fn the_users_of_erase_take_a_person_out_of_every_store_and_neither_add_nor_see_more() {
    let world = World::shared().await;
    let (content, user) = (
        "6f9619ff-8b86-d011-b42d-000000000001",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    );
    let event = format!(
        "INSERT INTO content (id, slug, title, content_type, length_seconds, publish_ts) \
         VALUES ('{content}', 'erased', 'Erased', 'video', 60, now()); \
         INSERT INTO engagement_events (content_id, user_id, event_type, duration_ms) VALUES ('{content}', '{user}', 'play', 1000)"
    );
    let mut owner = PgConnection::connect(&world.postgres_url("engage"))
        .await
        .unwrap();
    sqlx::raw_sql(AssertSqlSafe(event))
        .execute(&mut owner)
        .await
        .unwrap();
    let words = [
        "erase",
        "--user",
        user,
        "--postgres",
        "null",
        "--execute",
        "--within",
        "2m",
    ];
    let erased = world.erase(&words).await;
    assert_eq!(erased.code, 0, "{}", erased.said);
    assert!(
        erased.said.contains("\"complete\": true"),
        "{}",
        erased.said
    );
    assert!(erased.said.contains("services: they have passed it"));
    for sql in [
        "SELECT device FROM engagement_events",
        "INSERT INTO engagement_events (event_type) VALUES ('play')",
        "UPDATE engagement_events SET duration_ms = 1",
        "SELECT id FROM content",
    ] {
        refused(world, "engage_erase", sql).await;
    }
}

#[tokio::test]
async fn a_sink_in_kafka_sees_neither_changes_nor_the_letters_of_others() {
    let world = World::shared().await;
    let settings = world.kafka_settings("clickhouse-sink");
    for topic in ["cdc.public.engagement_events", "engagement.dlq.enricher"] {
        let asked = contact::partitions(&settings, "clickhouse-sink", &[topic], PATIENCE).await;
        assert!(
            matches!(asked, Err(RunError::Authorization { .. })),
            "{topic}: {asked:?}"
        );
    }
    let own = contact::partitions(
        &settings,
        "clickhouse-sink",
        &["engagement.enriched.v1"],
        PATIENCE,
    );
    assert!(own.await.is_ok_and(|counts| counts[0] > 0));
}

#[tokio::test]
async fn the_aggregator_cannot_empty_redis_and_readers_cannot_write() {
    let world = World::shared().await;
    let url = world
        .places
        .secrets()
        .value("url-redis-redis-aggregator")
        .to_owned();
    let certificates = redis::TlsCertificates {
        client_tls: None,
        root_cert: Some(std::fs::read(world.places.ca()).unwrap()),
    };
    let client = redis::Client::build_with_tls(url, certificates).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for words in [
        &["FLUSHALL"][..],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["GET", "theirs"],
    ] {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        let answer: redis::RedisResult<redis::Value> = command.query_async(&mut connection).await;
        let error = answer.expect_err(words[0]);
        assert_eq!(error.code(), Some("NOPERM"), "{words:?}: {error}");
    }
}

#[tokio::test]
async fn the_sink_in_clickhouse_can_neither_drop_nor_delete_nor_read_other_tables() {
    let world = World::shared().await;
    let root = std::fs::read(world.places.ca()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&root).unwrap()])
        .build()
        .unwrap();
    for sql in [
        "DROP TABLE engagement.events_enriched",
        "ALTER TABLE engagement.events_enriched DELETE WHERE 1",
        "TRUNCATE TABLE engagement.events_enriched",
        "SELECT * FROM engagement.events LIMIT 1",
        "CREATE TABLE engagement.mine (id Int64) ENGINE = MergeTree ORDER BY id",
    ] {
        let answer = client
            .post(world.places.clickhouse())
            .header("X-ClickHouse-User", "clickhouse_sink")
            .header(
                "X-ClickHouse-Key",
                world.places.secrets().value("clickhouse-clickhouse_sink"),
            )
            .body(sql)
            .send()
            .await
            .unwrap();
        let code = answer.headers().get("X-ClickHouse-Exception-Code").cloned();
        let text = answer.text().await.unwrap();
        assert_eq!(code.unwrap().to_str().unwrap(), "497", "{sql}: {text}");
    }
}
