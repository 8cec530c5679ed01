//! Writes generated rows into Postgres, one committed statement per batch.

use platform::Schema;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::rows::{ContentRow, EventRow};

/// A connection to the source database and the contents that events refer to.
#[derive(Debug)]
pub struct Writer {
    connection: PgConnection,
    key_type: &'static str,
    event_key: &'static str,
    content_key: &'static str,
    contents: Vec<String>,
}

impl Writer {
    /// Connects. The key type of both tables follows from `schema`.
    ///
    /// # Errors
    /// What Postgres answered.
    pub async fn connect(url: &str, schema: Schema) -> Result<Self, sqlx::Error> {
        let key_type = match schema {
            Schema::Uuid => "uuid",
            Schema::Bigint => "bigint",
        };
        Ok(Self {
            connection: PgConnection::connect(url).await?,
            key_type,
            event_key: schema.event_key(),
            content_key: schema.content_key(),
            contents: Vec::new(),
        })
    }

    /// Inserts the contents that are missing and reads back every key, so that events can refer to them.
    ///
    /// # Errors
    /// What Postgres answered.
    pub async fn seed_contents(&mut self, rows: &[ContentRow]) -> Result<usize, sqlx::Error> {
        let (key, key_type) = (self.content_key, self.key_type);
        let insert = format!(
            "INSERT INTO content ({key}, slug, title, content_type, length_seconds, publish_ts) \
             SELECT k::{key_type}, s, t, c, l, now() FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[]) \
             AS r(k, s, t, c, l) ON CONFLICT DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(
                rows.iter()
                    .map(|r| self.key_text(r.key))
                    .collect::<Vec<_>>(),
            )
            .bind(rows.iter().map(|r| r.slug.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.title.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.content_type).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.length_seconds).collect::<Vec<_>>())
            .execute(&mut self.connection)
            .await?;
        let select = format!("SELECT {key}::text FROM content ORDER BY slug LIMIT 100000");
        let found = sqlx::query(AssertSqlSafe(select))
            .fetch_all(&mut self.connection)
            .await?;
        self.contents = found.iter().map(|row| row.get(0)).collect();
        Ok(self.contents.len())
    }

    /// Inserts one batch in one transaction and returns the new keys as text.
    ///
    /// # Errors
    /// What Postgres answered; nothing of the batch is written then.
    pub async fn insert(&mut self, rows: &[EventRow]) -> Result<Vec<String>, sqlx::Error> {
        let key_type = self.key_type;
        let insert = format!(
            "INSERT INTO engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload) \
             SELECT c::{key_type}, u::{key_type}, t, to_timestamp(s / 1000000.0), d, v, '{{\"generated\": true}}'::jsonb \
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::text[]) AS r(c, u, t, s, d, v) \
             RETURNING {}::text",
            self.event_key
        );
        let content = |row: &EventRow| {
            row.content
                .and_then(|index| self.contents.get(index).cloned())
        };
        let inserted = sqlx::query(AssertSqlSafe(insert))
            .bind(rows.iter().map(content).collect::<Vec<_>>())
            .bind(
                rows.iter()
                    .map(|r| self.key_text(u128::from(r.user.unsigned_abs())))
                    .collect::<Vec<_>>(),
            )
            .bind(rows.iter().map(|r| r.event_type).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.event_ts).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.duration_ms).collect::<Vec<_>>())
            .bind(rows.iter().map(|r| r.device).collect::<Vec<_>>())
            .fetch_all(&mut self.connection)
            .await?;
        Ok(inserted.iter().map(|row| row.get(0)).collect())
    }

    /// Adds one second to the duration of the given events: a correction, as a platform would make it.
    ///
    /// # Errors
    /// What Postgres answered.
    pub async fn update(&mut self, keys: &[String]) -> Result<(), sqlx::Error> {
        let update = format!(
            "UPDATE engagement_events SET duration_ms = coalesce(duration_ms, 0) + 1000 WHERE {}::text = ANY($1)",
            self.event_key
        );
        sqlx::query(AssertSqlSafe(update))
            .bind(keys)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    fn key_text(&self, key: u128) -> String {
        match self.key_type {
            "uuid" => uuid::Uuid::from_u128(key).to_string(),
            _ => (key & 0x7fff_ffff_ffff_ffff).to_string(),
        }
    }
}
