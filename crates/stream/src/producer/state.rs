//! What is known of a producer in use: what is in flight, when it last moved, and why it was given up.
//!
//! Invariant: the first reason stands; a state that is void never recovers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faults::Point;
use metrics::{Counter, counter};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Suspects;
use super::failure::{Failure, FailureClass, Suspect};
use crate::metrics::{PRODUCED_TOTAL, PRODUCER_VOID_TOTAL};
use crate::sync::locked;

/// Who wants to know of a delivery. Called on the producer's thread: only note and wake.
pub(super) trait Ack: Send + Sync {
    fn acked(&self, token: i64, partition: i32, offset: i64);
    fn failed(&self, token: i64);
}

pub(super) struct Delivery {
    to: Arc<dyn Ack>,
    token: i64,
}

impl Delivery {
    pub(super) fn new(to: &Arc<dyn Ack>, token: i64) -> Self {
        Self {
            to: Arc::clone(to),
            token,
        }
    }
}

pub(super) struct State {
    number: u64,
    void: CancellationToken,
    why: Mutex<Option<Void>>,
    ended: CancellationToken,
    closing: AtomicBool,
    in_flight: AtomicUsize,
    /// Something was acknowledged since [`Self::is_stalled`] looked last.
    acked: AtomicBool,
    moved: Mutex<Instant>,
    capacity: Notify,
    produced: Mutex<Option<(String, Counter)>>,
    suspects: Suspects,
}

#[derive(Clone)]
pub(super) struct Void {
    pub(super) reason: String,
    pub(super) failure: Option<Failure>,
}

pub(super) struct Context(Arc<State>);

impl State {
    pub(super) fn new(suspects: Suspects) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            void: CancellationToken::new(),
            why: Mutex::default(),
            ended: CancellationToken::new(),
            closing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            acked: AtomicBool::new(false),
            moved: Mutex::new(Instant::now()),
            capacity: Notify::new(),
            produced: Mutex::default(),
            suspects,
        })
    }

    pub(super) fn is_void(&self) -> bool {
        self.void.is_cancelled()
    }

    pub(super) async fn voided(&self) {
        self.void.cancelled().await;
    }

    pub(super) fn why(&self) -> Option<Void> {
        locked(&self.why).clone()
    }

    /// No handle is left.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// The client is destroyed.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0
    }

    /// Resolves when a delivery has settled.
    pub(super) fn room(&self) -> Notified<'_> {
        self.capacity.notified()
    }

    pub(super) fn sending(&self) {
        if self.in_flight.fetch_add(1, Ordering::SeqCst) == 0 {
            *locked(&self.moved) = Instant::now();
        }
    }

    pub(super) fn settled(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.capacity.notify_waiters();
    }

    pub(super) fn fail(&self, failure: Failure) {
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

    /// librdkafka goes no further, for this reason.
    pub(super) fn fatal(&self, reason: &str) {
        self.give_up("fatal", format!("fatal error: {reason}"), None);
    }

    pub(super) fn give_up(&self, kind: &'static str, reason: String, failure: Option<Failure>) {
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
    pub(super) fn retire(&self) {
        let reason = "it was closed".to_owned();
        locked(&self.why).get_or_insert(Void {
            reason,
            failure: None,
        });
        self.void.cancel();
    }

    /// Whether nothing was acknowledged for so long, as far as was looked.
    pub(super) fn is_stalled(&self, stall: Duration) -> bool {
        if self.acked.swap(false, Ordering::Relaxed) {
            *locked(&self.moved) = Instant::now();
        }
        self.is_busy() && locked(&self.moved).elapsed() > stall
    }
}

impl Context {
    pub(super) fn new(state: &Arc<State>) -> Self {
        Self(Arc::clone(state))
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.fatal(reason);
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
                faults::reach_blocking(Point::StreamAckBefore);
                if faults::fails(Point::StreamAckBefore) {
                    self.0
                        .give_up("fault", "an acknowledgement was lost".to_owned(), None);
                    return self.0.settled();
                }
                // the clock is read once for all that come together
                self.0.acked.store(true, Ordering::Relaxed);
                self.0.count(message.topic());
                to.acked(token, message.partition(), message.offset());
                faults::reach_blocking(Point::StreamAckAfter);
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
