//! The table, seen from a lane: insert, settle, read back. All I/O with ClickHouse is here.
//!
//! Invariant: an insert that may still run is named by its lane's prefix and by nothing else, and after
//! [`Writer::settle`] none does.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engagement::event::{Lane, Position};
use faults::Point;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::batch::Batch;
use crate::config::ClickHouse;
use crate::error::ServerError;
use crate::http::Http;
use crate::plan::{Held, Known};
use crate::row::{EventIdType, Key};
use crate::server::{Found, TableError, inspect, known_settings, server_clock};
use crate::sql::{self, Table};
use crate::wire::Reader;

/// Ids asked for in one query: 4096 UUIDs are 160 KB, below `max_query_size` (256 KB).
const IDS_PER_QUERY: usize = 4096;

/// One insert: what is written, and until when the server may begin with it.
#[derive(Debug)]
pub struct Insert {
    /// Rows in `data`.
    pub rows: u64,
    /// The rows as RowBinary.
    pub data: Bytes,
    /// See [`Writer::deadline_ms`].
    pub deadline_ms: i64,
}

/// Writes into one table.
#[derive(Debug)]
pub struct Writer {
    http: Http,
    table: Table,
    id_type: EventIdType,
    settings: Vec<(&'static str, &'static str)>,
    deadline: Duration,
    /// The server's clock (ms) at a moment of ours.
    clock: Mutex<(Instant, i64)>,
    instance: String,
    inserts: AtomicU64,
}

impl Writer {
    /// Looks at server and table, and is ready to write.
    ///
    /// # Errors
    /// See [`TableError`].
    pub async fn open(
        http: Http,
        config: &ClickHouse,
        instance: u64,
    ) -> Result<(Self, Found), TableError> {
        let table = config.table();
        let clock = server_clock(&http).await?;
        let found = inspect(&http, &table).await?;
        let writer = Self {
            settings: known_settings(&http).await?,
            id_type: found.id_type,
            deadline: config.insert_deadline,
            clock: Mutex::new(clock),
            instance: format!("{instance:016x}"),
            inserts: AtomicU64::new(0),
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

    /// Inserts the rows; they are in the table, as one part, when this succeeds.
    ///
    /// # Errors
    /// Anything but a clean success that wrote exactly so many rows: then the outcome is unknown.
    pub async fn insert(
        &self,
        prefix: &str,
        insert: Insert,
        traceparent: Option<&str>,
    ) -> Result<(), ServerError> {
        let Insert {
            rows,
            data,
            deadline_ms,
        } = insert;
        let sql = self.table.insert(self.id_type, deadline_ms);
        let query_id = format!(
            "{prefix}{}-{}",
            self.instance,
            self.inserts.fetch_add(1, Ordering::Relaxed)
        );
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
            Some(0) => Err(ServerError::Expired(self.deadline)),
            written => Err(ServerError::Written {
                sent: rows,
                written: written.unwrap_or(0),
            }),
        }
    }

    /// Sees to it that no insert of this lane runs, or can begin any more, and that the next one can work.
    ///
    /// `foreign`: until when an insert of another owner, sent before we took over, could still begin.
    ///
    /// # Errors
    /// The server does not answer, an insert does not end, or the table has changed.
    pub async fn settle(&self, prefix: &str, foreign: Option<Instant>) -> Result<(), TableError> {
        if let Some(until) = foreign {
            tokio::time::sleep_until(until.into()).await;
        }
        self.pass(Point::ClickhouseSinkKillBefore).await?;
        self.http.ask(sql::kill(prefix)).await?;
        let answer = self.http.ask(sql::running(prefix)).await?;
        let running = Reader::new("the running inserts", &answer.body).u64()?;
        if running > 0 {
            return Err(still_running(running).into());
        }
        self.pass(Point::ClickhouseSinkKillAfter).await?;
        let clock = server_clock(&self.http).await?;
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
        inspect(&self.http, &self.table).await?;
        // An early refusal closes the connection while the body is sent, and its reason is lost: ask without a body.
        let nothing = Insert {
            rows: 0,
            data: Bytes::new(),
            deadline_ms: self.deadline_ms(),
        };
        self.insert(prefix, nothing, None).await?;
        Ok(())
    }

    /// The highest position of each lane and epoch that the table holds of a source partition.
    ///
    /// # Errors
    /// The server does not answer cleanly.
    pub async fn highest(&self, partition: i32) -> Result<HashMap<(Lane, u8), i64>, ServerError> {
        let answer = self.http.ask(self.table.highest(partition)).await?;
        let mut reader = Reader::new("the highest positions", &answer.body);
        let mut highest = HashMap::new();
        while !reader.is_empty() {
            let (lane, epoch, offset) = (reader.text()?, reader.u8()?, reader.i64()?);
            if let Ok(lane) = lane.parse() {
                highest.insert((lane, epoch), offset);
            }
        }
        Ok(highest)
    }

    /// What the table holds of a batch.
    ///
    /// # Errors
    /// The server does not answer cleanly.
    pub async fn read_back(&self, batch: &Batch) -> Result<Held, ServerError> {
        self.pass(Point::ClickhouseSinkReadBackBefore).await?;
        let positions = self.positions(batch).await?;
        let mut events = HashMap::new();
        for ids in batch.ids().chunks(IDS_PER_QUERY) {
            let literals: Vec<String> = ids.iter().map(|id| id_literal(id, self.id_type)).collect();
            let answer = self.http.ask(self.table.events(&literals)).await?;
            let mut reader = Reader::new("the events", &answer.body);
            while !reader.is_empty() {
                let (id, known) = known(&mut reader, self.id_type)?;
                events.entry(id).or_insert_with(Vec::new).push(known);
            }
        }
        self.pass(Point::ClickhouseSinkReadBackAfter).await?;
        Ok(Held { positions, events })
    }

    /// A fault point: a request or its answer is lost there.
    async fn pass(&self, point: Point) -> Result<(), ServerError> {
        faults::reach(point).await;
        if faults::fails(point) {
            return Err(ServerError::Transport {
                address: "the server".to_owned(),
                cause: "lost".to_owned(),
            });
        }
        Ok(())
    }

    async fn positions(&self, batch: &Batch) -> Result<HashSet<(Position, u8)>, ServerError> {
        let mut positions = HashSet::new();
        for span in batch.spans() {
            let answer = self.http.ask(self.table.read_back(&span)).await?;
            let mut reader = Reader::new("the read-back", &answer.body);
            while !reader.is_empty() {
                let (offset, src_row) = (reader.i64()?, reader.u8()?);
                let position = Position {
                    lane: span.lane,
                    epoch: span.epoch,
                    partition: span.partition,
                    offset,
                };
                positions.insert((position, src_row));
            }
        }
        Ok(positions)
    }

    /// The server's time in milliseconds since 1970 after which an insert that is decided on now may not begin any more.
    #[must_use]
    pub fn deadline_ms(&self) -> i64 {
        let (at, server) = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        server + millis(at.elapsed() + self.deadline)
    }
}

fn still_running(count: u64) -> ServerError {
    ServerError::Answer {
        query: "KILL QUERY",
        what: format!("{count} inserts of this partition still run"),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// A row of [`Table::events`]: the encoded id and what is known of one sort key.
fn known(reader: &mut Reader<'_>, id_type: EventIdType) -> Result<(Box<[u8]>, Known), ServerError> {
    let start = reader.rest();
    match id_type {
        EventIdType::Int64 => drop(reader.i64()?),
        EventIdType::Uuid => drop((reader.u64()?, reader.u64()?)),
        EventIdType::String => drop(reader.bytes()?),
    }
    let id: Box<[u8]> = reader.since(start).into();
    reader.skip_nullable_text()?;
    reader.i64()?;
    let key: Box<[u8]> = reader.since(start).into();
    let source = reader.rest();
    reader.skip_nullable_text()?;
    reader.bytes()?;
    reader.skip_nullable_text()?;
    reader.skip_nullable_i64()?;
    let source = reader.since(source).into();
    let month = u32::try_from(reader.i32()?).unwrap_or(0);
    let (revision, deleted, missing) = (reader.u64()?, reader.u8()? == 1, reader.u8()? == 1);
    Ok((
        id,
        Known {
            key: Key { bytes: key, month },
            revision,
            deleted,
            missing,
            source,
        },
    ))
}

/// An encoded event id as SQL.
fn id_literal(id: &[u8], id_type: EventIdType) -> String {
    let mut reader = Reader::new("an event id", id);
    let text = match id_type {
        EventIdType::Int64 => reader.i64().map(|id| id.to_string()),
        EventIdType::Uuid => {
            let words = reader.u64().and_then(|high| Ok((high, reader.u64()?)));
            words.map(|(high, low)| sql::literal(&uuid::Uuid::from_u64_pair(high, low).to_string()))
        }
        EventIdType::String => reader.text().map(|id| sql::literal(&id)),
    };
    text.expect("an id that this crate encoded")
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;
    use crate::row::Row;

    #[test]
    fn ids_become_literals_of_their_type() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        for (id, id_type, expected) in [
            ("-7", EventIdType::Int64, "-7".to_owned()),
            (uuid, EventIdType::Uuid, format!("'{uuid}'")),
            ("a'b", EventIdType::String, "'a\\'b'".to_owned()),
        ] {
            let row = Row::of(&Sample::new().event_id(id).build(), id_type).unwrap();
            assert_eq!(id_literal(row.id(), id_type), expected);
        }
    }

    #[test]
    fn a_row_of_the_table_reads_back_as_key_and_source_of_the_row_sent() {
        let row = Row::of(&Sample::new().build(), EventIdType::Int64).unwrap();
        let mut answer = [row.key(), row.source()].concat();
        answer.extend_from_slice(&202_601_u32.to_le_bytes());
        answer.extend_from_slice(&9_u64.to_le_bytes());
        answer.extend_from_slice(&[1, 0]);
        let mut reader = Reader::new("test", &answer);
        let (id, known) = known(&mut reader, EventIdType::Int64).unwrap();
        assert!(reader.is_empty());
        assert_eq!(
            (&*id, &*known.key.bytes, &*known.source),
            (row.id(), row.key(), row.source())
        );
        assert_eq!(
            (
                known.key.month,
                known.revision,
                known.deleted,
                known.missing
            ),
            (202_601, 9, true, false)
        );
    }
}
