//! A lane's own queue inside librdkafka, and how far it was read.
//!
//! Invariant: `next` rises by the records handed out, and only a new start sets it back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use super::context::{Client, GroupContext};
use crate::error::LaneError;
use crate::record::Record;
use crate::sync::locked;

pub(crate) struct Cursor {
    topic: Arc<str>,
    partition: i32,
    arrived: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Option<PartitionQueue<GroupContext>>,
    next: i64,
    fault: Option<LaneError>,
}

pub(crate) enum Polled {
    Record(Record),
    Nothing,
    Fault,
}

impl Cursor {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            arrived: Arc::new(Notify::new()),
            state: Mutex::default(),
        }
    }

    /// Splits the partition's queue off; to be called before the partition is assigned.
    pub(crate) fn open(&self, consumer: &Arc<Client>, next: i64) -> Result<(), LaneError> {
        let mut state = locked(&self.state);
        // dropping a queue switches its wake-up off, so the old one goes before the new one comes
        *state = State {
            next,
            ..State::default()
        };
        let mut queue = consumer
            .split_partition_queue(&self.topic, self.partition)
            .ok_or_else(|| {
                LaneError::retry(format!("no queue for {}/{}", self.topic, self.partition))
            })?;
        let arrived = Arc::clone(&self.arrived);
        queue.set_nonempty_callback(move || arrived.notify_one());
        state.queue = Some(queue);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    pub(crate) fn close(&self) {
        locked(&self.state).queue = None;
    }

    pub(crate) fn next(&self) -> i64 {
        locked(&self.state).next
    }

    pub(crate) fn poll(&self) -> Polled {
        let mut state = locked(&self.state);
        if state.fault.is_some() {
            return Polled::Fault;
        }
        let Some(queue) = &state.queue else {
            return Polled::Nothing;
        };
        let outcome = match queue.poll(Duration::ZERO) {
            None => return Polled::Nothing,
            Some(Ok(message)) => Ok(Record::of(&self.topic, &message)),
            Some(Err(error)) => Err(error),
        };
        match outcome {
            Ok(record) if record.offset < state.next => Polled::Nothing,
            Ok(record) => {
                state.next = record.offset + 1;
                Polled::Record(record)
            }
            Err(error) => match self.fault_of(&error, state.next) {
                None => Polled::Nothing,
                fault => {
                    state.fault = fault;
                    Polled::Fault
                }
            },
        }
    }

    pub(crate) async fn arrival(&self) {
        // the second is only a net under the wake-up
        let _ = tokio::time::timeout(Duration::from_secs(1), self.arrived.notified()).await;
    }

    pub(crate) fn fail(&self, error: LaneError) {
        locked(&self.state).fault.get_or_insert(error);
        self.arrived.notify_one();
    }

    pub(crate) fn take_fault(&self) -> Option<LaneError> {
        locked(&self.state).fault.take()
    }

    fn fault_of(&self, error: &KafkaError, next: i64) -> Option<LaneError> {
        use RDKafkaErrorCode as Code;
        let at = format!(
            "topic {} partition {} offset {next}",
            self.topic, self.partition
        );
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF | Code::NoError) | None => None,
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Some(LaneError::stop(
                format!(
                    "{at} is outside of the log: retention overtook it or the topic was recreated"
                ),
                "see `engagectl lineage show`, then `engagectl lineage adopt` and `engagectl verify`",
            )),
            Some(Code::TopicAuthorizationFailed) => Some(LaneError::stop(
                format!("{at}: reading is denied"),
                "grant KAFKA_SASL_USERNAME read on the topic; `engagectl access kafka` lists what each service needs",
            )),
            Some(Code::BadMessage) => Some(LaneError::stop(
                format!("{at}: the stored record fails its checksum"),
                "repair the broker's disk or restore the partition from another replica; if neither can be done, remove the log up to \
                 and with this offset (kafka-delete-records.sh), then `engagectl lineage adopt` and `engagectl verify`",
            )),
            Some(code) => Some(LaneError::retry(format!("{at}: {code}"))),
        }
    }
}
