//! The content table in memory: read from the start of the content topic, then followed, without a consumer group.
//!
//! Invariant: [`Contents::loaded`] turns true only after every partition was read up to the end it had at start (the
//! join barrier), and the catalog never falls back behind that.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use engagement::catalog::{Catalog, Content};
use engagement::envelope::{CdcRecord, Input, Parser};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use stream::KafkaSettings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// How long one question to the broker may take.
const ASK: Duration = Duration::from_secs(10);
/// Wait for records; also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How often the topic is asked for new partitions.
const PARTITIONS: Duration = Duration::from_secs(60);

/// The contents known to this process.
#[derive(Debug)]
pub struct Contents {
    catalog: RwLock<Catalog>,
    changes: watch::Sender<u64>,
    loaded: watch::Sender<bool>,
    fault: RwLock<Option<String>>,
}

impl Default for Contents {
    fn default() -> Self {
        let (changes, loaded) = (watch::Sender::new(0), watch::Sender::new(false));
        Self {
            catalog: RwLock::default(),
            changes,
            loaded,
            fault: RwLock::default(),
        }
    }
}

impl Contents {
    /// The catalog, for a short while: whoever follows the topic waits meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what Postgres said about contents that were not known.
    pub fn resolve<'a>(&self, found: impl Iterator<Item = (&'a str, &'a Content)>) {
        let mut catalog = self.write();
        found.for_each(|(id, content)| catalog.resolve(id, content));
    }

    /// Turns true when the catalog has reached the end that the topic had at start.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }

    /// Changes whenever contents arrive.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the catalog is complete and followed.
    ///
    /// # Errors
    /// Why not.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(fault) = &*self.fault.read().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("the content topic is not followed: {fault}"));
        }
        match *self.loaded.borrow() {
            true => Ok(()),
            false => Err(format!(
                "the catalog is loading, {} contents so far",
                self.read().len()
            )),
        }
    }

    fn set_fault(&self, fault: Option<String>) {
        let mut known = self.fault.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = &fault
            && known.is_none()
        {
            tracing::warn!(cause, "the content topic is not followed for now");
        }
        *known = fault;
    }
}

/// Follows the content topic until `stop`; runs on a thread of its own.
pub struct Follower {
    contents: Arc<Contents>,
    consumer: BaseConsumer,
    topic: String,
    parser: Parser,
    /// Partitions whose end at start is not reached yet, with that end.
    missing: HashMap<i32, i64>,
    partitions: i32,
}

impl Follower {
    /// Assigns all partitions from their start.
    ///
    /// # Errors
    /// The broker does not answer, or the topic does not exist.
    pub fn new(
        contents: Arc<Contents>,
        kafka: &KafkaSettings,
        topic: &str,
        parser: Parser,
    ) -> Result<Self, KafkaError> {
        let consumer: BaseConsumer = kafka.probe_config("enricher-contents").create()?;
        let topic = topic.to_owned();
        let mut follower = Self {
            contents,
            consumer,
            topic,
            parser,
            missing: HashMap::new(),
            partitions: 0,
        };
        follower.add_partitions()?;
        Ok(follower)
    }

    /// The loop. Faults are waited out: what is in the catalog stays good meanwhile.
    pub fn run(mut self, stop: &CancellationToken) {
        let (mut asked, mut arrived) = (Instant::now(), 0_u64);
        while !stop.is_cancelled() {
            self.tell_loaded();
            let seen = self.turn();
            if seen > 0 {
                arrived += seen;
                self.contents.changes.send_replace(arrived);
                metrics::catalog_entries(self.contents.read().len());
            }
            if asked.elapsed() >= PARTITIONS {
                asked = Instant::now();
                if let Err(error) = self.add_partitions() {
                    self.contents.set_fault(Some(error.to_string()));
                }
            }
        }
    }

    /// One wait and what it brought: the number of records.
    fn turn(&mut self) -> u64 {
        let Some(first) = self.consumer.poll(POLL) else {
            return 0;
        };
        let contents = Arc::clone(&self.contents);
        let mut catalog = contents.write();
        let (mut seen, mut next) = (0, Some(first));
        while let Some(outcome) = next {
            match outcome {
                Ok(message) => {
                    apply(&mut catalog, &self.parser, &message);
                    reached(&mut self.missing, message.partition(), message.offset() + 1);
                    seen += 1;
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.missing.remove(&partition);
                }
                Err(error) => {
                    drop(catalog);
                    self.fault(&error);
                    return seen;
                }
            }
            // the lock is given back often enough for lanes to read
            next = if seen < 500 {
                self.consumer.poll(Duration::ZERO)
            } else {
                None
            };
        }
        drop(catalog);
        self.contents.set_fault(None);
        seen
    }

    fn tell_loaded(&self) {
        if self.missing.is_empty() && !*self.contents.loaded.borrow() {
            let entries = self.contents.read().len();
            metrics::catalog_entries(entries);
            tracing::info!(topic = self.topic, entries, "catalog loaded");
            self.contents.loaded.send_replace(true);
        }
    }

    fn fault(&self, error: &KafkaError) {
        self.contents.set_fault(Some(error.to_string()));
        let lost = [
            RDKafkaErrorCode::OffsetOutOfRange,
            RDKafkaErrorCode::AutoOffsetReset,
        ];
        if error
            .rdkafka_error_code()
            .is_some_and(|code| lost.contains(&code))
        {
            // recreated, or retention overtook us: everything again, the marks of the rows keep what is newer
            let assigned = self
                .from_start(0..self.partitions)
                .and_then(|list| self.consumer.assign(&list));
            tracing::warn!(
                topic = self.topic,
                ok = assigned.is_ok(),
                "content topic read again from its start"
            );
        }
    }

    /// Reads partitions that are not read yet from their start, up to the end they have now before `loaded`.
    fn add_partitions(&mut self) -> Result<(), KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), ASK)?;
        let found = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic);
        let count = found.map_or(0, |topic| {
            i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)
        });
        if count == 0 {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ));
        }
        let new = self.partitions..count;
        if new.is_empty() {
            return Ok(());
        }
        if !*self.contents.loaded.borrow() {
            for partition in new.clone() {
                let (low, high) = self
                    .consumer
                    .fetch_watermarks(&self.topic, partition, ASK)?;
                if low < high {
                    self.missing.insert(partition, high);
                }
            }
        }
        self.consumer.incremental_assign(&self.from_start(new)?)?;
        self.partitions = count;
        Ok(())
    }

    fn from_start(
        &self,
        partitions: std::ops::Range<i32>,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
        }
        Ok(list)
    }
}

fn reached(missing: &mut HashMap<i32, i64>, partition: i32, next: i64) {
    if missing.get(&partition).is_some_and(|end| next >= *end) {
        missing.remove(&partition);
    }
}

fn apply(catalog: &mut Catalog, parser: &Parser, message: &BorrowedMessage<'_>) {
    let input = Input {
        key: message.key(),
        payload: message.payload(),
        moved: false,
    };
    match parser.content(input) {
        Ok(CdcRecord::Change(change)) => {
            catalog.apply(&change);
        }
        Ok(CdcRecord::Tombstone) => {
            if let Ok(id) = parser.content_key(message.key()) {
                catalog.remove(&id);
            }
        }
        Ok(CdcRecord::Message(_)) => {}
        Ok(CdcRecord::Truncate) => *catalog = Catalog::new(),
        Err(reject) => refuse(catalog, parser, message, &reject),
    }
}

/// What the row was before no longer holds, so Postgres is asked from now on. The record stays in the compacted topic.
fn refuse(
    catalog: &mut Catalog,
    parser: &Parser,
    message: &BorrowedMessage<'_>,
    reject: &engagement::envelope::Reject,
) {
    let (partition, offset) = (message.partition(), message.offset());
    tracing::error!(topic = message.topic(), partition, offset, kind = %reject.kind, %reject, "content record not understood");
    metrics::content_rejected(reject.kind.name());
    if let Ok(id) = parser.content_key(message.key()) {
        catalog.remove(&id);
    }
}
