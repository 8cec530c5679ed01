//! The thread that follows the content topic.
//!
//! Invariant: every partition is read from its start; a record that is not understood takes its row out of the catalog,
//! so that Postgres is asked instead of an old value being used.

mod patience;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::catalog::Catalog;
use engagement::envelope::{CdcRecord, Input, Parser, Reject};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use stream::KafkaSettings;
use stream::probe::{SideConsumer, SideContext};
use tokio_util::sync::CancellationToken;

use crate::contents::Contents;
use crate::metrics;
use patience::Patience;
pub use patience::Waits;

/// Wait for records; also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How often the topic is asked for new partitions.
const PARTITIONS: Duration = Duration::from_secs(60);
/// The same while the topic is not followed: an idle topic tells nothing after an outage, this answer does.
const AGAIN: Duration = Duration::from_secs(1);
/// Records applied under one lock: it is given back often enough for lanes to read.
const TURN: u64 = 500;

/// Follows the content topic until `stop`; runs on a thread of its own.
pub struct Follower {
    contents: Arc<Contents>,
    kafka: KafkaSettings,
    consumer: SideConsumer,
    topic: String,
    parser: Parser,
    ask: Duration,
    patience: Patience,
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
        waits: Waits,
    ) -> Result<Self, KafkaError> {
        let topic = topic.to_owned();
        let mut follower = Self {
            contents,
            consumer: client(kafka)?,
            kafka: kafka.clone(),
            topic,
            parser,
            ask: waits.ask,
            patience: Patience::new(waits.lost, Instant::now()),
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
                self.contents.arrived(arrived);
            }
            let pause = if self.contents.is_followed() {
                PARTITIONS
            } else {
                AGAIN
            };
            if asked.elapsed() >= pause {
                asked = Instant::now();
                let fault = self.add_partitions().err().map(|error| self.told(&error));
                self.contents.set_fault(fault);
            }
            if self.contents.is_followed() {
                self.patience.answered(Instant::now());
            } else if let Some(kept) = self.patience.given_up(Instant::now()) {
                self.renew(kept);
            }
        }
    }

    /// Another client, which reads everything again: the marks of the rows keep what is newer.
    fn renew(&mut self, kept: Duration) {
        let renewed = client(&self.kafka);
        tracing::warn!(
            topic = self.topic,
            ok = renewed.is_ok(),
            replaced = self.patience.replaced(),
            "no answer for {} s, the content topic is read again by a new client",
            kept.as_secs()
        );
        if let Ok(consumer) = renewed {
            let lost = std::mem::replace(&mut self.consumer, consumer);
            self.partitions = 0;
            // closing may wait for the answer that does not come
            std::thread::spawn(move || drop(lost));
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
            next = if seen < TURN {
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
        if self.missing.is_empty() && !self.contents.is_loaded() {
            let entries = self.contents.read().len();
            tracing::info!(topic = self.topic, entries, "catalog loaded");
            self.contents.set_loaded();
        }
    }

    /// What is wrong, for those who ask whether this process is ready.
    fn told(&self, error: &KafkaError) -> String {
        match self.patience.replaced() {
            0 => error.to_string(),
            replaced => format!(
                "{error}; client {} of this outage asks",
                replaced.saturating_add(1)
            ),
        }
    }

    fn fault(&self, error: &KafkaError) {
        self.contents.set_fault(Some(self.told(error)));
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
                .starts_of(0..self.partitions)
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
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), self.ask)?;
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
        if !self.contents.is_loaded() {
            for partition in new.clone() {
                let (low, high) =
                    self.consumer
                        .fetch_watermarks(&self.topic, partition, self.ask)?;
                if low < high {
                    self.missing.insert(partition, high);
                }
            }
        }
        self.consumer.incremental_assign(&self.starts_of(new)?)?;
        self.partitions = count;
        Ok(())
    }

    fn starts_of(
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

fn client(kafka: &KafkaSettings) -> Result<SideConsumer, KafkaError> {
    let config = kafka.probe_config("enricher-contents");
    config.create_with_context(SideContext)
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
fn refuse(catalog: &mut Catalog, parser: &Parser, message: &BorrowedMessage<'_>, reject: &Reject) {
    let (partition, offset) = (message.partition(), message.offset());
    tracing::error!(topic = message.topic(), partition, offset, kind = %reject.kind, %reject, "content record not understood");
    metrics::content_rejected(reject.kind.name());
    if let Ok(id) = parser.content_key(message.key()) {
        catalog.remove(&id);
    }
}
