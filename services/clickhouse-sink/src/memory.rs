//! The memory that batches of all partitions share.
//!
//! Invariant: together they hold no more than the budget, but for the records one of them takes at a time; a lane that
//! has taken nothing holds nothing, so that any number of idle partitions leaves the budget to the others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// KiB that a batch reserves at a time.
pub const STEP_KIB: u32 = 64;

/// What may be held.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

/// What one batch has reserved; given back when dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Budget {
    /// A budget of so many KiB; at least one step.
    #[must_use]
    pub fn new(kib: u32) -> Self {
        Self(Arc::new(Semaphore::new(kib.max(STEP_KIB) as usize)))
    }

    /// Waits for a first step. Safe to drop at any time.
    pub async fn share(&self) -> Share {
        let step = Arc::clone(&self.0).acquire_many_owned(STEP_KIB).await;
        Share(step.expect("the semaphore is never closed"))
    }

    /// KiB that nobody holds.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.available_permits()
    }
}

impl Share {
    /// Reserves for what a batch holds and a step more; `false` when that is not there: the batch has to be written.
    pub fn covers(&mut self, budget: &Budget, bytes: usize) -> bool {
        let wanted = bytes / 1024 + STEP_KIB as usize;
        let missing = wanted.saturating_sub(self.0.num_permits());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&budget.0).try_acquire_many_owned(missing);
        more.map(|more| self.0.merge(more)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KIB: usize = 1024;

    #[tokio::test]
    async fn a_share_grows_with_its_batch_and_is_given_back_whole() {
        let budget = Budget::new(256);
        let mut share = budget.share().await;
        assert_eq!(budget.left(), 192);
        assert!(share.covers(&budget, 10 * KIB) && share.covers(&budget, 100 * KIB));
        assert_eq!(budget.left(), 256 - 164);
        drop(share);
        assert_eq!(budget.left(), 256);
    }

    #[tokio::test]
    async fn a_batch_that_finds_nothing_left_is_written_and_keeps_what_it_has() {
        let budget = Budget::new(256);
        let (mut one, mut other) = (budget.share().await, budget.share().await);
        assert!(one.covers(&budget, 128 * KIB));
        assert!(!other.covers(&budget, KIB), "0 left, 1 more wanted");
        drop(one);
        assert!(other.covers(&budget, 64 * KIB));
    }

    #[tokio::test]
    async fn whoever_finds_no_step_left_waits_until_another_batch_is_written() {
        let budget = Budget::new(64);
        let first = budget.share().await;
        let waiting = tokio::time::timeout(Duration::from_millis(20), budget.share());
        assert!(waiting.await.is_err());
        drop(first);
        budget.share().await;
    }

    #[tokio::test]
    async fn a_budget_below_one_step_still_lets_one_batch_through() {
        let budget = Budget::new(1);
        assert!(!budget.share().await.covers(&budget, KIB));
    }
}
