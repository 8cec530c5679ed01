//! Reads the truth.
//!
//! Invariant: everything is read in one transaction that is `REPEATABLE READ READ ONLY`, so that all of it is one
//! moment; rows are streamed, never collected.

use std::time::Duration;

use engagement::event::Micros;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use secrecy::ExposeSecret;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use url::Url;

use crate::cell::{Cell, Digest, MINUTE};
use crate::error::Error;
use crate::rows::NamedRow;
use crate::sources::{Options, PostgresSource};
use crate::sums::{MAX_DURATION_MS, Sums};

const WHAT: &str = "Postgres";
/// Buckets are counted from here: before every time that the column can hold with a calendar.
const ORIGIN: &str = "timestamptz '4713-01-01 00:00:00+00 BC'";

/// One moment of the source table.
pub(crate) struct Source {
    connection: PgConnection,
    table: String,
    key: &'static str,
    types: Types,
}

/// Types of columns that are compared with parameters.
struct Types {
    key: String,
}

impl Source {
    /// Connects and begins the transaction.
    pub(crate) async fn open(source: &PostgresSource) -> Result<Self, Error> {
        let url = source.url.expose_secret();
        let mut connection = PgConnection::connect(url)
            .await
            .map_err(|e| Error::Unreachable {
                what: WHAT,
                place: place(url),
                cause: e.to_string(),
                setting: "DATABASE_URL",
            })?;
        sqlx::raw_sql(AssertSqlSafe(begin(source.statement_timeout)))
            .execute(&mut connection)
            .await
            .map_err(|e| Error::refused(WHAT, "a read-only transaction", e))?;
        let key = source.schema.event_key();
        let types = types(&mut connection, &source.table, key).await?;
        Ok(Self {
            connection,
            table: source.table.clone(),
            key,
            types,
        })
    }

    /// The sums of every cell in the order of cells, without the events named.
    pub(crate) fn cells<'a>(
        &'a mut self,
        options: &Options,
        without: &[String],
    ) -> BoxStream<'a, Result<(Cell, Digest), Error>> {
        let sql = self.cells_sql(options);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(self.without(without));
        query
            .fetch(&mut self.connection)
            .map(|row| row.and_then(|row| cell(&row)))
            .map(|found| {
                found.map_err(|e| Error::refused(WHAT, "the sums per minute and content", e))
            })
            .boxed()
    }

    /// The rows of some cells in the order of cells, then ids.
    pub(crate) fn rows<'a>(
        &'a mut self,
        cells: &[Cell],
        options: &Options,
        without: &[String],
    ) -> BoxStream<'a, Result<NamedRow, Error>> {
        let sql = self.rows_sql(options);
        let minutes: Vec<i64> = cells.iter().map(|cell| cell.minute).collect();
        let contents: Vec<Option<String>> = cells.iter().map(|cell| cell.content.clone()).collect();
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(self.without(without))
            .bind(minutes)
            .bind(contents);
        query
            .fetch(&mut self.connection)
            .map(|row| row.and_then(|row| named(&row)))
            .map(|found| found.map_err(|e| Error::refused(WHAT, "the rows of some minutes", e)))
            .boxed()
    }

    /// The sums of every content over the whole table, as the aggregator counts.
    pub(crate) fn totals(&mut self) -> BoxStream<'_, Result<(String, Sums), Error>> {
        let sql = totals_sql(&self.table);
        sqlx::query(AssertSqlSafe(sql))
            .fetch(&mut self.connection)
            .map(|row| row.and_then(|row| total(&row)))
            .map(|found| found.map_err(|e| Error::refused(WHAT, "the sums per content", e)))
            .boxed()
    }

    /// Ends the transaction.
    pub(crate) async fn close(self) {
        // Nothing was written, so nothing can be lost.
        drop(self.connection.close().await);
    }

    fn cells_sql(&self, options: &Options) -> String {
        format!(
            "SELECT {}, content, events, timed, ms, hash FROM (SELECT {} AS at, content_id::text COLLATE \"C\" AS content, \
             count(*) AS events, count(duration_ms) AS timed, coalesce(sum(duration_ms), 0)::text AS ms, \
             bit_xor(('x' || substr(md5(concat({}, '|', event_type, '|', duration_ms)), 1, 16))::bit(64)::bigint) AS hash \
             FROM {} WHERE {} GROUP BY 1, content_id) AS cells ORDER BY at, content NULLS FIRST",
            minute("at"),
            bucket("event_ts"),
            self.key,
            self.table,
            self.filter(options),
        )
    }

    fn rows_sql(&self, options: &Options) -> String {
        format!(
            "SELECT wanted.minute, wanted.content, {0}::text COLLATE \"C\" AS id, coalesce(event_type::text, ''), \
             duration_ms::bigint FROM {1} JOIN unnest($2::bigint[], $3::text[]) AS wanted (minute, content) \
             ON {2} = wanted.minute AND content_id::text IS NOT DISTINCT FROM wanted.content WHERE {3} \
             ORDER BY wanted.minute, wanted.content COLLATE \"C\" NULLS FIRST, id",
            self.key,
            self.table,
            minute(&bucket("event_ts")),
            self.filter(options),
        )
    }

    /// `$1` are the ids to leave out.
    fn filter(&self, options: &Options) -> String {
        let mut filter = format!("{} <> ALL ($1::text[]::{}[])", self.key, self.types.key);
        for (bound, operator) in [(options.from, ">="), (options.to, "<")] {
            if let Some(at) = bound {
                filter += &format!(" AND event_ts {operator} {}", literal(at));
            }
        }
        filter
    }

    /// The ids that can be keys of this table: a letter may name anything.
    fn without(&self, ids: &[String]) -> Vec<String> {
        let fits = |id: &&String| match self.types.key.as_str() {
            "smallint" | "integer" | "bigint" => id.parse::<i64>().is_ok(),
            "uuid" => is_uuid(id),
            _ => true,
        };
        ids.iter().filter(fits).cloned().collect()
    }
}

fn begin(timeout: Duration) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL TimeZone = 'UTC'; \
         SET LOCAL statement_timeout = {}; SET LOCAL work_mem = '64MB'",
        timeout.as_millis()
    )
}

async fn types(connection: &mut PgConnection, table: &str, key: &str) -> Result<Types, Error> {
    let sql = "SELECT format_type(atttypid, NULL) FROM pg_attribute \
               WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped";
    let found: Option<String> = sqlx::query_scalar(sql)
        .bind(table)
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(|e| Error::refused(WHAT, format!("the columns of {table}"), e))?;
    let key = found.ok_or_else(|| {
        Error::unexpected(
            WHAT,
            format!("the columns of {table}"),
            format!("no column {key}"),
            "the table with that key (the layout is the setting database.schema)",
        )
    })?;
    Ok(Types { key })
}

fn totals_sql(table: &str) -> String {
    let counts: String = ["play", "pause", "finish", "click"]
        .map(|name| format!(", count(*) FILTER (WHERE event_type = '{name}')"))
        .concat();
    format!(
        "SELECT content_id::text, count(*), coalesce(sum(duration_ms), 0)::bigint, count(duration_ms){counts} FROM {table} \
         WHERE content_id IS NOT NULL AND coalesce(abs(duration_ms::bigint), 0) <= {MAX_DURATION_MS} GROUP BY content_id"
    )
}

fn total(row: &PgRow) -> sqlx::Result<(String, Sums)> {
    let mut sums = Sums::default();
    for (index, sum) in sums.iter_mut().enumerate() {
        *sum = row.try_get(index + 1)?;
    }
    Ok((row.try_get(0)?, sums))
}

/// The minute in which a time lies, as the time at which it begins.
fn bucket(column: &str) -> String {
    format!("date_bin('1 minute', {column}::timestamptz, {ORIGIN})")
}

/// Minutes since 1970 of a time at which a minute begins; infinite times are the first and the last.
fn minute(begin: &str) -> String {
    format!(
        "CASE WHEN isfinite({begin}) THEN (extract(epoch FROM {begin}) / 60)::bigint \
         WHEN {begin} > now() THEN 9223372036854775807 ELSE -9223372036854775808 END"
    )
}

fn literal(at: Micros) -> String {
    // In two numbers: a double cannot hold microseconds since 1970.
    let (minutes, rest) = (at.0.div_euclid(MINUTE), at.0.rem_euclid(MINUTE));
    format!(
        "(timestamptz 'epoch' + interval '1 minute' * {minutes} + interval '1 microsecond' * {rest})"
    )
}

fn cell(row: &PgRow) -> sqlx::Result<(Cell, Digest)> {
    let ms: String = row.try_get(4)?;
    let digest = Digest {
        events: row.try_get(2)?,
        timed: row.try_get(3)?,
        ms: ms.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
        hash: row.try_get::<i64, _>(5)?.cast_unsigned(),
    };
    let cell = Cell {
        minute: row.try_get(0)?,
        content: row.try_get(1)?,
    };
    Ok((cell, digest))
}

fn named(row: &PgRow) -> sqlx::Result<NamedRow> {
    Ok(NamedRow {
        cell: Cell {
            minute: row.try_get(0)?,
            content: row.try_get(1)?,
        },
        id: row.try_get(2)?,
        event_type: row.try_get(3)?,
        duration_ms: row.try_get(4)?,
    })
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Where a database is, without user and password.
fn place(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| "an address that is no URL".into(),
        |url| {
            let host = url.host_str().unwrap_or("localhost");
            format!("{host}:{}{}", url.port().unwrap_or(5432), url.path())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_error() {
        assert_eq!(place("postgres://u:secret@db:1/engage"), "db:1/engage");
        assert!(!place("secret").contains("secret"));
    }

    #[test]
    fn a_bound_is_exact_to_the_microsecond() {
        assert_eq!(
            literal(Micros(1_700_000_000_123_457)),
            "(timestamptz 'epoch' + interval '1 minute' * 28333333 + interval '1 microsecond' * 20123457)"
        );
    }

    #[test]
    fn what_is_no_uuid_is_never_asked_for_as_one() {
        assert!(is_uuid("be404e00-0000-4000-8000-000000000001"));
        assert!(!is_uuid("be404e00-0000-4000-8000-00000000000x") && !is_uuid("7"));
    }
}
