//! How long a partition may wait for contents while Postgres cannot be asked.
//!
//! Invariant: in any window of [`WINDOW`] that starts with a wait, the waits add up to at most the limit.

use std::time::{Duration, Instant};

/// The span in which a partition may spend its limit once.
pub const WINDOW: Duration = Duration::from_secs(30);

/// The waiting allowance of one partition; times are arguments.
#[derive(Clone, Debug)]
pub struct WaitBudget {
    limit: Duration,
    window_start: Option<Instant>,
    spent: Duration,
}

impl WaitBudget {
    /// At most `limit` per [`WINDOW`].
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            window_start: None,
            spent: Duration::ZERO,
        }
    }

    /// How long may be waited now; zero when the allowance is used up.
    pub fn available(&mut self, now: Instant) -> Duration {
        let over = self
            .window_start
            .is_none_or(|start| now.saturating_duration_since(start) >= WINDOW);
        if over {
            self.window_start = None;
            self.spent = Duration::ZERO;
        }
        self.limit.saturating_sub(self.spent)
    }

    /// Books a wait that began at `started` and ended at `now`.
    pub fn spend(&mut self, started: Instant, now: Instant) {
        self.window_start.get_or_insert(started);
        self.spent += now.saturating_duration_since(started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_limit_is_spent_once_per_window() {
        let start = Instant::now();
        let mut budget = WaitBudget::new(2 * SECOND);
        assert_eq!(budget.available(start), 2 * SECOND);
        budget.spend(start, start + SECOND);
        assert_eq!(budget.available(start + SECOND), SECOND);
        budget.spend(start + SECOND, start + 2 * SECOND);
        assert_eq!(budget.available(start + 3 * SECOND), Duration::ZERO);
        assert_eq!(budget.available(start + 29 * SECOND), Duration::ZERO);
        assert_eq!(budget.available(start + 30 * SECOND), 2 * SECOND);
    }

    #[test]
    fn the_window_starts_with_the_first_wait_not_with_the_first_question() {
        let start = Instant::now();
        let mut budget = WaitBudget::new(SECOND);
        budget.available(start);
        budget.spend(start + 20 * SECOND, start + 21 * SECOND);
        assert_eq!(budget.available(start + 40 * SECOND), Duration::ZERO);
    }
}
