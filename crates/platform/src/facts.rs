//! What the servers say of themselves at run time, for whoever judges it. Reads only.
//!
//! Invariant: a right that is lacking is an answer, not an error.

use sqlx::PgConnection;

use crate::plan::Component;
use crate::postgres::HEARTBEAT_TABLE;
use crate::slot_state::{self, SlotState};
use crate::{ClickHouseSettings, DatabaseSettings, PlatformError, clickhouse};

/// A server's clock, and this machine's before and after it was asked; microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Here, before.
    pub before: i64,
    /// There.
    pub server: i64,
    /// Here, after.
    pub after: i64,
}

/// What Postgres says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// `server_version`, for example `15.14 (Debian 15.14-0+deb12u1)`.
    pub version: String,
    /// The replication slot.
    pub slot: SlotState,
    /// What Debezium writes every few seconds.
    pub heartbeat: Heartbeat,
    /// Its clock.
    pub clock: Answered,
}

/// The row that Debezium writes every few seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// There is no such table.
    NoTable,
    /// This role may not read it.
    Hidden,
    /// The table is empty, so that an update changes nothing.
    NoRow,
    /// When it was written, microseconds since 1970 by the database's clock.
    Written(i64),
}

/// Asks Postgres; any role may, but for the heartbeat.
///
/// # Errors
/// It does not answer.
pub async fn database_facts(
    settings: &DatabaseSettings,
    slot: &str,
) -> Result<DatabaseFacts, PlatformError> {
    let mut connection = settings.connect().await?;
    let version = version(&mut connection).await?;
    let slot = slot_state::look(&mut connection, slot).await?;
    let heartbeat = heartbeat(&mut connection).await?;
    let before = service::clock::now();
    let (server,): (i64,) =
        sqlx::query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            .fetch_one(&mut connection)
            .await
            .map_err(|e| PlatformError::refused(Component::Postgres, "reading its clock", e))?;
    let clock = Answered {
        before,
        server,
        after: service::clock::now(),
    };
    Ok(DatabaseFacts {
        version,
        slot,
        heartbeat,
        clock,
    })
}

async fn version(connection: &mut PgConnection) -> Result<String, PlatformError> {
    let asked: Result<(String,), _> = sqlx::query_as("SHOW server_version")
        .fetch_one(connection)
        .await;
    asked
        .map(|(version,)| version)
        .map_err(|e| PlatformError::refused(Component::Postgres, "reading its version", e))
}

/// Whether the row is there, as far as this role may tell.
pub(crate) async fn heartbeat(connection: &mut PgConnection) -> Result<Heartbeat, PlatformError> {
    let refused = |e| PlatformError::refused(Component::Postgres, "reading the heartbeat", e);
    let (is_there, is_readable): (bool, bool) = sqlx::query_as(
        "SELECT t IS NOT NULL, t IS NOT NULL AND has_table_privilege(t::oid, 'SELECT') FROM to_regclass('public.' || $1) t",
    )
    .bind(HEARTBEAT_TABLE)
    .fetch_one(&mut *connection)
    .await
    .map_err(refused)?;
    match (is_there, is_readable) {
        (false, _) => return Ok(Heartbeat::NoTable),
        (true, false) => return Ok(Heartbeat::Hidden),
        (true, true) => {}
    }
    let written: Option<(i64,)> = sqlx::query_as(
        "SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM public.engage_heartbeat WHERE id = 1",
    )
    .fetch_optional(connection)
    .await
    .map_err(refused)?;
    Ok(written.map_or(Heartbeat::NoRow, |(at,)| Heartbeat::Written(at)))
}

/// Asks ClickHouse one thing, read-only, and gives the text of its answer.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn ask_clickhouse(
    settings: &ClickHouseSettings,
    what: &str,
    sql: &str,
) -> Result<String, PlatformError> {
    let mut reading = settings.clone();
    reading.url.query_pairs_mut().append_pair("readonly", "1");
    clickhouse::query(&reading, what, sql).await
}
