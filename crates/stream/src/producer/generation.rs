//! One librdkafka producer, from its creation to the moment it is given up.
//!
//! Invariant: once void, nothing is enqueued any more, what was queued or in flight is purged, and then the client is
//! destroyed by its own thread. There is no way back.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::failure::{Failure, FailureClass, SendError, Suspect};
use super::{OutRecord, Suspects};
use crate::headers::Headers;
use crate::metrics::{PRODUCED_TOTAL, PRODUCER_VOID_TOTAL};
use crate::sync::locked;

/// Who wants to know of a delivery. Called on the producer's thread: only note and wake.
pub(crate) trait Ack: Send + Sync {
    fn acked(&self, token: i64, partition: i32, offset: i64);
    fn failed(&self, token: i64);
}

pub(crate) struct Delivery {
    to: Arc<dyn Ack>,
    token: i64,
}

const POLL: Duration = Duration::from_millis(50);

pub(crate) struct Generation {
    // the thread holds the only lasting reference: dropping the client blocks, so no task may be the last
    producer: Weak<BaseProducer<Context>>,
    state: Arc<State>,
}

pub(crate) struct State {
    number: u64,
    void: CancellationToken,
    why: Mutex<Option<Void>>,
    ended: CancellationToken,
    closing: AtomicBool,
    in_flight: AtomicUsize,
    moved: Mutex<Instant>,
    capacity: Notify,
    produced: Mutex<Option<(String, Counter)>>,
    suspects: Suspects,
}

#[derive(Clone)]
struct Void {
    reason: String,
    failure: Option<Failure>,
}

pub(crate) struct Context(Arc<State>);

impl Generation {
    pub(crate) fn start(
        config: &ClientConfig,
        stall: Duration,
        suspects: Suspects,
    ) -> Result<Arc<Self>, SendError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let state = Arc::new(State {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            void: CancellationToken::new(),
            why: Mutex::default(),
            ended: CancellationToken::new(),
            closing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            moved: Mutex::new(Instant::now()),
            capacity: Notify::new(),
            produced: Mutex::default(),
            suspects,
        });
        let refused = |cause: String| SendError::Refused {
            reason: format!("the producer cannot be created: {cause}"),
            remedy: "check the [kafka] settings: engagectl check".into(),
        };
        let created =
            config.create_with_context::<_, BaseProducer<Context>>(Context(Arc::clone(&state)));
        let producer = Arc::new(created.map_err(|error| refused(error.to_string()))?);
        let weak = Arc::downgrade(&producer);
        let thread = Thread {
            producer,
            state: Arc::clone(&state),
            stall,
        };
        std::thread::Builder::new()
            .name("kafka-producer".into())
            .spawn(move || thread.run())
            .map_err(|error| refused(error.to_string()))?;
        Ok(Arc::new(Self {
            producer: weak,
            state,
        }))
    }

    /// Hands a record to librdkafka; waits while its queue is full.
    pub(crate) async fn enqueue(
        &self,
        record: &OutRecord,
        to: &Arc<dyn Ack>,
        token: i64,
    ) -> Result<(), SendError> {
        loop {
            match self.try_enqueue(record, to, token) {
                Err(Full::QueueFull) => self.room().await,
                Err(Full::Failed(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    pub(crate) fn try_enqueue(
        &self,
        record: &OutRecord,
        to: &Arc<dyn Ack>,
        token: i64,
    ) -> Result<(), Full> {
        let Some(producer) = self.producer.upgrade().filter(|_| !self.is_void()) else {
            return Err(Full::Failed(
                self.void_error(&record.topic, record.partition),
            ));
        };
        let native = BaseRecord {
            topic: &record.topic,
            partition: record.partition,
            payload: record.payload.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp_ms,
            headers: headers_of(&record.headers),
            delivery_opaque: Box::new(Delivery {
                to: Arc::clone(to),
                token,
            }),
        };
        self.state.sending();
        let Err((error, _)) = producer.send(native) else {
            return Ok(());
        };
        self.state.settled();
        Err(self.refusal(record, token, &error))
    }

    /// Waits until a delivery made room (or a moment has passed).
    pub(crate) async fn room(&self) {
        let _ = tokio::time::timeout(POLL, self.state.capacity.notified()).await;
    }

    fn refusal(&self, record: &OutRecord, token: i64, error: &KafkaError) -> Full {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let partition = record.partition.unwrap_or(-1);
        match code {
            RDKafkaErrorCode::QueueFull => Full::QueueFull,
            RDKafkaErrorCode::MessageSizeTooLarge => Full::Failed(SendError::TooLarge {
                topic: record.topic.to_string(),
                size: record.size(),
                limit: 0,
            }),
            _ => {
                let failure = Failure {
                    topic: record.topic.to_string(),
                    partition,
                    offset: token,
                    code,
                };
                self.state.fail(failure);
                Full::Failed(self.void_error(&record.topic, record.partition))
            }
        }
    }

    pub(crate) fn is_void(&self) -> bool {
        self.state.void.is_cancelled()
    }

    pub(crate) async fn voided(&self) {
        self.state.void.cancelled().await;
    }

    pub(crate) async fn ended(&self) {
        self.state.ended.cancelled().await;
    }

    pub(crate) async fn idle(&self) {
        while self.state.in_flight.load(Ordering::SeqCst) > 0 && !self.is_void() {
            self.room().await;
        }
    }

    /// A failure of the asker's own partition that a human must repair is refused; any other end is a reason to resume.
    pub(crate) fn void_error(&self, topic: &str, partition: Option<i32>) -> SendError {
        let Some(Void { reason, failure }) = locked(&self.state.why).clone() else {
            return SendError::Void {
                reason: "it was closed".into(),
            };
        };
        let own = failure.filter(|failure| {
            failure.topic == topic && partition.is_none_or(|p| p == failure.partition)
        });
        match own.as_ref().map(Failure::class) {
            Some(FailureClass::Configuration) => SendError::Refused {
                reason,
                remedy: "create the topic with `engagectl init`, or grant this user write on it"
                    .into(),
            },
            _ => SendError::Void { reason },
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
    }
}

pub(crate) enum Full {
    QueueFull,
    Failed(SendError),
}

fn headers_of(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let native = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(native, |native, (key, value)| {
        native.insert(Header {
            key,
            value: value.as_deref(),
        })
    }))
}

impl State {
    fn sending(&self) {
        if self.in_flight.fetch_add(1, Ordering::SeqCst) == 0 {
            *locked(&self.moved) = Instant::now();
        }
    }

    fn settled(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.capacity.notify_waiters();
    }

    fn fail(&self, failure: Failure) {
        if failure.class() == FailureClass::Record {
            let at = (failure.topic.as_str().into(), failure.partition);
            let fresh = Suspect::new(self.number, failure.offset, failure.code);
            let mut suspects = locked(&self.suspects);
            suspects
                .entry(at)
                .and_modify(|known| known.again(self.number, failure.offset, failure.code))
                .or_insert(fresh);
        }
        let Failure {
            topic,
            partition,
            offset,
            code,
        } = &failure;
        let reason =
            format!("topic {topic} partition {partition}, sent for offset {offset}: {code}");
        self.give_up("delivery", reason, Some(failure));
    }

    fn give_up(&self, kind: &'static str, reason: String, failure: Option<Failure>) {
        let mut why = locked(&self.why);
        if why.is_some() {
            return;
        }
        warn!(%reason, "producer given up");
        counter!(PRODUCER_VOID_TOTAL, "reason" => kind).increment(1);
        *why = Some(Void { reason, failure });
        drop(why);
        self.void.cancel();
        self.capacity.notify_waiters();
    }

    /// Looking a counter up costs more than counting: the one used last is kept.
    fn count(&self, topic: &str) {
        let mut produced = locked(&self.produced);
        if produced.as_ref().is_none_or(|(known, _)| known != topic) {
            *produced = Some((
                topic.to_owned(),
                counter!(PRODUCED_TOTAL, "topic" => topic.to_owned()),
            ));
        }
        if let Some((_, counter)) = produced.as_ref() {
            counter.increment(1);
        }
    }

    /// Nobody uses it any more; not a failure.
    fn retire(&self) {
        let reason = "it was closed".to_owned();
        locked(&self.why).get_or_insert(Void {
            reason,
            failure: None,
        });
        self.void.cancel();
    }

    fn is_stalled(&self, stall: Duration) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0 && locked(&self.moved).elapsed() > stall
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0
                .give_up("fatal", format!("fatal error: {reason}"), None);
        } else {
            debug!(%error, reason, "producer client error");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Self::DeliveryOpaque) {
        let Delivery { to, token } = *delivery;
        match result {
            Ok(message) => {
                *locked(&self.0.moved) = Instant::now();
                self.0.count(message.topic());
                to.acked(token, message.partition(), message.offset());
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let topic = message.topic().to_owned();
                self.0.fail(Failure {
                    topic,
                    partition: message.partition(),
                    offset: token,
                    code,
                });
                to.failed(token);
            }
        }
        self.0.settled();
    }
}

struct Thread {
    producer: Arc<BaseProducer<Context>>,
    state: Arc<State>,
    stall: Duration,
}

impl Thread {
    fn run(self) {
        loop {
            self.producer.poll(POLL);
            if self.state.closing.load(Ordering::SeqCst) {
                self.state.retire();
            } else if self.state.is_stalled(self.stall) {
                let reason = format!("nothing acknowledged for {} s", self.stall.as_secs());
                self.state.give_up("stall", reason, None);
            }
            if self.state.void.is_cancelled() {
                break;
            }
        }
        self.end();
    }

    /// Purge first: what is purged cannot be sent late, by a client that is only waiting to be destroyed.
    fn end(self) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        let state = self.state;
        let mut producer = self.producer;
        loop {
            producer.poll(POLL);
            match Arc::try_unwrap(producer) {
                Ok(last) => break drop(last),
                Err(shared) => producer = shared,
            }
        }
        state.ended.cancel();
    }
}
