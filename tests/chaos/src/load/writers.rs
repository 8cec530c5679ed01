//! The kinds of writers and their statements.
//!
//! Invariant: keys are remembered only after their transaction was committed.

use std::time::Duration;

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::rows::COLUMNS;
use super::{LoadOptions, Rows, Shared};

/// Rows of one bulk transaction.
const BULK: usize = 1000;
/// Rows of one COPY.
const COPY: usize = 3000;
/// Rows of one transaction that is rolled back.
const UNDONE: usize = 200;
/// Events changed by one statement.
const CHANGED: usize = 15;

/// What one writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One row a transaction.
    Single,
    /// A thousand rows a transaction.
    Bulk,
    /// Thousands of rows by COPY.
    Copy,
    /// A transaction that is rolled back.
    Undone,
    /// Updates and deletes of events.
    Changes,
    /// New contents with their first events in one transaction, and updates of contents.
    Contents,
    /// Very many rows by COPY, where bursts are wanted.
    Burst,
}

impl Kind {
    const STEADY: [Self; 6] = [
        Self::Single,
        Self::Bulk,
        Self::Copy,
        Self::Undone,
        Self::Changes,
        Self::Contents,
    ];

    /// All that these options want.
    pub(super) fn of(options: &LoadOptions) -> impl Iterator<Item = Self> {
        let burst = options.bursts.map(|_| Self::Burst);
        Self::STEADY.into_iter().chain(burst)
    }

    /// How often it writes.
    pub(super) fn every(self, options: &LoadOptions) -> Duration {
        let rate = options.rate;
        let rows = |count: usize, share: f64| {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            Duration::from_secs_f64((count / (rate * share)).max(0.002))
        };
        match self {
            Self::Single => rows(1, 0.10),
            Self::Bulk => rows(BULK, 0.30),
            Self::Copy => rows(COPY, 0.45),
            Self::Undone => rows(UNDONE, 0.10),
            Self::Changes => rows(CHANGED, 0.10),
            Self::Contents => rows(10, 0.05),
            Self::Burst => options.bursts.map_or(Duration::MAX, |bursts| bursts.every),
        }
    }

    pub(super) async fn write(
        self,
        connection: &mut PgConnection,
        shared: &Shared,
        rows: &mut Rows,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Single => insert(connection, shared, rows, 1).await,
            Self::Bulk => insert(connection, shared, rows, BULK).await,
            Self::Copy => copy_rows(connection, shared, rows, COPY).await,
            Self::Burst => {
                let count = shared.options.bursts.map_or(0, |bursts| bursts.rows);
                copy_rows(connection, shared, rows, count).await
            }
            Self::Undone => undone(connection, shared, rows).await,
            Self::Changes => change(connection, shared, rng).await,
            Self::Contents => new_content(connection, shared, rng).await,
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn now() -> i64 {
    service::clock::now()
}

/// Copies into a temporary table of the connection first, so that the keys of what was inserted are known.
async fn insert(
    connection: &mut PgConnection,
    shared: &Shared,
    rows: &mut Rows,
    count: usize,
) -> Result<(), sqlx::Error> {
    let text = rows.copy(&shared.contents, count, now());
    let mut transaction = connection.begin().await?;
    let staging = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS staging ON COMMIT DELETE ROWS AS SELECT {COLUMNS} FROM engagement_events WHERE false"
    );
    sqlx::raw_sql(AssertSqlSafe(staging))
        .execute(&mut *transaction)
        .await?;
    copy(&mut transaction, "staging", &text).await?;
    let sql = format!(
        "INSERT INTO engagement_events ({COLUMNS}) SELECT {COLUMNS} FROM staging RETURNING id"
    );
    let inserted = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let keys: Vec<i64> = inserted.iter().map(|row| row.get(0)).collect();
    shared.remember(&keys);
    Ok(())
}

async fn copy_rows(
    connection: &mut PgConnection,
    shared: &Shared,
    rows: &mut Rows,
    count: usize,
) -> Result<(), sqlx::Error> {
    let text = rows.copy(&shared.contents, count, now());
    copy(connection, "engagement_events", &text).await
}

pub(crate) async fn copy(
    connection: &mut PgConnection,
    table: &str,
    text: &str,
) -> Result<(), sqlx::Error> {
    let sql = format!("COPY {table} ({COLUMNS}) FROM STDIN");
    let mut copying = connection.copy_in_raw(&sql).await?;
    copying.send(text.as_bytes()).await?;
    copying.finish().await.map(drop)
}

async fn undone(
    connection: &mut PgConnection,
    shared: &Shared,
    rows: &mut Rows,
) -> Result<(), sqlx::Error> {
    let text = rows.copy(&shared.contents, UNDONE, now());
    let mut transaction = connection.begin().await?;
    copy(&mut transaction, "engagement_events", &text).await?;
    transaction.rollback().await
}

async fn change(
    connection: &mut PgConnection,
    shared: &Shared,
    rng: &mut ChaCha8Rng,
) -> Result<(), sqlx::Error> {
    let what = rng.random_range(0..6);
    let keys = shared.some_keys(CHANGED, what == 0, rng);
    let content = &shared.contents[rng.random_range(0..shared.contents.len())];
    let sql = match what {
        0 => "DELETE FROM engagement_events WHERE id = ANY($1)".to_owned(),
        1 => update("duration_ms = NULL"),
        2 => update(&format!("duration_ms = {}", rng.random_range(0..100_000))),
        3 => update(&format!(
            "event_ts = event_ts - interval '{} minutes'",
            rng.random_range(1..90_000)
        )),
        4 => update(&format!("content_id = '{content}'")),
        _ => update("content_id = NULL, event_type = 'click', device = 'changed'"),
    };
    sqlx::query(AssertSqlSafe(sql))
        .bind(keys)
        .execute(connection)
        .await
        .map(drop)
}

fn update(what: &str) -> String {
    format!("UPDATE engagement_events SET {what} WHERE id = ANY($1)")
}

/// The events race with their content through two topics.
async fn new_content(
    connection: &mut PgConnection,
    shared: &Shared,
    rng: &mut ChaCha8Rng,
) -> Result<(), sqlx::Error> {
    let id = uuid::Uuid::from_u64_pair(rng.next_u64(), rng.next_u64());
    let length: Option<i32> = rng.random_bool(0.8).then(|| rng.random_range(0..4000));
    let known = &shared.contents[rng.random_range(0..shared.contents.len())];
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO content (id, slug, title, content_type, length_seconds, publish_ts) \
         VALUES ($1, $1::text, 'New', 'video', $2, now())",
    )
    .bind(id)
    .bind(length)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO engagement_events (content_id, event_type, duration_ms) \
         SELECT $1, 'play', n * 1000 FROM generate_series(1, 10) n",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "UPDATE content SET length_seconds = $2, title = title || '.' WHERE id = $1::text::uuid",
    )
    .bind(known)
    .bind(length)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Contents with known keys; those that exist already stay.
pub(super) async fn contents(
    connection: &mut PgConnection,
    rng: &mut ChaCha8Rng,
    count: usize,
) -> Result<Vec<String>, sqlx::Error> {
    let ids: Vec<String> = (0..count)
        .map(|_| uuid::Uuid::from_u64_pair(rng.next_u64(), rng.next_u64()).to_string())
        .collect();
    sqlx::query(
        "INSERT INTO content (id, slug, title, content_type, length_seconds, publish_ts) \
         SELECT i::uuid, i, 'Title ' || n, (ARRAY['podcast', 'newsletter', 'video'])[n % 3 + 1], \
         CASE WHEN n % 7 = 0 THEN NULL ELSE n * 13 % 3600 END, now() \
         FROM unnest($1::text[]) WITH ORDINALITY AS r(i, n) ON CONFLICT DO NOTHING",
    )
    .bind(&ids)
    .execute(connection)
    .await?;
    Ok(ids)
}
