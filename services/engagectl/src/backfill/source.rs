//! Postgres: identity, the lock, the revision, snapshots, and the rows of a range.
//!
//! Invariant: nothing is written; all rows between two renewals come from one snapshot, in which every transaction from before
//! the revision was noted has ended.

use std::time::{Duration, Instant};

use engagement::event::Micros;
use futures_util::StreamExt as _;
use platform::{DatabaseSettings, Schema};
use secrecy::{ExposeSecret, SecretString};
use service::Failure;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::mpsc;

use super::ledger::{Database, Page, Work};
use super::rows::{COLUMNS, CONTENT, Columns, EVENTS, Row, Tables, Wanted};

/// Rows that are confirmed together ..
const PAGE_ROWS: usize = 2000;
/// .. or so many bytes of them.
const PAGE_BYTES: usize = 1 << 20;
/// Key of the advisory lock: the bytes of "eng" and of "back".
const LOCK: (i32, i32) = (6_647_399, 1_650_549_611);
/// Up to so many rows they are counted, not estimated.
const COUNTED: u64 = 500_000;
/// How long transactions from before the run may stay open.
const OPEN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// Rows of a range that are confirmed together.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) page: Page,
    pub(super) rows: Vec<Row>,
}

/// The database, as one connection sees it; it holds the lock while it lives.
pub(super) struct Source {
    connection: PgConnection,
    options: PgConnectOptions,
    pub(super) database: Database,
    pub(super) tables: Tables,
}

/// One moment of the database, for any number of readers.
pub(super) struct Snapshot {
    /// Keeps it alive.
    holder: PgConnection,
    name: String,
    /// Where the log was after it was taken: what it shows was committed below.
    pub(super) lsn: u64,
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
        let database = identity(&mut connection).await?;
        let tables = tables(&mut connection, settings.schema).await?;
        if let Some(problem) = tables.problem() {
            return Err(Failure::repair(problem)
                .remedy("correct DATABASE_URL or database.schema, or grant SELECT on both tables")
                .next("engagectl check"));
        }
        Ok(Self {
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
        let holder: Option<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = $2 AND granted LIMIT 1",
        )
        .bind(i64::from(class))
        .bind(i64::from(object))
        .fetch_optional(&mut self.connection)
        .await
        .map_err(|error| asked("looking for the holder of the lock", &error))?;
        let holder = holder.map_or_else(String::new, |pid| format!(" (backend {pid} of Postgres)"));
        Err(
            Failure::try_again(format!("another backfill runs in this database{holder}"))
                .remedy("wait for it, or stop it; it can be resumed")
                .next("engagectl backfill --list"),
        )
    }

    /// Rows of a range, and their bytes, about; and whether the rows were counted.
    pub(super) async fn size(&mut self, wanted: &Wanted<'_>) -> Result<(u64, u64, bool), Failure> {
        let plan: serde_json::Value =
            sqlx::query_scalar(AssertSqlSafe(self.tables.estimate(wanted)))
                .fetch_one(&mut self.connection)
                .await
                .map_err(|error| asked("estimating the rows", &error))?;
        let of = |name: &str| plan[0]["Plan"][name].as_u64().unwrap_or(0);
        let (rows, width) = (of("Plan Rows"), of("Plan Width"));
        if rows > COUNTED {
            return Ok((rows, rows * width, false));
        }
        let counted: i64 = sqlx::query_scalar(AssertSqlSafe(self.tables.count(wanted)))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| asked("counting the rows", &error))?;
        let counted = u64::try_from(counted).unwrap_or(0);
        Ok((counted, counted * width, true))
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

    /// Whether an index helps to read a time.
    pub(super) async fn has_index(&mut self) -> Result<bool, Failure> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
             WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND a.attname = 'event_ts')",
        )
        .bind(EVENTS)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|error| asked("looking for an index", &error))
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

    /// A snapshot in which every transaction below `horizon` has ended.
    pub(super) async fn snapshot(&mut self, horizon: i64) -> Result<Snapshot, Failure> {
        let begun = Instant::now();
        loop {
            let (snapshot, oldest) = self.take().await?;
            if oldest >= horizon {
                return Ok(snapshot);
            }
            drop(snapshot.holder.close().await);
            if begun.elapsed() > OPEN {
                return Err(self.still_open().await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A snapshot, and the oldest transaction that is not ended in it.
    async fn take(&self) -> Result<(Snapshot, i64), Failure> {
        let mut holder = connect(&self.options).await?;
        sqlx::raw_sql(BEGIN)
            .execute(&mut holder)
            .await
            .map_err(|error| asked("beginning a snapshot", &error))?;
        let (name, oldest, lsn): (String, i64, i64) = sqlx::query_as(
            "SELECT pg_export_snapshot(), pg_snapshot_xmin(pg_current_snapshot())::text::bigint, \
             (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint",
        )
        .fetch_one(&mut holder)
        .await
        .map_err(|error| asked("taking a snapshot", &error))?;
        let lsn = u64::try_from(lsn).unwrap_or(0);
        Ok((Snapshot { holder, name, lsn }, oldest))
    }

    async fn still_open(&mut self) -> Result<Failure, Failure> {
        let open: Vec<(i32, String)> = sqlx::query_as(
            "SELECT pid, coalesce(application_name, '') || ' since ' || date_trunc('second', xact_start)::text FROM pg_stat_activity \
             WHERE backend_xid IS NOT NULL AND xact_start < now() - interval '30 seconds' ORDER BY xact_start LIMIT 5",
        )
        .fetch_all(&mut self.connection)
        .await
        .map_err(|error| asked("looking for open transactions", &error))?;
        let open: Vec<String> = open
            .iter()
            .map(|(pid, what)| format!("{pid} ({what})"))
            .collect();
        let who = if open.is_empty() {
            "prepared ones, or of other roles: pg_prepared_xacts, pg_stat_activity".to_owned()
        } else {
            open.join(", ")
        };
        Ok(Failure::try_again(format!(
            "transactions from before the run are still open after {} s: {who}",
            OPEN.as_secs()
        ))
        .remedy("end them (pg_terminate_backend), or wait: before that, what they change cannot be told from what is read"))
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

    /// A reader of rows in the snapshot.
    pub(super) async fn reader(&self, snapshot: &Snapshot) -> Result<Reader, Failure> {
        let mut connection = connect(&self.options).await?;
        // the name is Postgres' own
        let sql = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{}'", snapshot.name);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .map_err(|error| asked("reading in the snapshot", &error))?;
        Ok(Reader {
            connection,
            tables: self.tables.clone(),
        })
    }
}

impl Snapshot {
    /// Lets Postgres forget it.
    pub(super) async fn close(self) {
        // nothing was written, so nothing can be lost
        drop(self.holder.close().await);
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Reads ranges, one after the other.
pub(super) struct Reader {
    connection: PgConnection,
    tables: Tables,
}

impl Reader {
    /// Sends the rows of a range page by page; ends early when nobody takes them any more.
    pub(super) async fn read(
        &mut self,
        work: &Work,
        content_id: Option<&str>,
        to: &mpsc::Sender<Read>,
    ) -> Result<(), Failure> {
        let sql = self.tables.select(&Wanted {
            range: work.span,
            content_id,
            after: work.after.as_ref(),
        });
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut self.connection);
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().await {
            let row = row.and_then(|row| Row::of(&row));
            let row = row.map_err(|error| asked("reading rows", &error))?;
            bytes += row.weight();
            page.push(row);
            if page.len() >= PAGE_ROWS || bytes >= PAGE_BYTES {
                let full = std::mem::take(&mut page);
                if to.send(read(work.range, full, false)).await.is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
        }
        // nobody takes it: the run was told to stop
        let _ = to.send(read(work.range, page, true)).await;
        Ok(())
    }
}

fn read(range: u32, rows: Vec<Row>, is_last: bool) -> Read {
    let page = Page {
        range,
        rows: rows.len() as u64,
        last: rows.last().map(Row::cursor),
        is_last,
    };
    Read { page, rows }
}

fn options(url: &SecretString) -> Result<PgConnectOptions, Failure> {
    let options: PgConnectOptions = url.expose_secret().parse().map_err(|error: sqlx::Error| {
        Failure::usage("DATABASE_URL cannot be read")
            .cause(error)
            .remedy("write it as postgres://user:password@host:5432/database")
    })?;
    let settings = [
        ("TimeZone", "UTC"),
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
        sqlx::Error::Database(refused) => Failure::internal(format!("Postgres, {step}: {refused}"))
            .remedy("repair what the server's answer names"),
        _ => Failure::unavailable(format!("Postgres went away, {step}: {error}"))
            .remedy("start it again; what was written so far stays"),
    };
    failure.next("engagectl check")
}
