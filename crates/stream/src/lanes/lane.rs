//! One assigned partition: its state, and the task that opens the lane again after a failure.
//!
//! Invariant: a lane that failed gets no further record until it is opened anew and has named an offset again.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faults::Point;
use metrics::{Counter, counter};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Committed;
use super::cursor::Cursor;
use super::group::Group;
use super::handle::{LaneHandle, blocking};
use crate::error::LaneError;
use crate::lineage::same_log;
use crate::metrics::{EVENTS_CONSUMED_TOTAL, LANE_RETRIES_TOTAL, lineage_violation};
use crate::record::Record;
use crate::status::{LaneState, Progress};
use crate::sync::locked;

pub(crate) type LaneFuture = Pin<Box<dyn Future<Output = Result<(), LaneError>> + Send>>;
pub(crate) type Open = Arc<dyn Fn(LaneHandle) -> LaneFuture + Send + Sync>;

/// A lane that ran this long before it failed starts its backoff anew.
const SETTLED: Duration = Duration::from_secs(60);

pub(crate) struct LaneShared {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) cursor: Cursor,
    pub(crate) progress: Arc<Progress>,
    commits: Mutex<Commits>,
    consumed: Counter,
    /// Raised whenever an opening of the lane ends; a start still under way from an earlier one has no effect.
    attempt: AtomicU64,
}

#[derive(Default)]
struct Commits {
    pending: Option<Committed>,
    /// Sent without waiting; not answered yet.
    sent: Option<Committed>,
    latest: Option<Committed>,
    closed: bool,
}

impl LaneShared {
    pub(crate) fn new(topic: Arc<str>, partition: i32, progress: Arc<Progress>) -> Arc<Self> {
        let cursor = Cursor::new(Arc::clone(&topic), partition);
        let consumed = counter!(EVENTS_CONSUMED_TOTAL, "topic" => topic.to_string());
        Arc::new(Self {
            topic,
            partition,
            cursor,
            progress,
            commits: Mutex::default(),
            consumed,
            attempt: AtomicU64::new(0),
        })
    }

    pub(crate) fn attempt(&self) -> u64 {
        self.attempt.load(Ordering::SeqCst)
    }

    fn end_attempt(&self) {
        self.attempt.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn begin(&self, offset: i64) {
        self.progress.begin(offset);
    }

    pub(crate) fn delivered(&self, record: &Record) {
        self.consumed.increment(1);
        self.progress.delivered(record.offset, record.timestamp_ms);
    }

    pub(crate) fn commit(&self, offset: i64, metadata: String) {
        self.progress.done(offset);
        let mut commits = locked(&self.commits);
        if !commits.closed {
            commits.pending = Some(Committed { offset, metadata });
        }
    }

    pub(crate) fn confirmed(&self, committed: Committed) {
        self.progress.done(committed.offset);
        locked(&self.commits).latest = Some(committed);
    }

    pub(crate) fn has_commit(&self) -> bool {
        locked(&self.commits).pending.is_some()
    }

    /// What is to be sent now; [`Self::answered`] tells how it went.
    pub(crate) fn take_commit(&self) -> Option<Committed> {
        let mut commits = locked(&self.commits);
        let pending = commits.pending.take()?;
        commits.sent = Some(pending.clone());
        Some(pending)
    }

    /// The broker's answer to a commit of this offset. A refused one is sent again, unless a newer one waits already.
    pub(crate) fn answered(&self, offset: i64, accepted: bool) {
        let mut commits = locked(&self.commits);
        let Some(sent) = commits.sent.take_if(|sent| sent.offset == offset) else {
            return;
        };
        if accepted {
            commits.latest = Some(sent);
        } else if !commits.closed {
            commits.pending.get_or_insert(sent);
        }
    }

    /// The last commit, if the broker has not confirmed it. Nothing is committed through this lane any more.
    pub(crate) fn close(&self) -> Option<Committed> {
        self.end_attempt();
        let mut commits = locked(&self.commits);
        commits.closed = true;
        commits.pending.take().or_else(|| commits.sent.take())
    }

    pub(crate) fn latest_commit(&self) -> Option<Committed> {
        locked(&self.commits).latest.clone()
    }
}

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

    #[test]
    fn a_failed_commit_is_sent_again_unless_a_newer_one_waits() {
        let lane = LaneShared::new("t".into(), 0, Arc::default());
        lane.commit(5, "a".into());
        assert_eq!(lane.take_commit().map(|c| c.offset), Some(5));
        assert_eq!(lane.take_commit(), None);
        lane.answered(5, false);
        assert_eq!(lane.take_commit().map(|c| c.offset), Some(5));
        lane.commit(7, "b".into());
        lane.answered(5, false);
        assert_eq!(lane.take_commit().map(|c| c.offset), Some(7));
    }

    #[test]
    fn only_a_commit_that_the_broker_has_accepted_is_missed_when_it_is_gone() {
        let lane = LaneShared::new("t".into(), 0, Arc::default());
        lane.commit(5, "a".into());
        lane.take_commit();
        assert_eq!(lane.latest_commit(), None, "on its way");
        lane.answered(5, false);
        assert_eq!(lane.latest_commit(), None, "refused");
        lane.take_commit();
        lane.answered(5, true);
        lane.commit(7, "b".into());
        assert_eq!(lane.close().map(|c| c.offset), Some(7));
        assert_eq!(lane.latest_commit().map(|c| c.offset), Some(5));
    }

    #[test]
    fn an_abandoned_lane_commits_no_more() {
        let lane = LaneShared::new("t".into(), 0, Arc::default());
        lane.commit(5, "a".into());
        assert_eq!(lane.close().map(|c| c.offset), Some(5));
        lane.commit(6, "b".into());
        assert_eq!(lane.take_commit(), None);
    }

    #[test]
    fn a_commit_on_its_way_is_sent_again_on_close_unless_it_was_confirmed() {
        for (accepted, last) in [(None, Some(5)), (Some(false), Some(5)), (Some(true), None)] {
            let lane = LaneShared::new("t".into(), 0, Arc::default());
            lane.commit(5, "a".into());
            lane.take_commit();
            if let Some(accepted) = accepted {
                lane.answered(5, accepted);
            }
            assert_eq!(lane.close().map(|c| c.offset), last);
        }
    }
}
