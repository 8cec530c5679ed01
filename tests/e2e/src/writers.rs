//! Writes rows and records as the platform (or a broken producer) would.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::World;

/// A row of `content`.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its key as text.
    pub id: String,
    /// Seconds.
    pub length_seconds: Option<i32>,
}

impl Content {
    /// A podcast of that many seconds with a random key.
    #[must_use]
    pub fn podcast(length_seconds: i32) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            length_seconds: Some(length_seconds),
        }
    }
}

/// A row of `engagement_events`; the database gives it key and time.
#[derive(Clone, Debug)]
pub struct Event {
    /// The content's key as text.
    pub content_id: Option<String>,
    /// Milliseconds.
    pub duration_ms: Option<i64>,
}

impl Event {
    /// A `play` of that many milliseconds.
    #[must_use]
    pub fn play(content: &str, duration_ms: i64) -> Self {
        Self {
            content_id: Some(content.to_owned()),
            duration_ms: Some(duration_ms),
        }
    }
}

impl World {
    /// Inserts a content and returns its key.
    pub async fn insert_content(&self, content: Content) -> String {
        let (key, key_type) = (self.addresses().schema.content_key(), self.key_type());
        let sql = format!(
            "INSERT INTO content ({key}, slug, title, content_type, length_seconds, publish_ts) \
             VALUES ($1::text::{key_type}, $1, 'Title', 'podcast', $2, now())"
        );
        let mut connection = self.postgres().await;
        sqlx::query(AssertSqlSafe(sql))
            .bind(&content.id)
            .bind(content.length_seconds)
            .execute(&mut connection)
            .await
            .unwrap();
        content.id
    }

    /// Inserts an event and returns its key as text.
    pub async fn insert_event(&self, event: Event) -> String {
        let (key, key_type) = (self.addresses().schema.event_key(), self.key_type());
        let sql = format!(
            "INSERT INTO engagement_events (content_id, user_id, event_type, duration_ms, device, raw_payload) \
             VALUES ($1::text::{key_type}, NULL, 'play', $2::bigint, 'ios', '{{\"secret\": 1}}') RETURNING {key}::text"
        );
        let mut connection = self.postgres().await;
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(event.content_id)
            .bind(event.duration_ms)
            .fetch_one(&mut connection)
            .await;
        row.unwrap().get(0)
    }

    /// Inserts an event of 5 s whose content does not exist.
    pub async fn insert_orphan(&self, content: &str) -> String {
        let mut connection = PgConnection::connect(&self.addresses().postgres_admin_url)
            .await
            .unwrap();
        sqlx::raw_sql("SET session_replication_role = replica")
            .execute(&mut connection)
            .await
            .unwrap();
        let sql = "INSERT INTO engagement_events (content_id, event_type, duration_ms) VALUES ($1::text::uuid, 'play', 5000) RETURNING id::text";
        sqlx::query(sql)
            .bind(content)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0)
    }

    /// Runs one statement with text parameters.
    pub async fn sql(&self, statement: &str, parameters: &[&str]) {
        let mut connection = self.postgres().await;
        // Parameters are text on the wire whatever the column's type.
        let statement = statement
            .replace("::uuid", "::text::uuid")
            .replace("::bigint", "::text::bigint");
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for parameter in parameters {
            query = query.bind((*parameter).to_owned());
        }
        query.execute(&mut connection).await.unwrap();
    }

    /// Writes one record with the partitioner that Debezium uses.
    pub async fn produce(&self, topic: &str, key: &str, value: &[u8]) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.addresses().kafka)
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        producer
            .send(
                FutureRecord::to(topic).key(key).payload(value),
                Duration::from_secs(120),
            )
            .await
            .unwrap();
    }

    /// A connection as the platform's own role.
    pub async fn postgres(&self) -> PgConnection {
        PgConnection::connect(&self.addresses().postgres_url)
            .await
            .unwrap()
    }

    fn key_type(&self) -> &'static str {
        match self.addresses().schema {
            platform::Schema::Uuid => "uuid",
            platform::Schema::Bigint => "bigint",
        }
    }
}
