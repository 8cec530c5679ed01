//! The consumer as the lanes share it: assignment, commits, and questions to the broker.
//!
//! Invariant: `started` is exactly what librdkafka has assigned, so that only what was assigned is unassigned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::Point;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Client;
use super::lane::LaneShared;
use super::{Committed, LanesOptions, Watermarks};
use crate::error::LaneError;
use crate::probe::Probe;
use crate::status::Status;
use crate::sync::locked;

/// How long one question to the broker may take.
pub(crate) const ASK: Duration = Duration::from_secs(10);

pub(crate) struct Group {
    pub(crate) options: LanesOptions,
    pub(crate) topic: Arc<str>,
    pub(crate) consumer: Arc<Client>,
    pub(crate) status: Arc<Status>,
    pub(crate) probe: Probe,
    started: Mutex<BTreeMap<i32, Arc<LaneShared>>>,
}

impl Group {
    pub(crate) fn new(
        options: LanesOptions,
        consumer: Arc<Client>,
        status: Arc<Status>,
    ) -> Arc<Self> {
        let topic: Arc<str> = options.topic.as_str().into();
        let probe = Probe::new(&options.settings, &options.group);
        Arc::new(Self {
            options,
            topic,
            consumer,
            status,
            probe,
            started: Mutex::default(),
        })
    }

    /// Begins delivery at exactly this offset; may be called again to start elsewhere.
    pub(crate) fn start(
        &self,
        lane: &Arc<LaneShared>,
        attempt: u64,
        offset: i64,
    ) -> Result<(), LaneError> {
        let mut started = locked(&self.started);
        if lane.attempt() != attempt {
            return Err(LaneError::retry("the lane has ended"));
        }
        if self.is_cooperative() {
            if started.remove(&lane.partition).is_some() {
                self.consumer
                    .incremental_unassign(&self.list([(lane.partition, None)])?)?;
            }
            lane.cursor.open(&self.consumer, offset)?;
            self.consumer
                .incremental_assign(&self.list([(lane.partition, Some(offset))])?)?;
            started.insert(lane.partition, Arc::clone(lane));
            return Ok(());
        }
        if started.remove(&lane.partition).is_some() {
            self.assign_all(&started)?;
        }
        lane.cursor.open(&self.consumer, offset)?;
        started.insert(lane.partition, Arc::clone(lane));
        self.assign_all(&started)
    }

    /// Ends delivery; a partition that was never started is left alone.
    pub(crate) fn end(&self, partitions: &[i32]) -> Result<(), LaneError> {
        let mut started = locked(&self.started);
        let mut ended = Vec::new();
        for partition in partitions {
            if let Some(lane) = started.remove(partition) {
                lane.cursor.close();
                ended.push((*partition, None));
            }
        }
        if self.is_cooperative() {
            // an empty list still answers a revoke
            return Ok(self.consumer.incremental_unassign(&self.list(ended)?)?);
        }
        if started.is_empty() {
            return Ok(self.consumer.unassign()?);
        }
        self.assign_all(&started)
    }

    /// The eager protocol knows whole assignments only: every lane is assigned again where its cursor stands. What a lane
    /// takes meanwhile arrives twice, and its cursor drops it.
    fn assign_all(&self, started: &BTreeMap<i32, Arc<LaneShared>>) -> Result<(), LaneError> {
        let mut offsets = Vec::with_capacity(started.len());
        for (partition, lane) in started {
            let next = lane.cursor.next();
            lane.cursor.open(&self.consumer, next)?;
            offsets.push((*partition, Some(next)));
        }
        Ok(self.consumer.assign(&self.list(offsets)?)?)
    }

    pub(crate) fn is_cooperative(&self) -> bool {
        matches!(
            self.consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        )
    }

    /// Blocking.
    pub(crate) fn committed(&self, partition: i32) -> Result<Option<Committed>, LaneError> {
        self.committed_of(&self.topic, partition)
    }

    /// The group's commit for a partition of any topic. Blocking.
    pub(crate) fn committed_of(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<Committed>, LaneError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = self.consumer.committed_offsets(list, ASK)?;
        let Some(element) = list.find_partition(topic, partition) else {
            return Ok(None);
        };
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some(Committed {
                offset,
                metadata: element.metadata().to_owned(),
            }),
            _ => None,
        })
    }

    /// Blocking.
    pub(crate) fn watermarks(&self, partition: i32) -> Result<Watermarks, LaneError> {
        let (low, high) = self
            .consumer
            .fetch_watermarks(&self.topic, partition, ASK)?;
        Ok(Watermarks { low, high })
    }

    /// Where these partitions end, in one question to each of their leaders. Blocking, for at most this long.
    pub(crate) fn ends_within(
        &self,
        partitions: &[i32],
        within: Duration,
    ) -> Result<Vec<(i32, i64)>, LaneError> {
        let asked = partitions.iter().map(|partition| (*partition, None));
        let mut list = self.list(asked)?;
        // in place of a time, "the end" asks for the end of the log
        list.set_all_offsets(Offset::End)?;
        let answer = self.consumer.offsets_for_times(list, within)?;
        let mut ends = Vec::with_capacity(partitions.len());
        for element in answer.elements() {
            element.error()?;
            if let Offset::Offset(end) = element.offset() {
                ends.push((element.partition(), end));
            }
        }
        Ok(ends)
    }

    /// Blocking. One partition per call, because an error of one among several is not reported.
    pub(crate) fn commit_now(&self, partition: i32, committed: &Committed) -> KafkaResult<()> {
        self.commit_of(&self.topic, partition, committed)
    }

    /// A commit for a partition of any topic. Blocking.
    pub(crate) fn commit_of(
        &self,
        topic: &str,
        partition: i32,
        committed: &Committed,
    ) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(committed.offset))?;
        element.set_metadata(&committed.metadata);
        self.consumer.commit(&list, CommitMode::Sync)
    }

    /// A commit of a running lane; blocking.
    pub(crate) fn commit_soon(&self, partition: i32, committed: &Committed) -> KafkaResult<()> {
        faults::reach_blocking(Point::StreamCommitBefore);
        if faults::fails(Point::StreamCommitBefore) {
            return Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::CoordinatorNotAvailable,
            ));
        }
        self.commit_now(partition, committed)?;
        faults::reach_blocking(Point::StreamCommitAfter);
        Ok(())
    }

    fn list(
        &self,
        partitions: impl IntoIterator<Item = (i32, Option<i64>)>,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in partitions {
            let offset = offset.map_or(Offset::Invalid, Offset::Offset);
            list.add_partition_offset(&self.topic, partition, offset)?;
        }
        Ok(list)
    }
}

/// A commit refused because the group is between two generations; the next one, or the new owner, makes up for it.
pub(crate) fn is_rebalancing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::IllegalGeneration
                | Code::UnknownMemberId
                | Code::RebalanceInProgress
                | Code::StaleMemberEpoch
                | Code::NoOffset
                | Code::AssignmentLost
        )
    )
}
