//! What a lane holds of the loop.
//!
//! Invariant: everything here concerns one partition; nothing is read before [`LaneHandle::start`] named an offset.

use std::sync::Arc;

use faults::Point;
use tokio_util::sync::CancellationToken;

use super::cursor::Polled;
use super::group::Group;
use super::lane::LaneShared;
use super::{Committed, Watermarks};
use crate::error::LaneError;
use crate::probe::{Most, Tail};
use crate::record::Record;

/// One assigned partition.
pub struct LaneHandle {
    pub(super) group: Arc<Group>,
    pub(super) shared: Arc<LaneShared>,
    pub(super) committed: Option<Committed>,
    pub(super) attempt: u64,
    pub(super) stopping: CancellationToken,
}

impl LaneHandle {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.shared.partition
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// The consumer group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group.options.group
    }

    /// The group's commit when this lane was opened.
    #[must_use]
    pub fn committed(&self) -> Option<&Committed> {
        self.committed.as_ref()
    }

    /// Start and end of this partition, now.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn watermarks(&self) -> Result<Watermarks, LaneError> {
        let partition = self.partition();
        self.blocking(move |group| group.watermarks(partition))
            .await
    }

    /// Start and end of any partition, now.
    ///
    /// # Errors
    /// The broker did not answer, or there is no such partition.
    pub async fn watermarks_of(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Watermarks, LaneError> {
        self.group.probe.watermarks(topic, partition).await
    }

    /// Begins delivery at exactly this offset. May be called again to go elsewhere: what was not taken yet is dropped.
    ///
    /// # Errors
    /// The partition is being taken away, or librdkafka refuses.
    pub async fn start(&mut self, offset: i64) -> Result<(), LaneError> {
        self.pass(Point::StreamStartBefore).await?;
        let (shared, attempt) = (Arc::clone(&self.shared), self.attempt);
        shared.begin(offset);
        self.blocking(move |group| group.start(&shared, attempt, offset))
            .await?;
        self.pass(Point::StreamStartAfter).await
    }

    /// The next record, in offset order; `None`: stop (flush or drop, then return `Ok`). Safe to cancel.
    pub async fn recv(&mut self) -> Option<Record> {
        loop {
            if self.stopping.is_cancelled() {
                return None;
            }
            match self.shared.cursor.poll() {
                Polled::Record(record) => {
                    self.shared.delivered(&record);
                    return Some(record);
                }
                Polled::Fault => {
                    self.stopping.cancel();
                    return None;
                }
                Polled::Nothing => {}
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                () = self.shared.cursor.arrival() => {}
            }
        }
    }

    /// Waits for one record, then takes what is there, up to `max`. Returns how many; 0: stop. Safe to cancel.
    pub async fn recv_many(&mut self, into: &mut Vec<Record>, max: usize) -> usize {
        let Some(first) = self.recv().await else {
            return 0;
        };
        into.push(first);
        let mut taken = 1;
        while taken < max {
            let Some(record) = self.try_recv() else { break };
            into.push(record);
            taken += 1;
        }
        taken
    }

    /// A record that is there already.
    pub fn try_recv(&mut self) -> Option<Record> {
        if self.stopping.is_cancelled() {
            return None;
        }
        match self.shared.cursor.poll() {
            Polled::Record(record) => {
                self.shared.delivered(&record);
                Some(record)
            }
            Polled::Nothing | Polled::Fault => None,
        }
    }

    /// Notes that everything below `next` is done. Sent about every second and when the lane ends; only the latest counts.
    pub fn commit(&self, next: i64, metadata: String) {
        self.shared.commit(next, metadata);
    }

    /// Commits and waits for the broker's answer.
    ///
    /// # Errors
    /// The commit was refused or not answered.
    pub async fn commit_now(&self, next: i64, metadata: String) -> Result<(), LaneError> {
        self.pass(Point::StreamFirstCommitBefore).await?;
        let shared = Arc::clone(&self.shared);
        let committed = Committed {
            offset: next,
            metadata,
        };
        self.blocking(move |group| {
            group.commit_now(shared.partition, &committed)?;
            shared.confirmed(committed);
            Ok(())
        })
        .await?;
        self.pass(Point::StreamFirstCommitAfter).await
    }

    /// For a task of the lane that commits while another one receives.
    #[must_use]
    pub fn committer(&self) -> Committer {
        Committer {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The record at exactly this offset of any partition; `None` if there is none (expired, compacted, a marker, or beyond the end).
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn read_one(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Record>, LaneError> {
        self.pass(Point::StreamReadBefore).await?;
        let found = self.group.probe.read_one(topic, partition, offset).await?;
        self.pass(Point::StreamReadAfter).await?;
        Ok(found)
    }

    /// The records of `[from, to)` of any partition that are there.
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
        self.pass(Point::StreamReadBefore).await?;
        let found = self
            .group
            .probe
            .read_range(topic, partition, from, to)
            .await?;
        self.pass(Point::StreamReadAfter).await?;
        Ok(found)
    }

    /// The next records of any partition at or after `from`, at most so many.
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
        self.pass(Point::StreamReadBefore).await?;
        let found = self
            .group
            .probe
            .read_some(topic, partition, from, most)
            .await?;
        self.pass(Point::StreamReadAfter).await?;
        Ok(found)
    }

    /// The group's commit for this partition of a topic that is read beside its own.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn committed_beside(&self, topic: &str) -> Result<Option<Committed>, LaneError> {
        let (topic, partition) = (topic.to_owned(), self.partition());
        self.blocking(move |group| group.committed_of(&topic, partition))
            .await
    }

    /// Commits for this partition of a topic that is read beside the group's own, and waits for the broker's answer.
    ///
    /// # Errors
    /// The commit was refused, as it is once the partition belongs to another member, or not answered.
    pub async fn commit_beside(
        &self,
        topic: &str,
        next: i64,
        metadata: String,
    ) -> Result<(), LaneError> {
        let (topic, partition) = (topic.to_owned(), self.partition());
        let committed = Committed {
            offset: next,
            metadata,
        };
        self.blocking(move |group| Ok(group.commit_of(&topic, partition, &committed)?))
            .await
    }

    /// Tells `records` the last records (about `wanted`) of any partition; with its watermarks.
    ///
    /// # Errors
    /// The broker did not answer.
    pub async fn tail<T: Extend<Record> + Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        wanted: u32,
        records: T,
    ) -> Result<Tail<T>, LaneError> {
        self.pass(Point::StreamTailBefore).await?;
        let probe = &self.group.probe;
        let tail = probe.tail(topic, partition, wanted, records).await?;
        self.pass(Point::StreamTailAfter).await?;
        Ok(tail)
    }

    /// Cancelled when the lane must end: the partition is taken away, cannot be read any more, or the process stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// A fault point of the lane.
    async fn pass(&self, point: Point) -> Result<(), LaneError> {
        faults::reach(point).await;
        if faults::fails(point) {
            return Err(LaneError::retry("the broker did not answer"));
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Group) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, LaneError> {
        let group = Arc::clone(&self.group);
        blocking(move || ask(&group)).await
    }
}

/// Notes what is done, from any task of the lane.
#[derive(Clone)]
pub struct Committer {
    shared: Arc<LaneShared>,
}

impl Committer {
    /// As [`LaneHandle::commit`].
    pub fn commit(&self, next: i64, metadata: String) {
        self.shared.commit(next, metadata);
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, LaneError> + Send + 'static,
) -> Result<T, LaneError> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer,
        Err(error) => Err(LaneError::retry(format!(
            "a call to the broker was given up: {error}"
        ))),
    }
}
