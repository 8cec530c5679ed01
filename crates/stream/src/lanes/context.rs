//! What librdkafka calls back with.
//!
//! Invariant: a callback only notes; the poll thread acts. (Rebalances may be answered after the callback has returned.)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, warn};

use super::LanesOptions;
use crate::error::RunError;
use crate::status::Status;
use crate::sync::locked;

pub(crate) type Client = BaseConsumer<GroupContext>;

#[derive(Debug)]
pub(crate) enum GroupEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

pub(crate) struct GroupContext {
    topic: String,
    status: Arc<Status>,
    events: Mutex<VecDeque<GroupEvent>>,
    closing: AtomicBool,
}

pub(crate) fn connect(
    options: &LanesOptions,
    status: &Arc<Status>,
) -> Result<Arc<Client>, RunError> {
    let context = GroupContext {
        topic: options.topic.clone(),
        status: Arc::clone(status),
        events: Mutex::default(),
        closing: AtomicBool::new(false),
    };
    let config = options
        .settings
        .consumer_config(&options.group, options.inbox);
    let consumer = config
        .create_with_context(context)
        .map_err(crate::settings::SettingsError::from)?;
    Ok(Arc::new(consumer))
}

impl GroupContext {
    pub(crate) fn take_event(&self) -> Option<GroupEvent> {
        locked(&self.events).pop_front()
    }

    /// From now on rebalances are answered inside the callback, because nobody polls for them any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    fn note(&self, event: GroupEvent) {
        locked(&self.events).push_back(event);
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<i32> {
        list.elements_for_topic(&self.topic)
            .iter()
            .map(TopicPartitionListElem::partition)
            .collect()
    }
}

impl ClientContext for GroupContext {
    fn stats(&self, statistics: Statistics) {
        self.status.statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.status.client_error(code, reason);
        }
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = self.partitions(list);
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        debug!(?partitions, assigned, "rebalance");
        if self.closing.load(Ordering::SeqCst) {
            if let Err(error) = answer_empty(consumer, assigned) {
                warn!(%error, "rebalance while closing not answered");
            }
        } else if assigned {
            self.note(GroupEvent::Assigned(partitions));
        } else {
            self.note(GroupEvent::Revoked(partitions));
        }
    }
}

/// Acknowledges a rebalance without starting or stopping a partition.
pub(crate) fn acknowledge_assign(consumer: &Client) -> KafkaResult<()> {
    answer_empty(consumer, true)
}

fn answer_empty(consumer: &Client, assigned: bool) -> KafkaResult<()> {
    let none = TopicPartitionList::new();
    match (consumer.rebalance_protocol(), assigned) {
        (RebalanceProtocol::Cooperative, true) => consumer.incremental_assign(&none),
        (RebalanceProtocol::Cooperative, false) => {
            consumer.incremental_unassign(&consumer.assignment()?)
        }
        (_, true) => consumer.assign(&none),
        (_, false) => consumer.unassign(),
    }
}
