//! What one assigned partition knows of itself: its queue, its progress and its commits.
//!
//! Invariant: a closed lane commits nothing more; a commit that was refused goes out again unless a newer one waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, counter};

use super::Committed;
use super::cursor::Cursor;
use crate::metrics::EVENTS_CONSUMED_TOTAL;
use crate::record::Record;
use crate::status::Progress;
use crate::sync::locked;

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

    pub(super) fn end_attempt(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
