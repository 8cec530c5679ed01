//! The row: what is written, and how it is told from all others.
//!
//! Invariant: every row refers to a content whose slug begins with `engage-canary-`, carries the device [`DEVICE`] and no user.

use platform::{DatabaseSettings, Schema};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// Column `device` of every row.
pub const DEVICE: &str = "engage-canary";
/// How many contents there are by default: keys of sixteen contents reach most of sixteen partitions.
pub const CONTENTS: u16 = 16;

/// A row as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its key as text.
    pub(super) event_id: String,
    /// The content's key as text.
    pub(super) content_id: String,
    /// Microseconds since 1970 UTC.
    pub(super) event_ts: i64,
    /// The value that is looked for.
    pub(super) duration_ms: i64,
}

/// Writes rows, one content after the other.
pub(super) struct Writer {
    url: SecretString,
    schema: Schema,
    contents: u16,
    next: u16,
    connection: Option<PgConnection>,
}

impl Writer {
    /// Nothing is opened yet.
    pub(super) fn new(database: &DatabaseSettings, contents: u16) -> Self {
        Self {
            url: database.url.clone(),
            schema: database.schema,
            contents,
            next: 0,
            connection: None,
        }
    }

    /// Commits one row. A connection that failed is opened again the next time.
    pub(super) async fn write(&mut self) -> Result<Row, sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let content_id = content_id(self.schema, self.next);
        let duration_ms = 1 + (service::backoff::random() % 1000).cast_signed();
        let answer = sqlx::query(AssertSqlSafe(insert(self.schema)))
            .bind(&content_id)
            .bind(i32::try_from(duration_ms).unwrap_or(1))
            .bind(DEVICE)
            .fetch_one(&mut connection)
            .await?;
        self.connection = Some(connection);
        self.next = (self.next + 1) % self.contents;
        Ok(Row {
            event_id: answer.try_get(0)?,
            event_ts: answer.try_get(1)?,
            content_id,
            duration_ms,
        })
    }

    /// The connection does not answer.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect(self.url.expose_secret()).await?;
        for number in 0..self.contents {
            sqlx::query(AssertSqlSafe(insert_content(self.schema)))
                .bind(content_id(self.schema, number))
                .bind(format!("{DEVICE}-{number}"))
                .execute(&mut connection)
                .await?;
        }
        Ok(connection)
    }
}

/// Keys that no generated content has.
fn content_id(schema: Schema, number: u16) -> String {
    match schema {
        Schema::Uuid => format!("ca4a4a00-0000-4000-8000-{:012x}", u64::from(number) + 1),
        Schema::Bigint => format!("-{}", u32::from(number) + 1),
    }
}

const fn key_type(schema: Schema) -> &'static str {
    match schema {
        Schema::Uuid => "uuid",
        Schema::Bigint => "bigint",
    }
}

fn insert_content(schema: Schema) -> String {
    format!(
        "INSERT INTO content ({}, slug, title, content_type, length_seconds, publish_ts) \
         VALUES ($1::text::{}, $2, 'Engage canary', 'podcast', 100, now()) ON CONFLICT DO NOTHING",
        schema.content_key(),
        key_type(schema)
    )
}

fn insert(schema: Schema) -> String {
    format!(
        "INSERT INTO engagement_events (content_id, event_type, duration_ms, device) VALUES ($1::text::{}, 'play', $2, $3) \
         RETURNING {}::text, (extract(epoch FROM event_ts) * 1000000)::bigint",
        key_type(schema),
        schema.event_key()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_have_contents_of_their_own() {
        assert_eq!(
            content_id(Schema::Uuid, 15),
            "ca4a4a00-0000-4000-8000-000000000010"
        );
        assert_eq!(content_id(Schema::Bigint, 0), "-1");
        assert!(insert(Schema::Bigint).contains("$1::text::bigint"));
        assert!(insert(Schema::Bigint).contains("RETURNING event_id::text"));
        assert!(insert_content(Schema::Uuid).starts_with("INSERT INTO content (id, slug"));
    }
}
