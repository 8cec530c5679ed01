//! One librdkafka producer, from its creation to the moment it is given up.
//!
//! Invariant: once void, nothing is enqueued any more, what was queued or in flight is purged, and then the client is
//! destroyed by its own thread. There is no way back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use faults::Point;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::failure::{Failure, FailureClass, SendError};
use super::state::{Ack, Context, Delivery, State, Void};
use super::{OutRecord, Suspects};
use crate::headers::Headers;

const POLL: Duration = Duration::from_millis(50);

pub(crate) struct Generation {
    // the thread holds the only lasting reference: dropping the client blocks, so no task may be the last
    producer: Weak<BaseProducer<Context>>,
    state: Arc<State>,
}

impl Generation {
    pub(crate) fn start(
        config: &ClientConfig,
        stall: Duration,
        suspects: Suspects,
    ) -> Result<Arc<Self>, SendError> {
        let state = State::new(suspects);
        let refused = |cause: String| SendError::Refused {
            reason: format!("the producer cannot be created: {cause}"),
            remedy: "check the [kafka] settings: engagectl check".into(),
        };
        let created = config.create_with_context::<_, BaseProducer<Context>>(Context::new(&state));
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
            delivery_opaque: Box::new(Delivery::new(to, token)),
        };
        self.state.sending();
        let Err((error, _)) = producer.send(native) else {
            return Ok(());
        };
        self.state.settled();
        Err(self.refusal(&producer, record, token, &error))
    }

    /// Waits until a delivery made room (or a moment has passed).
    pub(crate) async fn room(&self) {
        let _ = tokio::time::timeout(POLL, self.state.room()).await;
    }

    fn refusal(
        &self,
        producer: &BaseProducer<Context>,
        record: &OutRecord,
        token: i64,
        error: &KafkaError,
    ) -> Full {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let partition = record.partition.unwrap_or(-1);
        match (code, producer.client().fatal_error()) {
            (RDKafkaErrorCode::QueueFull, _) => Full::QueueFull,
            // what was sent before has failed, and nobody was told yet
            (_, Some((_, reason))) => {
                self.state.fatal(&reason);
                Full::Failed(self.void_error(&record.topic, record.partition))
            }
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

    /// No record is handed over any more, for a reason of the caller.
    pub(super) fn give_up(&self, reason: &'static str) {
        self.state.give_up(reason, reason.to_owned(), None);
    }

    pub(crate) fn is_void(&self) -> bool {
        self.state.is_void()
    }

    pub(crate) async fn voided(&self) {
        self.state.voided().await;
    }

    pub(crate) async fn ended(&self) {
        self.state.ended().await;
    }

    pub(crate) async fn idle(&self) {
        while self.state.is_busy() && !self.is_void() {
            self.room().await;
        }
    }

    /// [`Self::void_error`] for a record that was to be acknowledged by itself: what the broker refuses is not tried for ever.
    pub(crate) fn acked_error(&self, topic: &str, partition: Option<i32>) -> SendError {
        match self.own_failure(topic, partition) {
            Some((reason, FailureClass::Record)) => SendError::Rejected { reason },
            _ => self.void_error(topic, partition),
        }
    }

    fn own_failure(&self, topic: &str, partition: Option<i32>) -> Option<(String, FailureClass)> {
        let Void { reason, failure } = self.state.why()?;
        let own = failure.filter(|failure| {
            failure.topic == topic && partition.is_none_or(|p| p == failure.partition)
        })?;
        Some((reason, own.class()))
    }

    /// A failure of the asker's own partition that a human must repair is refused; any other end is a reason to resume.
    pub(crate) fn void_error(&self, topic: &str, partition: Option<i32>) -> SendError {
        let Some(Void { reason, .. }) = self.state.why() else {
            return SendError::Void {
                reason: "it was closed".into(),
            };
        };
        match self.own_failure(topic, partition) {
            Some((reason, FailureClass::Configuration)) => SendError::Refused {
                reason,
                remedy: "create the topic with `engagectl init`, or grant KAFKA_SASL_USERNAME write on it; `engagectl access kafka` \
                         lists what each service needs"
                    .into(),
            },
            _ => SendError::Void { reason },
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.state.close();
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

struct Thread {
    producer: Arc<BaseProducer<Context>>,
    state: Arc<State>,
    stall: Duration,
}

impl Thread {
    fn run(self) {
        loop {
            self.producer.poll(POLL);
            if self.state.is_closing() {
                self.state.retire();
            } else if self.state.is_stalled(self.stall) {
                let reason = format!("nothing acknowledged for {} s", self.stall.as_secs());
                self.state.give_up("stall", reason, None);
            }
            if self.state.is_void() {
                break;
            }
        }
        self.end();
    }

    /// Purge first: what is purged cannot be sent late, by a client that is only waiting to be destroyed.
    fn end(self) {
        faults::reach_blocking(Point::StreamPurgeBefore);
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
        faults::reach_blocking(Point::StreamPurgeAfter);
        state.end();
    }
}
