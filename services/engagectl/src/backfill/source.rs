//! Postgres, as a plan asks it: identity, the lock, sizes, and where its log is. Its rows are read in a [`Snapshot`].
//!
//! Invariant: nothing is written.

mod snapshot;

use engagement::event::Micros;
use platform::{DatabaseSettings, Schema};
use secrecy::{ExposeSecret, SecretString};
use service::Failure;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::ledger::Database;
use super::rows::{COLUMNS, CONTENT, Columns, EVENTS, Tables, Wanted};
use super::view::Size;
pub(super) use snapshot::{Read, Snapshot};

/// Key of the advisory lock: the bytes of "eng" and of "back".
const LOCK: (i32, i32) = (6_647_399, 1_650_549_611);
/// The connection holds the lock also while nothing is asked. Servers older than 14 do not have it.
const STAYS: &str =
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
/// Up to so many rows they are counted, not estimated ..
const COUNTED: u64 = 500_000;
/// .. where an index leads to them, or the table has no more than these.
const SMALL: f32 = 5_000_000.0;

/// The database, as one connection sees it; it holds the lock while it lives.
pub(super) struct Source {
    connection: PgConnection,
    options: PgConnectOptions,
    pub(super) database: Database,
    pub(super) tables: Tables,
    /// An index helps to read a time.
    pub(super) indexed: bool,
    /// Few enough rows to be read just to count some.
    small: bool,
}

/// What a plan has to know of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Horizon {
    /// Everything that is not committed now stands above it.
    pub(super) lsn: u64,
    /// The next transaction id.
    pub(super) xid: i64,
}

impl Source {
    /// Connects and looks at the tables.
    pub(super) async fn open(settings: &DatabaseSettings) -> Result<Self, Failure> {
        let options = options(&settings.url)?;
        let mut connection = connect(&options).await?;
        sqlx::raw_sql(STAYS)
            .execute(&mut connection)
            .await
            .map_err(|error| asked("keeping the connection", &error))?;
        let database = identity(&mut connection).await?;
        let tables = tables(&mut connection, settings.schema).await?;
        if let Some(problem) = tables.problem() {
            return Err(Failure::repair(problem)
                .remedy("correct DATABASE_URL or database.schema, or grant SELECT on both tables")
                .next("engagectl check"));
        }
        Ok(Self {
            indexed: has_index(&mut connection).await?,
            small: is_small(&mut connection).await?,
            connection,
            options,
            database,
            tables,
        })
    }

    /// One backfill at a time in a database.
    pub(super) async fn lock(&mut self) -> Result<(), Failure> {
        let (class, object) = LOCK;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(class)
            .bind(object)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| asked("taking the lock", &error))?;
        if taken {
            return Ok(());
        }
        let holder: Option<String> = sqlx::query_scalar(
            "SELECT concat_ws(' ', 'backend', pid, 'of Postgres from', client_addr) FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) \
             WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = $2 AND granted LIMIT 1",
        )
        .bind(i64::from(class))
        .bind(i64::from(object))
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|error| asked("looking for the holder of the lock", &error))?;
        let holder = holder.map_or_else(String::new, |holder| format!(" ({holder})"));
        Err(
            Failure::try_again(format!("another backfill runs in this database{holder}"))
                .remedy("wait for it, or interrupt that engagectl (Ctrl-C); it can be resumed")
                .next("engagectl backfill --list"),
        )
    }

    /// The lock is held for as long as this connection is.
    ///
    /// # Errors
    /// Postgres is gone (69), or only that connection: another backfill may have begun (75).
    pub(super) async fn still_locked(&mut self) -> Result<(), Failure> {
        let Err(error) = self.connection.ping().await else {
            return Ok(());
        };
        connect(&self.options).await?;
        Err(
            Failure::try_again("the connection that keeps other backfills away is gone")
                .cause(error)
                .remedy("what was written so far is noted; look who has ended it"),
        )
    }

    /// Rows of a range, and their bytes, about.
    pub(super) async fn size(&mut self, wanted: &Wanted<'_>) -> Result<Size, Failure> {
        let plan: serde_json::Value =
            sqlx::query_scalar(AssertSqlSafe(self.tables.estimate(wanted)))
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| asked("estimating the rows", &error))?;
        let of = |name: &str| plan[0]["Plan"][name].as_u64().unwrap_or(0);
        let (rows, width, indexed) = (of("Plan Rows"), of("Plan Width"), self.indexed);
        let size = |rows, counted| Size {
            rows,
            bytes: rows * width,
            counted,
            indexed,
            speed: None,
        };
        if rows > COUNTED || !(self.indexed || self.small) {
            return Ok(size(rows, false));
        }
        let counted: i64 = sqlx::query_scalar(AssertSqlSafe(self.tables.count(wanted)))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| asked("counting the rows", &error))?;
        Ok(size(u64::try_from(counted).unwrap_or(0), true))
    }

    /// The time of the first and of the last event; `None`: there is none.
    pub(super) async fn extent(&mut self) -> Result<Option<(Micros, Micros)>, Failure> {
        let (first, last): (Option<i64>, Option<i64>) =
            sqlx::query_as(AssertSqlSafe(self.tables.extent()))
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| asked("looking for the first and the last event", &error))?;
        Ok(first.map(Micros).zip(last.map(Micros)))
    }

    /// Notes where the log is, then the next transaction id: in this order, whatever gets an id later writes later.
    pub(super) async fn horizon(&mut self) -> Result<Horizon, Failure> {
        let lsn: i64 =
            sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| asked("reading the position of the log", &error))?;
        let xid: i64 =
            sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| asked("reading the next transaction id", &error))?;
        Ok(Horizon {
            lsn: u64::try_from(lsn).unwrap_or(0),
            xid,
        })
    }

    /// Whether a replication slot has confirmed everything below `lsn`; `None`: there is no such slot.
    pub(super) async fn confirmed(&mut self, slot: &str) -> Result<Option<u64>, Failure> {
        let found: Option<Option<i64>> = sqlx::query_scalar(
            "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1",
        )
        .bind(slot)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|error| asked("reading the replication slot", &error))?;
        Ok(found.flatten().and_then(|lsn| u64::try_from(lsn).ok()))
    }
}

fn options(url: &SecretString) -> Result<PgConnectOptions, Failure> {
    let options: PgConnectOptions = url.expose_secret().parse().map_err(|error: sqlx::Error| {
        Failure::usage("DATABASE_URL cannot be read")
            .cause(error)
            .remedy("write it as postgres://user:password@host:5432/database")
    })?;
    let settings = [
        ("TimeZone", "UTC"),
        ("standard_conforming_strings", "on"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
    ];
    Ok(options
        .application_name("engagectl-backfill")
        .options(settings)
        .disable_statement_logging())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    PgConnection::connect_with(options).await.map_err(|error| {
        Failure::unavailable("Postgres cannot be reached")
            .cause(error)
            .remedy("start it, or correct DATABASE_URL")
            .next("engagectl check")
    })
}

async fn identity(connection: &mut PgConnection) -> Result<Database, Failure> {
    let (system, timeline, name): (String, i64, String) = sqlx::query_as(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
         (SELECT timeline_id::bigint FROM pg_control_checkpoint()), current_database()::text",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| asked("asking which database this is", &error))?;
    Ok(Database {
        system,
        timeline,
        name,
    })
}

async fn tables(connection: &mut PgConnection, schema: Schema) -> Result<Tables, Failure> {
    Ok(Tables {
        schema,
        events: columns(connection, EVENTS).await?,
        content: columns(connection, CONTENT).await?,
    })
}

async fn columns(connection: &mut PgConnection, table: &str) -> Result<Columns, Failure> {
    let found: Vec<(String, String)> = sqlx::query_as(COLUMNS)
        .bind(table)
        .fetch_all(connection)
        .await
        .map_err(|error| asked("reading the columns", &error))?;
    Ok(found.into_iter().collect())
}

async fn has_index(connection: &mut PgConnection) -> Result<bool, Failure> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND a.attname = 'event_ts')",
    )
    .bind(EVENTS)
    .fetch_one(connection)
    .await
    .map_err(|error| asked("looking for an index", &error))
}

async fn is_small(connection: &mut PgConnection) -> Result<bool, Failure> {
    let rows: Option<f32> =
        sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = to_regclass($1)")
            .bind(EVENTS)
            .fetch_optional(connection)
            .await
            .map_err(|error| asked("looking at the size of the table", &error))?;
    Ok(rows.is_none_or(|rows| rows <= SMALL))
}

/// Whether an error of this class says that the server is not there, or does not take anybody now.
fn is_away(code: Option<&str>) -> bool {
    // connection exceptions, insufficient resources, operator intervention (but not a cancelled statement)
    let of = |class: &str| code.is_some_and(|code| code.starts_with(class));
    of("08") || of("53") || (of("57") && code != Some("57014"))
}

/// What went wrong: an answer of the server, or that there was none.
fn asked(step: &str, error: &sqlx::Error) -> Failure {
    let failure = match error {
        sqlx::Error::Database(refused) if refused.code().as_deref() == Some("55000") => {
            Failure::usage(format!("Postgres, {step}: {refused}"))
                .remedy("name the primary in DATABASE_URL: a standby cannot tell where the log is")
        }
        // the only value that is the person's: everything else comes from the database itself
        sqlx::Error::Database(refused) if refused.code().as_deref() == Some("22P02") => {
            Failure::usage(format!("Postgres, {step}: {refused}"))
                .remedy("give --content-id as engagement_events.content_id has it")
        }
        sqlx::Error::Database(refused) if is_away(refused.code().as_deref()) => {
            Failure::unavailable(format!("Postgres went away, {step}: {refused}")).remedy(
                "start it again, or give it more connections; what was written so far stays",
            )
        }
        sqlx::Error::Database(refused) => Failure::internal(format!("Postgres, {step}: {refused}"))
            .remedy("repair what the server's answer names"),
        _ => Failure::unavailable(format!("Postgres went away, {step}: {error}"))
            .remedy("start it again; what was written so far stays"),
    };
    failure.next("engagectl check")
}
