//! Reads single records, ranges and tails beside the consumer group.
//!
//! Invariant: never subscribes and never commits, so that asking changes nothing.

mod question;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::LaneError;
use crate::lanes::Watermarks;
use crate::record::Record;
use crate::settings::KafkaSettings;
use crate::sync::locked;

use question::{Question, ends};

/// A side consumer that nobody asked for this long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A consumer without a subscription, made from [`KafkaSettings::probe_config`].
pub type SideConsumer = BaseConsumer<SideContext>;

/// For a side consumer the end of a partition is an answer, which the default context would log as an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct SideContext;

impl ClientContext for SideContext {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "side consumer");
        }
    }
}

impl ConsumerContext for SideContext {}

/// The last records of a partition, or what was made of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<T = Vec<Record>> {
    /// Start and end of the log when it was read.
    pub log: Watermarks,
    /// What was told the last records, in offset order; nothing only if the whole log holds none.
    pub records: T,
}

/// How much is read at once: whatever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Records.
    pub records: usize,
    /// Bytes of keys, values and headers; the record that goes over it is the last.
    pub bytes: usize,
}

impl Most {
    /// Everything.
    const ALL: Self = Self {
        records: usize::MAX,
        bytes: usize::MAX,
    };
}

/// A side consumer, created when first asked.
#[derive(Clone)]
pub struct Probe {
    settings: KafkaSettings,
    group: String,
    client: Arc<Mutex<Option<Side>>>,
}

struct Side {
    consumer: SideConsumer,
    asked: Instant,
}

impl Probe {
    /// For readers outside of [`crate::lanes`] (tools, tests). `group` is only a name to connect with.
    #[must_use]
    pub fn new(settings: &KafkaSettings, group: &str) -> Self {
        Self {
            settings: settings.clone(),
            group: group.to_owned(),
            client: Arc::default(),
        }
    }

    /// Start and end of a partition.
    ///
    /// # Errors
    /// The broker did not answer, or there is no such partition.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, LaneError> {
        self.ask(topic, partition, ends).await
    }

    /// The record at exactly this offset, if there is one.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn read_one(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Record>, LaneError> {
        Ok(self
            .read_range(topic, partition, offset, offset.saturating_add(1))
            .await?
            .pop())
    }

    /// The records of `[from, to)` that are there; gaps are skipped.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn read_range(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<Vec<Record>, LaneError> {
        self.ask(topic, partition, move |side| {
            let (log, mut records) = (ends(side)?, Vec::new());
            side.range(from.max(log.low), to.min(log.high), &mut records)?;
            Ok(records)
        })
        .await
    }

    /// The next records at or after `from`: at most `records`, none more once they hold `bytes`, and what came in ten seconds.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn read_some(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        most: Most,
    ) -> Result<Vec<Record>, LaneError> {
        self.ask(topic, partition, move |side| {
            let (log, mut records) = (ends(side)?, Vec::new());
            side.range_within(from.max(log.low), log.high, most, &mut records)?;
            Ok(records)
        })
        .await
    }

    /// Tells `records` the last records, one by one: `wanted` offsets back from the end, further where these hold none.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn tail<T: Extend<Record> + Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        wanted: u32,
        mut records: T,
    ) -> Result<Tail<T>, LaneError> {
        self.ask(topic, partition, move |side| {
            let log = ends(side)?;
            let mut back = i64::from(wanted.max(1));
            loop {
                let from = log.high.saturating_sub(back).max(log.low);
                let told = side.range(from, log.high, &mut records)?;
                if told > 0 || from == log.low {
                    return Ok(Tail { log, records });
                }
                back = back.saturating_mul(4);
            }
        })
        .await
    }

    /// Closes the side consumer if it has been idle.
    pub(crate) fn release_idle(&self) {
        // a question under way holds the lock: then it is not idle
        let Ok(mut client) = self.client.try_lock() else {
            return;
        };
        if client
            .as_ref()
            .is_some_and(|side| side.asked.elapsed() > IDLE)
        {
            *client = None;
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        question: impl FnOnce(&Question<'_>) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, LaneError> {
        let (probe, topic) = (self.clone(), Arc::<str>::from(topic));
        crate::lanes::blocking(move || {
            let mut client = locked(&probe.client);
            if client.is_none() {
                let config = probe.settings.probe_config(&probe.group);
                let consumer = config.create_with_context(SideContext)?;
                *client = Some(Side {
                    consumer,
                    asked: Instant::now(),
                });
            }
            let Some(side) = client.as_mut() else {
                return Err(LaneError::retry("no side consumer"));
            };
            let answer = question(&Question {
                consumer: &side.consumer,
                topic: &topic,
                partition,
            });
            side.asked = Instant::now();
            if answer.is_err() {
                *client = None;
            }
            answer.map_err(|error| at(&topic, partition, error))
        })
        .await
    }
}

fn at(topic: &str, partition: i32, error: LaneError) -> LaneError {
    match error {
        LaneError::Retry { reason } => {
            LaneError::retry(format!("topic {topic} partition {partition}: {reason}"))
        }
        stop @ LaneError::Stop { .. } => stop,
    }
}
