//! Sends what lanes commit: every second while they run, and a last time when they close.
//!
//! Invariant: a commit is taken from its lane right before it is sent, and a refused one goes back; so a lane's commits
//! leave in their order, and a closed lane has nothing to take.

use std::sync::Arc;

use faults::Point;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::Committed;
use super::group::{Group, is_rebalancing};
use super::supervisor::Lane;

/// The commits of running lanes.
#[derive(Default)]
pub(super) struct Commits {
    /// On their way.
    sending: Option<JoinHandle<()>>,
}

impl Commits {
    /// Off the poll thread, one partition a call: the answer to a call for several hides the error of one, and no answer
    /// comes while the coordinator is away. What is refused is sent again the next time.
    pub(super) fn send<'a>(
        &mut self,
        runtime: &Handle,
        group: &Arc<Group>,
        lanes: impl Iterator<Item = &'a Lane>,
    ) {
        let is_sending = |task: &JoinHandle<()>| !task.is_finished();
        if self.sending.as_ref().is_some_and(is_sending) {
            return;
        }
        let lanes: Vec<_> = lanes
            .map(|lane| Arc::clone(&lane.shared))
            .filter(|lane| lane.has_commit())
            .collect();
        if lanes.is_empty() {
            return;
        }
        let group = Arc::clone(group);
        self.sending = Some(runtime.spawn_blocking(move || {
            for lane in lanes {
                let Some(committed) = lane.take_commit() else {
                    continue;
                };
                let answer = group.commit_soon(lane.partition, &committed);
                if let Err(error) = &answer {
                    debug!(partition = lane.partition, offset = committed.offset, %error, "commit failed");
                }
                lane.answered(committed.offset, answer.is_ok());
            }
        }));
    }
}

/// The commit of a lane that is given back; whether the broker has accepted it.
pub(super) fn commit_last(group: &Group, partition: i32, committed: &Committed) -> bool {
    let offset = committed.offset;
    let answer = last_commit(group, partition, committed);
    let accepted = answer.is_ok();
    match answer {
        Ok(()) => debug!(partition, offset, "committed on close"),
        Err(error) if is_rebalancing(&error) => {
            debug!(partition, offset, %error, "commit dropped: the group has moved on");
        }
        Err(error) => {
            warn!(partition, offset, %error, "commit on close failed; the next owner proves its position");
        }
    }
    accepted
}

fn last_commit(group: &Group, partition: i32, committed: &Committed) -> KafkaResult<()> {
    faults::reach_blocking(Point::StreamLastCommitBefore);
    if faults::fails(Point::StreamLastCommitBefore) {
        return Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::CoordinatorNotAvailable,
        ));
    }
    let answer = group.commit_now(partition, committed);
    faults::reach_blocking(Point::StreamLastCommitAfter);
    answer
}
