//! An idempotent producer whose failures are never papered over.
//!
//! Invariant: after the first failed or stalled delivery nothing more is sent by that producer: it is purged and
//! destroyed, every lane that used it is told, and resumes from the tail of its own output. A hole is thus impossible.

mod failure;
mod generation;
mod lane;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use tokio::sync::oneshot;

pub use failure::{Failure, FailureClass, SendError};
pub use lane::ProducerLane;

use crate::headers::{self, Headers};
use crate::settings::{KafkaSettings, SettingsError};
use crate::sync::locked;
use failure::Suspect;
use generation::Generation;
use state::Ack;

/// Bytes librdkafka and the batch format add to a record, generously.
const OVERHEAD: usize = 512;
/// How long a void producer may take to end before the next one is created beside it.
const ENDING: Duration = Duration::from_secs(10);

/// Why a producer is given up: label `reason` of `engage_producer_void_total`. (`fault` is a test's.)
pub(crate) const VOID_REASONS: &[&str] = &["delivery", "stall", "fatal"];

/// A record to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition; `None`: by the key, as Java's clients do (murmur2).
    pub partition: Option<i32>,
    /// Key; `None` is a null key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
    /// Timestamp in milliseconds; `None`: now.
    pub timestamp_ms: Option<i64>,
}

impl OutRecord {
    /// Bytes it takes, as far as the limits are concerned.
    #[must_use]
    pub fn size(&self) -> usize {
        let body =
            self.key.as_ref().map_or(0, Bytes::len) + self.payload.as_ref().map_or(0, Bytes::len);
        body + headers::size(&self.headers) + 8 * self.headers.len() + OVERHEAD
    }
}

/// Limits of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// Records in flight and none acknowledged for this long: the producer is given up.
    pub stall: Duration,
    /// Records one lane may have in flight.
    pub window: usize,
    /// How long records of a partition are gathered before they are sent, unless `KAFKA_PROP_LINGER_MS` says it. A batch costs
    /// the broker and each reader about as much as ten of its records do.
    pub linger: Duration,
    /// Largest record, in bytes; `None`: [`KafkaSettings::message_max_bytes`].
    pub max_bytes: Option<usize>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            window: 4096,
            linger: Duration::from_millis(5),
            max_bytes: None,
        }
    }
}

/// A producer shared by the lanes of a process; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    options: ProducerOptions,
    max_bytes: usize,
    current: tokio::sync::Mutex<Option<Arc<Generation>>>,
    suspects: Suspects,
}

type Suspects = Arc<Mutex<HashMap<(Arc<str>, i32), Suspect>>>;

impl Producer {
    /// Checks the settings; connects when first used.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(settings: &KafkaSettings, options: ProducerOptions) -> Result<Self, SettingsError> {
        let mut config = settings.producer_config();
        settings.linger(&mut config, options.linger);
        let max_bytes = options
            .max_bytes
            .unwrap_or_else(|| settings.message_max_bytes());
        config.set("message.max.bytes", max_bytes.to_string());
        // a record larger than the whole queue would never find room
        let queue_kib = (max_bytes / 1024 * 2).max(8192);
        config.set("queue.buffering.max.kbytes", queue_kib.to_string());
        config.create_native_config()?;
        let (current, suspects) = (tokio::sync::Mutex::default(), Suspects::default());
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                options,
                max_bytes,
                current,
                suspects,
            }),
        })
    }

    /// The largest record, in bytes ([`OutRecord::size`]).
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.shared.max_bytes
    }

    /// A sender for one partition that copies a chain: it keeps the ledger of what was acknowledged. Take a new one
    /// whenever the lane is opened; its first record is acknowledged alone.
    ///
    /// # Errors
    /// The producer cannot be created.
    pub async fn lane<T: Clone + Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<ProducerLane<T>, SendError> {
        let generation = self.generation().await?;
        Ok(ProducerLane::new(
            self.clone(),
            generation,
            topic.into(),
            partition,
        ))
    }

    /// Sends one record and waits until the broker has it; answers partition and offset.
    ///
    /// # Errors
    /// Too large, refused, or the producer was given up: the record may or may not be there.
    pub async fn send_acked(&self, record: &OutRecord) -> Result<(i32, i64), SendError> {
        self.check_size(record)?;
        let generation = self.generation().await?;
        let (once, delivered) = Once::new();
        generation
            .enqueue(record, &(once as Arc<dyn Ack>), 0)
            .await?;
        tokio::select! {
            biased;
            delivered = delivered => delivered.map_err(|_| generation.acked_error(&record.topic, record.partition)),
            () = generation.voided() => Err(generation.acked_error(&record.topic, record.partition)),
        }
    }

    /// Waits until nothing is in flight, at most this long; true if so.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let Some(generation) = self.shared.current.lock().await.clone() else {
            return true;
        };
        tokio::time::timeout(deadline, generation.idle())
            .await
            .is_ok()
    }

    fn check_size(&self, record: &OutRecord) -> Result<(), SendError> {
        let (size, limit) = (record.size(), self.shared.max_bytes);
        if size > limit {
            return Err(SendError::TooLarge {
                topic: record.topic.to_string(),
                size,
                limit,
            });
        }
        Ok(())
    }

    /// The producer in use; a new one if the last was given up, once that one is gone.
    async fn generation(&self) -> Result<Arc<Generation>, SendError> {
        let mut current = self.shared.current.lock().await;
        if let Some(generation) = current.as_ref() {
            if !generation.is_void() {
                return Ok(Arc::clone(generation));
            }
            // the old one may still be purging; its successor waits for it, but not for ever
            let _ = tokio::time::timeout(ENDING, generation.ended()).await;
        }
        let suspects = Arc::clone(&self.shared.suspects);
        let generation =
            Generation::start(&self.shared.config, self.shared.options.stall, suspects)?;
        *current = Some(Arc::clone(&generation));
        Ok(generation)
    }

    fn suspect(&self, topic: &Arc<str>, partition: i32) -> Option<Suspect> {
        locked(&self.shared.suspects)
            .get(&(Arc::clone(topic), partition))
            .copied()
    }
}

/// Waits for a single acknowledgement.
struct Once(Mutex<Option<oneshot::Sender<(i32, i64)>>>);

impl Once {
    fn new() -> (Arc<Self>, oneshot::Receiver<(i32, i64)>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(sender)))), receiver)
    }
}

impl Ack for Once {
    fn acked(&self, _token: i64, partition: i32, offset: i64) {
        if let Some(sender) = locked(&self.0).take() {
            // nobody waits any more: fine
            let _ = sender.send((partition, offset));
        }
    }

    fn failed(&self, _token: i64) {
        locked(&self.0).take();
    }
}
