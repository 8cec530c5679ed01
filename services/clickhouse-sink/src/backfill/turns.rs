//! When a partition may write a portion of a backfill: a few at a time, and not while live records come late.
//!
//! The partitions of a process share a server and a processor: a portion of one delays the live batches of all.
//! Invariant: a portion waits for late records for a bounded time, however late they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Partitions that write a portion at the same time, which bounds what is held of them: each holds at most one twice.
const AT_A_TIME: usize = 2;
/// From the commit until a lane takes it; a live record that is older is late.
const LATE: Duration = Duration::from_secs(1);
/// After the last late record.
const QUIET: Duration = Duration::from_millis(500);
/// A portion waits no longer, so that a backfill comes to its end beside a stream that is always late.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of the partitions of one process.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    /// When a live record was late last.
    late: Arc<Mutex<Option<Instant>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(AT_A_TIME)),
            late: Arc::default(),
        }
    }
}

impl Turns {
    /// A live record was taken so long after its commit.
    pub(super) fn saw_live(&self, age: Duration, now: Instant) {
        if age > LATE {
            *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
    }

    /// Whether a portion that could be written since then lets live records go first.
    pub(super) fn holds(&self, since: Instant, now: Instant) -> bool {
        self.held_until(since, now).is_some()
    }

    /// The turn of a portion that could be written since then. Safe to cancel.
    pub(super) async fn wait(&self, since: Instant) -> OwnedSemaphorePermit {
        while let Some(until) = self.held_until(since, Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
        let turn = Arc::clone(&self.free).acquire_owned().await;
        turn.expect("turns are never closed")
    }

    /// A turn, if one is free.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    fn held_until(&self, since: Instant, now: Instant) -> Option<Instant> {
        let late = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        held_until(late?, since, now)
    }
}

/// Until when a portion waits that could be written since then, when a record was late; it asks again after that.
fn held_until(late: Instant, since: Instant, now: Instant) -> Option<Instant> {
    let until = (late + QUIET).min(since + PATIENCE);
    (until > now).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_portion_waits_until_no_live_record_has_been_late_for_a_while() {
        let (turns, begun) = (Turns::default(), Instant::now());
        turns.saw_live(LATE, begun);
        assert!(!turns.holds(begun, begun), "in time");
        turns.saw_live(LATE + MOMENT, begun);
        turns.saw_live(Duration::ZERO, begun + MOMENT);
        assert!(turns.holds(begun, begun + MOMENT));
        assert!(!turns.holds(begun, begun + QUIET));
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let begun = Instant::now();
        let (before, end) = (begun + PATIENCE - MOMENT, begun + PATIENCE);
        assert_eq!(held_until(before, begun, before), Some(end));
        assert_eq!(held_until(end, begun, end), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_taken_by_a_few_at_a_time_and_given_back() {
        let (turns, now) = (Turns::default(), Instant::now());
        let held = [turns.wait(now).await, turns.wait(now).await];
        assert!(turns.try_take().is_none());
        let third = tokio::time::timeout(QUIET, turns.wait(now));
        assert!(third.await.is_err());
        drop(held);
        drop(turns.wait(now).await);
    }
}
