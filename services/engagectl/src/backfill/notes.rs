//! What is written about a run: its plan, how far each of its ranges is, its end.
//!
//! Invariant: every record is waited for; what the broker does not take of the lane topic does not end these, for they have a producer
//! of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use service::Failure;
use stream::headers::CONTENT_TYPE;
use stream::{OutRecord, Producer};

use super::ledger::{Entry, Finished, Note, Run, end_key, note_key, plan_key};
use super::log::{Log, unsent};

/// Writes into the topic of runs.
#[derive(Clone)]
pub(super) struct Notes {
    producer: Producer,
    topic: Arc<str>,
}

impl Notes {
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// A setting is wrong (64).
    pub(super) fn open(log: &Log) -> Result<Self, Failure> {
        Ok(Self {
            producer: log.producer(Duration::ZERO)?,
            topic: log.runs.as_str().into(),
        })
    }

    /// There is this run.
    ///
    /// # Errors
    /// The broker does not take it (69).
    pub(super) async fn plan(&self, run: &Run) -> Result<(), Failure> {
        let entry = Entry::Plan(run.spec.clone());
        self.write(plan_key(run.spec.run), &entry).await
    }

    /// A range of it has come so far.
    ///
    /// # Errors
    /// The broker does not take it (69).
    pub(super) async fn range(&self, run: &Run, range: u32, note: Note) -> Result<(), Failure> {
        let key = note_key(run.spec.run, range);
        self.write(key, &Entry::Note(note)).await
    }

    /// It has ended.
    ///
    /// # Errors
    /// The broker does not take it (69).
    pub(super) async fn end(&self, run: &Run, end: Finished) -> Result<(), Failure> {
        self.write(end_key(run.spec.run), &Entry::End(end)).await
    }

    async fn write(&self, key: String, entry: &Entry) -> Result<(), Failure> {
        let payload = serde_json::to_vec(entry)
            .map_err(|error| Failure::internal("a note cannot be written").cause(error))?;
        let json = Some(Bytes::from_static(b"application/json"));
        let record = OutRecord {
            topic: Arc::clone(&self.topic),
            partition: Some(0),
            key: Some(Bytes::from(key)),
            payload: Some(Bytes::from(payload)),
            headers: vec![(CONTENT_TYPE.to_owned(), json)],
            timestamp_ms: None,
        };
        let sent = self.producer.send_acked(&record).await;
        sent.map(drop).map_err(|error| unsent(&self.topic, &error))
    }
}
