//! The task of an assigned partition, which opens its lane again after a failure.
//!
//! Invariant: a lane that failed gets no further record until it is opened anew and has named an offset again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Point;
use metrics::counter;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Committed;
use super::group::Group;
use super::handle::{LaneHandle, blocking};
use super::lane::LaneShared;
use crate::error::LaneError;
use crate::lineage::same_log;
use crate::metrics::{LANE_RETRIES_TOTAL, lineage_violation};
use crate::status::LaneState;

pub(crate) type LaneFuture = Pin<Box<dyn Future<Output = Result<(), LaneError>> + Send>>;
pub(crate) type Open = Arc<dyn Fn(LaneHandle) -> LaneFuture + Send + Sync>;

/// A lane that ran this long before it failed starts its backoff anew.
const SETTLED: Duration = Duration::from_secs(60);

/// A lane with its task.
pub(crate) struct Lane {
    pub(crate) shared: Arc<LaneShared>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// Starts the task. `remembered` is what this process committed to the partition before, if it ever did.
pub(crate) fn spawn(
    runtime: &tokio::runtime::Handle,
    group: &Arc<Group>,
    open: &Open,
    partition: i32,
    remembered: Option<Committed>,
) -> Lane {
    let progress = group.status.open_lane(partition);
    let shared = LaneShared::new(Arc::clone(&group.topic), partition, progress);
    let stop = CancellationToken::new();
    let supervisor = Supervisor {
        group: Arc::clone(group),
        open: Arc::clone(open),
        shared: Arc::clone(&shared),
        stop: stop.clone(),
        remembered,
    };
    Lane {
        shared,
        stop,
        task: runtime.spawn(supervisor.run()),
    }
}

struct Supervisor {
    group: Arc<Group>,
    open: Open,
    shared: Arc<LaneShared>,
    stop: CancellationToken,
    remembered: Option<Committed>,
}

impl Supervisor {
    async fn run(self) {
        let mut failures = 0u32;
        while !self.stop.is_cancelled() {
            self.state(LaneState::Opening);
            let opened = Instant::now();
            let outcome = self.attempt().await;
            if self.stop.is_cancelled() {
                return;
            }
            if opened.elapsed() > SETTLED {
                failures = 0;
            }
            let ended = "the lane ended without being told to";
            match outcome.and_then(|()| Err(LaneError::retry(ended))) {
                Ok(()) => {}
                Err(LaneError::Retry { reason }) => self.pause(&mut failures, reason).await,
                Err(LaneError::Stop { reason, remedy }) => return self.halt(reason, remedy).await,
            }
        }
    }

    async fn attempt(&self) -> Result<(), LaneError> {
        let committed = self.committed().await?;
        let handle = LaneHandle {
            group: Arc::clone(&self.group),
            shared: Arc::clone(&self.shared),
            committed,
            attempt: self.shared.attempt(),
            stopping: self.stop.child_token(),
        };
        let stopping = handle.stopping.clone();
        self.state(LaneState::Running);
        let lane = tokio::spawn((self.open)(handle));
        let _aborted = AbortOnDrop(lane.abort_handle());
        let outcome = lane.await;
        stopping.cancel();
        self.shared.end_attempt();
        if let Some(fault) = self.shared.cursor.take_fault() {
            return Err(fault);
        }
        outcome.unwrap_or_else(|error| {
            let reason = format!(
                "topic {} partition {}: the lane panicked: {error}",
                self.shared.topic, self.shared.partition
            );
            Err(LaneError::stop(
                reason,
                "report it with the log; other partitions go on",
            ))
        })
    }

    /// The group's commit, after making sure that it belongs to the log this process knows.
    async fn committed(&self) -> Result<Option<Committed>, LaneError> {
        faults::reach(Point::StreamOpenBefore).await;
        if faults::fails(Point::StreamOpenBefore) {
            return Err(LaneError::retry("the commit cannot be read"));
        }
        let (group, partition) = (Arc::clone(&self.group), self.shared.partition);
        let remembered = self
            .shared
            .latest_commit()
            .or_else(|| self.remembered.clone());
        let (committed, log) = blocking(move || {
            let log = group.watermarks(partition)?;
            Ok((group.committed(partition)?, log))
        })
        .await?;
        self.group.status.end_of_log(partition, log.high);
        same_log(remembered.as_ref(), committed.as_ref(), log).map_err(|refusal| {
            lineage_violation();
            let reason = format!(
                "topic {} partition {partition}: {refusal}",
                self.shared.topic
            );
            LaneError::stop(reason, refusal.remedy())
        })?;
        let from = committed.as_ref().map_or(log.low, |at| at.offset);
        self.shared.progress.known(from);
        faults::reach(Point::StreamOpenAfter).await;
        Ok(committed)
    }

    async fn pause(&self, failures: &mut u32, reason: String) {
        self.detach().await;
        let wait = backoff(&self.group.options, *failures);
        *failures += 1;
        counter!(LANE_RETRIES_TOTAL, "topic" => self.shared.topic.to_string(), "group" => self.group.options.group.clone())
            .increment(1);
        warn!(topic = %self.shared.topic, partition = self.shared.partition, %reason, wait_ms = wait.as_millis(), "lane opens again");
        self.state(LaneState::Retrying { reason });
        let _ = tokio::time::timeout(wait, self.stop.cancelled()).await;
    }

    /// Stays assigned and silent, so that no other member stumbles over the same fault.
    async fn halt(&self, reason: String, remedy: String) {
        self.detach().await;
        error!(topic = %self.shared.topic, partition = self.shared.partition, %reason, %remedy, "lane stopped");
        self.state(LaneState::Stopped { reason, remedy });
        self.stop.cancelled().await;
    }

    async fn detach(&self) {
        let (group, partition) = (Arc::clone(&self.group), self.shared.partition);
        if let Err(error) = blocking(move || group.end(&[partition])).await {
            info!(partition, %error, "delivery not ended");
        }
    }

    fn state(&self, state: LaneState) {
        self.group.status.lane(self.shared.partition, state);
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Doubles from the shortest to the longest pause; lanes spread by the partitions' own timing.
fn backoff(options: &super::LanesOptions, failures: u32) -> Duration {
    options
        .retry_min
        .saturating_mul(1 << failures.min(16))
        .min(options.retry_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::LanesOptions;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = LanesOptions::new(crate::KafkaSettings::default(), "g", "t", || 0);
        let pauses: Vec<u128> = (0..9).map(|n| backoff(&options, n).as_millis()).collect();
        assert_eq!(
            pauses,
            [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]
        );
    }
}
