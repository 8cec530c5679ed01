//! Writes generated rows into Postgres, one committed statement for each kind of change of a batch.
//!
//! Invariant: rows get their numbers in the order of the script, and only what Postgres has committed is counted.

use std::collections::VecDeque;

use platform::Schema;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::contents::ContentRow;
use super::rows::EventRow;
use super::script::{Batch, REMEMBERED};

/// A connection to the source database, the contents that events refer to, and the newest rows.
#[derive(Debug)]
pub struct Writer {
    connection: PgConnection,
    key_type: &'static str,
    event_key: &'static str,
    content_key: &'static str,
    contents: Vec<String>,
    /// The keys of the newest rows; the first of them is row number `oldest`.
    keys: VecDeque<String>,
    oldest: u64,
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
            keys: VecDeque::new(),
            oldest: 0,
        })
    }

    /// Inserts these contents, or gives them title and length again where they have others, so that events can refer to them
    /// by their place from `first` on.
    ///
    /// # Errors
    /// What Postgres answered.
    pub async fn write_contents(
        &mut self,
        first: usize,
        rows: &[ContentRow],
    ) -> Result<(), sqlx::Error> {
        let numbered = rows.iter().enumerate();
        let numbered: Vec<_> = numbered.map(|(n, row)| (first + n, row)).collect();
        self.upsert(&numbered).await
    }

    /// Writes one batch: contents, new rows, corrections, deletions, each in a transaction of its own.
    ///
    /// # Errors
    /// What Postgres answered; nothing of that statement is written then.
    pub async fn write(&mut self, batch: &Batch) -> Result<(), sqlx::Error> {
        if !batch.contents.is_empty() {
            let changed: Vec<_> = batch.contents.iter().map(|(n, row)| (*n, row)).collect();
            self.upsert(&changed).await?;
        }
        let keys = self.insert(&batch.rows).await?;
        self.remember(keys);
        if !batch.updated.is_empty() {
            let correct =
                "UPDATE engagement_events SET duration_ms = coalesce(duration_ms, 0) + 1000";
            self.change(correct, &batch.updated).await?;
        }
        if !batch.deleted.is_empty() {
            let delete = "DELETE FROM engagement_events";
            self.change(delete, &batch.deleted).await?;
        }
        Ok(())
    }

    async fn upsert(&mut self, rows: &[(usize, &ContentRow)]) -> Result<(), sqlx::Error> {
        let (key, key_type) = (self.content_key, self.key_type);
        let insert = format!(
            "INSERT INTO content AS old ({key}, slug, title, content_type, length_seconds, publish_ts) \
             SELECT k::{key_type}, s, t, c, l, now() FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[]) \
             AS r(k, s, t, c, l) ON CONFLICT ({key}) DO UPDATE SET title = excluded.title, length_seconds = excluded.length_seconds \
             WHERE (old.title, old.length_seconds) IS DISTINCT FROM (excluded.title, excluded.length_seconds)"
        );
        let keys: Vec<String> = rows.iter().map(|(_, r)| self.key_text(r.key)).collect();
        sqlx::query(AssertSqlSafe(insert))
            .bind(&keys)
            .bind(rows.iter().map(|(_, r)| r.slug.clone()).collect::<Vec<_>>())
            .bind(
                rows.iter()
                    .map(|(_, r)| r.title.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(rows.iter().map(|(_, r)| r.content_type).collect::<Vec<_>>())
            .bind(
                rows.iter()
                    .map(|(_, r)| r.length_seconds)
                    .collect::<Vec<_>>(),
            )
            .execute(&mut self.connection)
            .await?;
        for ((index, _), key) in rows.iter().zip(keys) {
            match self.contents.get_mut(*index) {
                Some(known) => *known = key,
                None => self.contents.push(key),
            }
        }
        Ok(())
    }

    /// Inserts one batch in one transaction and returns the new keys as text.
    async fn insert(&mut self, rows: &[EventRow]) -> Result<Vec<String>, sqlx::Error> {
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

    /// As many as a batch may name: those of the script, and the rows of the batch itself.
    fn remember(&mut self, keys: Vec<String>) {
        let kept = REMEMBERED + keys.len();
        self.keys.extend(keys);
        let excess = self.keys.len().saturating_sub(kept);
        self.keys.drain(..excess);
        self.oldest += excess as u64;
    }

    /// `what` is a statement that lacks its condition.
    async fn change(&mut self, what: &str, numbers: &[u64]) -> Result<(), sqlx::Error> {
        let key = |number: &u64| {
            let at = usize::try_from(number.checked_sub(self.oldest)?).ok()?;
            self.keys.get(at).cloned()
        };
        let keys: Vec<String> = numbers.iter().filter_map(key).collect();
        // events are numbered in both layouts; by the key's own type its index serves
        let sql = format!(
            "{what} WHERE {} = ANY($1::text[]::bigint[])",
            self.event_key
        );
        sqlx::query(AssertSqlSafe(sql))
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
