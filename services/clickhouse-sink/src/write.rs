//! Writing into the table, seen from a lane: take the fence, see that nothing else runs, insert.
//!
//! Invariant: an insert that may still run is named by its partition's prefix and by nothing else, and once
//! [`Writer::take`] has answered, whatever was sent under an older fence has ended or will write nothing.

mod group;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engagement::event::Position;
use faults::Point;
use stream::checkpoint::Stored;

pub use group::Refused;

use crate::batch::Span;
use crate::config::ClickHouse;
use crate::error::ServerError;
use crate::fence::Fence;
use crate::http::Http;
use crate::owner::{Reached, Since};
use crate::row::EventIdType;
use crate::server::{Found, TableError, inspect, known_settings};
use crate::sql::{Claim, Table};
use crate::together::Together;
use crate::wire::Reader;
use group::Group;
use statement::Statement;

/// The rows of one batch, or a part of them.
#[derive(Debug)]
pub struct Insert {
    /// By what right they are written.
    pub claim: Claim,
    /// In which partition of the table they all lie, such as 202611.
    pub month: u32,
    /// No other insert goes with it.
    pub alone: bool,
    /// The `traceparent` of its batch.
    pub parent: Option<String>,
    rows: u64,
    data: Vec<u8>,
}

impl Insert {
    /// Without rows.
    #[must_use]
    pub fn new(claim: Claim, month: u32) -> Self {
        Self {
            claim,
            month,
            alone: false,
            parent: None,
            rows: 0,
            data: Vec::new(),
        }
    }

    /// Adds a row; `write` appends its RowBinary.
    pub fn add_row(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.data.extend(self.claim.partition.to_le_bytes());
        write(&mut self.data);
        self.rows += 1;
    }

    /// Makes room for so many rows of so many bytes together.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.data.reserve(rows * size_of::<i32>() + bytes);
    }
}

/// Within this, lanes that were assigned together have read where they stand in the log, and take their partitions.
const ASSIGNED: Duration = Duration::from_millis(50);

/// Writes into one table.
#[derive(Debug)]
pub struct Writer {
    statement: Arc<Statement>,
    group: Group,
    /// Numbers fences of this process.
    count: AtomicU64,
    pub(crate) together: Questions,
}

/// What lanes ask together.
#[derive(Debug)]
pub(crate) struct Questions {
    fences: Together<i32, Result<Fence, ServerError>>,
    pub(crate) reached: Together<(i32, Option<Since>), Reached>,
    pub(crate) held: Together<Stored, bool>,
    pub(crate) positions: Together<Vec<Span>, Vec<(Position, u8)>>,
    usable: Together<Claim, Result<(), TableError>>,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            fences: Together::with_company(ASSIGNED),
            reached: Together::default(),
            held: Together::default(),
            positions: Together::default(),
            usable: Together::default(),
        }
    }
}

impl Writer {
    /// Looks at server and table, and is ready to write, `inserts` statements at a time. `instance` is random.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn open(
        http: Http,
        config: &ClickHouse,
        inserts: usize,
        instance: u64,
    ) -> Result<(Self, Found), TableError> {
        let table = config.table();
        let (found, settings) = tokio::join!(inspect(&http, &table), known_settings(&http));
        let found = found?;
        let statement = Arc::new(Statement {
            settings: settings?,
            id_type: found.id_type,
            instance,
            count: AtomicU64::new(0),
            http,
            table,
        });
        let writer = Self {
            group: Group::start(Arc::clone(&statement), inserts),
            statement,
            count: AtomicU64::new(0),
            together: Questions::default(),
        };
        Ok((writer, found))
    }

    /// The type of `event_id`.
    #[must_use]
    pub fn id_type(&self) -> EventIdType {
        self.statement.id_type
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.statement.table
    }

    pub(crate) fn http(&self) -> &Http {
        &self.statement.http
    }

    /// Inserts the rows, together with those of other partitions that are there at the same time; they are in the table, as one
    /// part, when this succeeds.
    ///
    /// # Errors
    /// Anything but a clean success that wrote exactly so many rows: then the outcome is unknown.
    pub async fn insert(&self, insert: Insert) -> Result<(), Refused> {
        self.group.insert(insert).await
    }

    fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a partition: what was sent before under another fence has ended when this succeeds, or never will write.
    ///
    /// # Errors
    /// The server does not answer, or an insert does not end.
    pub async fn take(&self, partition: i32) -> Result<Fence, ServerError> {
        pass(Point::ClickhouseSinkKillBefore).await?;
        let fences = &self.together.fences;
        let fence = fences.ask(partition, |partitions| self.take_all(partitions));
        let fence = fence.await??;
        pass(Point::ClickhouseSinkKillAfter).await?;
        Ok(fence)
    }

    async fn take_all(
        &self,
        partitions: Vec<i32>,
    ) -> Result<Vec<Result<Fence, ServerError>>, ServerError> {
        let highest = self.highest_fences(&partitions).await?;
        let next = |partition: &i32| {
            let highest = highest.get(partition).copied().unwrap_or_default();
            let owner = self.statement.instance.wrapping_add(self.number());
            (*partition, highest.next(owner))
        };
        let fences: Vec<(i32, Fence)> = partitions.iter().map(next).collect();
        self.http().ask(self.table().take_fences(&fences)).await?;
        let running = self.end_all(&partitions).await?;
        let taken = |(partition, fence): (i32, Fence)| {
            let is_of = |query_id: &&String| self.table().is_of(query_id, partition);
            match running.iter().find(is_of) {
                None => Ok(fence),
                Some(query_id) => Err(ServerError::Answer {
                    query: "KILL QUERY",
                    what: format!("insert {query_id} still runs"),
                }),
            }
        };
        Ok(fences.into_iter().map(taken).collect())
    }

    async fn highest_fences(&self, partitions: &[i32]) -> Result<HashMap<i32, Fence>, ServerError> {
        let asked = self.http().ask(self.table().highest_fences(partitions));
        let answer = asked.await?;
        let mut reader = Reader::new("the highest fences", &answer.body);
        let mut highest = HashMap::new();
        while !reader.is_empty() {
            let (partition, generation, owner) = (reader.i32()?, reader.u64()?, reader.u64()?);
            highest.insert(partition, Fence { generation, owner });
        }
        Ok(highest)
    }

    /// Kills the inserts that run; where there was one, sees which of them do so still.
    async fn end_all(&self, partitions: &[i32]) -> Result<Vec<String>, ServerError> {
        let mut running = Vec::new();
        let killed = self.http().ask(self.table().kill(partitions)).await?;
        if killed.body.is_empty() {
            return Ok(running);
        }
        let answer = self.http().ask(self.table().running(partitions)).await?;
        let mut reader = Reader::new("the running inserts", &answer.body);
        while !reader.is_empty() {
            running.push(reader.text()?);
        }
        Ok(running)
    }

    /// After an insert without an answer: whether the table still is as it must be, and takes inserts.
    ///
    /// # Errors
    /// The server does not answer, the table has changed, or inserts are refused.
    pub async fn check(&self, partition: i32, fence: Fence) -> Result<(), TableError> {
        let claim = Claim {
            partition,
            fence,
            stored: None,
        };
        let usable = &self.together.usable;
        usable.ask(claim, |claims| self.check_for(claims)).await?
    }

    /// The same for all: what holds of the table holds of each.
    async fn check_for(
        &self,
        claims: Vec<Claim>,
    ) -> Result<Vec<Result<(), TableError>>, ServerError> {
        let checked = self.check_once(claims.first().copied().unwrap_or_default());
        Ok(vec![checked.await; claims.len()])
    }

    async fn check_once(&self, claim: Claim) -> Result<(), TableError> {
        inspect(self.http(), self.table()).await?;
        // An early refusal closes the connection while the body is sent, and its reason is lost: ask without a body.
        Ok(self.statement.send(vec![Insert::new(claim, 0)]).await?)
    }
}

/// A fault point: a request or its answer is lost there.
pub(crate) async fn pass(point: Point) -> Result<(), ServerError> {
    faults::reach(point).await;
    if faults::fails(point) {
        return Err(ServerError::lost());
    }
    Ok(())
}
