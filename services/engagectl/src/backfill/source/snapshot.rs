//! Rows of one moment of the database, for any number of readers.
//!
//! Invariant: all rows between two renewals come from one snapshot, in which every transaction from before the revision was noted
//! has ended.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use service::Failure;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::mpsc;

use super::{Source, asked, connect};
use crate::backfill::copy::{Broken, Copied};
use crate::backfill::ledger::{Page, Work};
use crate::backfill::rows::{Row, Tables, Wanted};

/// Rows that are confirmed together ..
const PAGE_ROWS: usize = 2000;
/// .. or so many bytes of them.
const PAGE_BYTES: usize = 1 << 20;
/// How long transactions from before the run may stay open.
const OPEN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);
/// A server that sorts notices otherwise only when it is done that nobody waits any more. Older ones than 14 do not have it.
const NOTICE: &str = "SELECT set_config(name, '2s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Rows of a range that are confirmed together.
#[derive(Debug)]
pub(in crate::backfill) struct Read {
    pub(in crate::backfill) page: Page,
    pub(in crate::backfill) rows: Vec<Row>,
}

/// One moment of the database, for any number of readers.
pub(in crate::backfill) struct Snapshot {
    /// Keeps it alive.
    holder: PgConnection,
    name: String,
    /// Where the log was after it was taken: what it shows was committed below.
    pub(in crate::backfill) lsn: u64,
}

impl Source {
    /// A snapshot in which every transaction below `horizon` has ended.
    pub(in crate::backfill) async fn snapshot(
        &mut self,
        horizon: i64,
    ) -> Result<Snapshot, Failure> {
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

    /// A reader of rows in the snapshot.
    pub(in crate::backfill) async fn reader(&self, snapshot: &Snapshot) -> Result<Reader, Failure> {
        let mut connection = connect(&self.options).await?;
        // the name is Postgres' own
        let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{}'", snapshot.name);
        // each for itself: a transaction cannot change its level after its first question
        for sql in [NOTICE.to_owned(), begin] {
            let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection);
            done.await
                .map_err(|error| asked("reading in the snapshot", &error))?;
        }
        Ok(Reader {
            connection,
            tables: self.tables.clone(),
        })
    }
}

impl Snapshot {
    /// Lets Postgres forget it.
    pub(in crate::backfill) async fn close(self) {
        // nothing was written, so nothing can be lost
        drop(self.holder.close().await);
    }
}

/// Reads ranges, one after the other.
pub(in crate::backfill) struct Reader {
    connection: PgConnection,
    tables: Tables,
}

impl Reader {
    /// Sends the rows of a range page by page; ends early when nobody takes them any more.
    pub(in crate::backfill) async fn read(
        &mut self,
        work: &Work,
        content_id: Option<&str>,
        to: &mpsc::Sender<Read>,
    ) -> Result<(), Failure> {
        let copy = self.tables.copy(&Wanted {
            range: work.span,
            content_id,
            after: work.after.as_ref(),
        });
        let failed = |error: sqlx::Error| asked("reading rows", &error);
        let copying = self.connection.copy_out_raw(&copy).await;
        let mut pieces = copying.map_err(failed)?;
        let (mut copied, mut page, mut bytes) = (Copied::default(), Vec::new(), 0);
        while let Some(piece) = pieces.next().await {
            copied.push(&piece.map_err(failed)?);
            while let Some(tuple) = copied.next().map_err(broken)? {
                let row = Row::of(tuple).map_err(broken)?;
                bytes += row.weight();
                page.push(row);
            }
            if page.len() >= PAGE_ROWS || bytes >= PAGE_BYTES {
                let full = std::mem::take(&mut page);
                if to.send(read(work.range, full, false)).await.is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
        }
        if !copied.has_ended() {
            return Err(cut(work.range));
        }
        // nobody takes it: the run was told to stop
        let _ = to.send(read(work.range, page, true)).await;
        Ok(())
    }
}

fn broken(error: Broken) -> Failure {
    Failure::internal("Postgres answers what is no copy of rows")
        .cause(error)
        .remedy("look for what stands between this tool and the server (a pooler, a proxy), and go past it")
        .next("engagectl check")
}

fn cut(range: u32) -> Failure {
    Failure::unavailable(format!("the rows of range {range} ended before their end"))
        .remedy("look at the server's log; what was written so far stays")
        .next("engagectl check")
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
