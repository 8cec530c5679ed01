//! Writing into the table, seen from a lane: take the fence, see that nothing else runs, insert.
//!
//! Invariant: an insert that may still run is named by its partition's prefix and by nothing else, and once
//! [`Writer::take`] has answered, whatever was sent under an older fence has ended or will write nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use faults::Point;
use reqwest::header::{HeaderMap, HeaderValue};
use stream::checkpoint::Stored;

use crate::config::ClickHouse;
use crate::error::ServerError;
use crate::fence::Fence;
use crate::http::Http;
use crate::owner::{Reached, Since};
use crate::row::EventIdType;
use crate::server::{Found, TableError, inspect, known_settings};
use crate::sql::{self, Table};
use crate::together::Together;
use crate::wire::Reader;

/// One insert: what is written, where it comes from, and by what right.
#[derive(Debug)]
pub struct Insert {
    /// Partition of the enriched topic.
    pub partition: i32,
    /// The fence of that partition, as taken.
    pub fence: Fence,
    /// A row that the table must hold, or nothing is written.
    pub stored: Option<Stored>,
    /// Rows in `data`.
    pub rows: u64,
    /// The rows as RowBinary.
    pub data: Bytes,
}

/// Writes into one table.
#[derive(Debug)]
pub struct Writer {
    http: Http,
    table: Table,
    id_type: EventIdType,
    settings: Vec<(&'static str, &'static str)>,
    instance: u64,
    /// Numbers inserts and fences of this process.
    count: AtomicU64,
    pub(crate) together: Questions,
}

/// What lanes ask together.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    fences: Together<i32, Fence>,
    pub(crate) reached: Together<(i32, Option<Since>), Reached>,
    pub(crate) held: Together<Stored, bool>,
}

impl Writer {
    /// Looks at server and table, and is ready to write. `instance` is random.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn open(
        http: Http,
        config: &ClickHouse,
        instance: u64,
    ) -> Result<(Self, Found), TableError> {
        let table = config.table();
        let found = inspect(&http, &table).await?;
        let writer = Self {
            settings: known_settings(&http).await?,
            id_type: found.id_type,
            instance,
            count: AtomicU64::new(0),
            together: Questions::default(),
            http,
            table,
        };
        Ok((writer, found))
    }

    /// The type of `event_id`.
    #[must_use]
    pub fn id_type(&self) -> EventIdType {
        self.id_type
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// Inserts the rows; they are in the table, as one part, when this succeeds.
    ///
    /// # Errors
    /// Anything but a clean success that wrote exactly so many rows: then the outcome is unknown.
    pub async fn insert(
        &self,
        insert: Insert,
        traceparent: Option<&str>,
    ) -> Result<(), ServerError> {
        let Insert {
            partition,
            fence,
            stored,
            rows,
            data,
        } = insert;
        let sql = self
            .table
            .insert(self.id_type, partition, fence, stored.as_ref());
        let query_id = self.query_id(partition);
        let mut query = vec![("query", sql.as_str()), ("query_id", query_id.as_str())];
        query.extend_from_slice(&self.settings);
        let headers = traceparent.and_then(|text| HeaderValue::from_str(text).ok());
        let headers: HeaderMap = headers
            .map(|text| ("traceparent".parse().expect("a literal name"), text))
            .into_iter()
            .collect();
        self.pass(Point::ClickhouseSinkInsertBefore).await?;
        let answer = self.http.put(&query, headers, data).await?;
        self.pass(Point::ClickhouseSinkInsertAfter).await?;
        match answer.written_rows {
            Some(written) if written == rows => Ok(()),
            Some(0) => Err(ServerError::Superseded(fence)),
            written => Err(ServerError::Written {
                sent: rows,
                written: written.unwrap_or(0),
            }),
        }
    }

    fn query_id(&self, partition: i32) -> String {
        let (prefix, number) = (self.table.query_prefix(partition), self.number());
        format!("{prefix}{:016x}-{number}", self.instance)
    }

    fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a partition: what was sent before under another fence has ended when this succeeds, or never will write.
    ///
    /// # Errors
    /// The server does not answer, or an insert does not end.
    pub async fn take(&self, partition: i32) -> Result<Fence, ServerError> {
        self.pass(Point::ClickhouseSinkKillBefore).await?;
        let fence = self
            .together
            .fences
            .ask(partition, |partitions| self.take_all(partitions));
        let fence = fence.await?;
        self.pass(Point::ClickhouseSinkKillAfter).await?;
        Ok(fence)
    }

    async fn take_all(&self, partitions: Vec<i32>) -> Result<Vec<Fence>, ServerError> {
        let highest = self.highest_fences(&partitions).await?;
        let next = |partition: &i32| {
            let highest = highest.get(partition).copied().unwrap_or_default();
            (
                *partition,
                highest.next(self.instance.wrapping_add(self.number())),
            )
        };
        let fences: Vec<(i32, Fence)> = partitions.iter().map(next).collect();
        self.http.ask(self.table.take_fences(&fences)).await?;
        let prefixes = partitions
            .iter()
            .map(|partition| self.table.query_prefix(*partition));
        self.end_all(&prefixes.collect::<Vec<_>>()).await?;
        Ok(fences.into_iter().map(|(_, fence)| fence).collect())
    }

    async fn highest_fences(&self, partitions: &[i32]) -> Result<HashMap<i32, Fence>, ServerError> {
        let answer = self.http.ask(self.table.highest_fences(partitions)).await?;
        let mut reader = Reader::new("the highest fences", &answer.body);
        let mut highest = HashMap::new();
        while !reader.is_empty() {
            let (partition, generation, owner) = (reader.i32()?, reader.u64()?, reader.u64()?);
            highest.insert(partition, Fence { generation, owner });
        }
        Ok(highest)
    }

    /// Kills the inserts that run; where there was one, sees that it is gone.
    async fn end_all(&self, prefixes: &[String]) -> Result<(), ServerError> {
        if self.http.ask(sql::kill(prefixes)).await?.body.is_empty() {
            return Ok(());
        }
        let answer = self.http.ask(sql::running(prefixes)).await?;
        match Reader::new("the running inserts", &answer.body).u64()? {
            0 => Ok(()),
            running => Err(ServerError::Answer {
                query: "KILL QUERY",
                what: format!("{running} inserts of these partitions still run"),
            }),
        }
    }

    /// After an insert without an answer: whether the table still is as it must be, and takes inserts.
    ///
    /// # Errors
    /// The server does not answer, the table has changed, or inserts are refused.
    pub async fn check(&self, partition: i32, fence: Fence) -> Result<(), TableError> {
        inspect(&self.http, &self.table).await?;
        // An early refusal closes the connection while the body is sent, and its reason is lost: ask without a body.
        let nothing = Insert {
            partition,
            fence,
            stored: None,
            rows: 0,
            data: Bytes::new(),
        };
        Ok(self.insert(nothing, None).await?)
    }

    /// A fault point: a request or its answer is lost there.
    pub(crate) async fn pass(&self, point: Point) -> Result<(), ServerError> {
        faults::reach(point).await;
        if faults::fails(point) {
            return Err(ServerError::Transport {
                address: "the server".to_owned(),
                cause: "lost".to_owned(),
            });
        }
        Ok(())
    }
}
