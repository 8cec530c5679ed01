//! One insert as a request, and whether its answer says that everything was written.
//!
//! Invariant: a success is an answer that names exactly as many rows as were sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use faults::Point;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::Insert;
use crate::error::ServerError;
use crate::http::Http;
use crate::metrics;
use crate::row::EventIdType;
use crate::sql::{Claim, Table};

/// What every insert of a process has in common.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) http: Http,
    pub(super) table: Table,
    pub(super) id_type: EventIdType,
    /// Those that the server knows.
    pub(super) settings: Vec<(&'static str, &'static str)>,
    /// Tells the inserts of this process from those of others.
    pub(super) instance: u64,
    /// Numbers them.
    pub(super) count: AtomicU64,
}

impl Statement {
    /// Writes the rows of all of these, as one part, or nobody knows.
    pub(super) async fn send(&self, inserts: Vec<Insert>) -> Result<(), ServerError> {
        let claims: Vec<Claim> = inserts.iter().map(|insert| insert.claim).collect();
        let sent = inserts.iter().map(|insert| insert.rows).sum();
        let headers = traced(&inserts);
        let sql = self.table.insert(self.id_type, &claims);
        let query_id = self.query_id(&claims);
        let mut query = vec![("query", sql.as_str()), ("query_id", query_id.as_str())];
        query.extend_from_slice(&self.settings);
        super::pass(Point::ClickhouseSinkInsertBefore).await?;
        let started = Instant::now();
        let answer = self.http.put(&query, headers, body(inserts)).await?;
        super::pass(Point::ClickhouseSinkInsertAfter).await?;
        match answer.written_rows {
            Some(written) if written == sent => {
                metrics::inserted(sent, started.elapsed());
                Ok(())
            }
            Some(written) if written < sent => Err(ServerError::Superseded { sent, written }),
            written => Err(ServerError::Written {
                sent,
                written: written.unwrap_or(0),
            }),
        }
    }

    fn query_id(&self, claims: &[Claim]) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}-{number}", self.instance);
        let partitions = claims.iter().map(|claim| claim.partition);
        self.table.query_id(partitions, &name)
    }
}

/// A request has one parent: the batch of the first.
fn traced(inserts: &[Insert]) -> HeaderMap {
    let parent = inserts.iter().find_map(|insert| insert.parent.as_deref());
    let parent = parent.and_then(|text| HeaderValue::from_str(text).ok());
    let name = HeaderName::from_static("traceparent");
    parent.map(|text| (name, text)).into_iter().collect()
}

fn body(mut inserts: Vec<Insert>) -> Bytes {
    match inserts.as_mut_slice() {
        [one] => std::mem::take(&mut one.data).into(),
        many => {
            let data: Vec<&[u8]> = many.iter().map(|one| one.data.as_slice()).collect();
            data.concat().into()
        }
    }
}
