//! The contents and the identity of the source database, read with sqlx.
//!
//! Invariant: nothing here writes to the database, and no question outlives its timeout.

use std::collections::HashMap;
use std::time::Duration;

use engagement::catalog::Content;
use engagement::event::Micros;
use faults::Point;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use super::sql::{self, Columns, KeyType};
use super::{ContentSource, Unavailable};

/// Connections kept at most; also the number of questions at the same time.
pub const CONNECTIONS: u32 = 4;
/// How long [`PostgresContents::refusal`] waits for a connection.
const FIRST: Duration = Duration::from_secs(3);

/// The content table of one database.
#[derive(Debug)]
pub struct PostgresContents {
    pool: Option<PgPool>,
    table: String,
    key: String,
    question: OnceCell<Question>,
}

/// What the table's definition decides.
#[derive(Debug)]
struct Question {
    sql: String,
    key_type: KeyType,
}

/// Key, title, slug, type, length in seconds, publication in microseconds.
type Row = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

impl PostgresContents {
    /// Connects when first asked. Without a URL every question is [`Unavailable`].
    ///
    /// # Errors
    /// The URL does not parse.
    pub fn new(
        url: Option<&SecretString>,
        table: &str,
        key: &str,
        timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let pool = url.map(|url| pool(url, timeout)).transpose()?;
        Ok(Self {
            pool,
            table: table.to_owned(),
            key: key.to_owned(),
            question: OnceCell::new(),
        })
    }

    /// The pool, when a URL is configured.
    #[must_use]
    pub fn pool(&self) -> Option<&PgPool> {
        self.pool.as_ref()
    }

    /// The columns of the content table; empty when there is no such table.
    ///
    /// # Errors
    /// Postgres cannot be asked.
    pub async fn columns(&self) -> Result<Columns, Unavailable> {
        let rows: Vec<(String, String)> = sqlx::query_as(sql::COLUMNS)
            .bind(sql::table_name(&self.table))
            .fetch_all(self.connected()?)
            .await
            .map_err(unavailable)?;
        Ok(rows.into_iter().collect())
    }

    /// Why no connection can be opened, if none can: the pool tries until its time is over, and then says only that.
    pub async fn refusal(&self) -> Option<String> {
        let options = self.pool.as_ref()?.connect_options();
        let opened = PgConnection::connect_with(&options);
        match tokio::time::timeout(FIRST, opened).await {
            Ok(opened) => opened.err().map(|error| error.to_string()),
            Err(_) => Some(format!("no answer within {} s", FIRST.as_secs())),
        }
    }

    fn connected(&self) -> Result<&PgPool, Unavailable> {
        self.pool
            .as_ref()
            .ok_or_else(|| Unavailable("no database is configured; set DATABASE_URL".into()))
    }

    async fn question(&self) -> Result<&Question, Unavailable> {
        self.question
            .get_or_try_init(async || self.compose().await)
            .await
    }

    async fn compose(&self) -> Result<Question, Unavailable> {
        let columns = self.columns().await?;
        let Some(key_type) = columns.get(&self.key) else {
            let Self { table, key, .. } = self;
            return Err(Unavailable(format!(
                "table {table} has no column {key}, or is not visible to this role; set schema.content_table and CONTENT_KEY"
            )));
        };
        Ok(Question {
            sql: sql::contents(&self.table, &self.key, &columns),
            key_type: KeyType::of(key_type),
        })
    }
}

impl ContentSource for PostgresContents {
    async fn fetch(&self, keys: &[String]) -> Result<HashMap<String, Content>, Unavailable> {
        let pool = self.connected()?;
        let question = self.question().await?;
        let valid: Vec<&str> = keys
            .iter()
            .map(String::as_str)
            .filter(|key| question.key_type.accepts(key))
            .collect();
        if valid.is_empty() {
            return Ok(HashMap::new());
        }
        faults::reach(Point::EnricherLookupBefore).await;
        if faults::fails(Point::EnricherLookupBefore) {
            return Err(Unavailable("no answer".to_owned()));
        }
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(question.sql.as_str()))
            .bind(valid)
            .fetch_all(pool)
            .await
            .map_err(unavailable)?;
        faults::reach(Point::EnricherLookupAfter).await;
        Ok(rows.into_iter().filter_map(content).collect())
    }
}

fn pool(url: &SecretString, timeout: Duration) -> Result<PgPool, sqlx::Error> {
    let options: PgConnectOptions = url.expose_secret().parse()?;
    let options = options.application_name("engage-enricher");
    Ok(PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(timeout)
        .connect_lazy_with(options))
}

fn content(
    (key, title, slug, content_type, length_seconds, publish_ts): Row,
) -> Option<(String, Content)> {
    let publish_ts = publish_ts.map(Micros);
    Some((
        key?,
        Content {
            title,
            slug,
            content_type,
            length_seconds,
            publish_ts,
        },
    ))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
fn unavailable(error: sqlx::Error) -> Unavailable {
    Unavailable(error.to_string())
}
