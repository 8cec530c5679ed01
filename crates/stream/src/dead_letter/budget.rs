//! When so many records of a partition are rejected that it must stop.
//!
//! Invariant: a stream of rubbish stops its partition instead of flooding the dead letters; single rejects never do.

use std::collections::VecDeque;

use super::Reject;
use crate::error::LaneError;
use crate::record::Record;

/// Watches the share of rejects in one partition, so that a stream of rubbish stops it instead of flooding the topic.
#[derive(Debug, Clone)]
pub struct RejectBudget {
    last: VecDeque<bool>,
    rejected: usize,
    window: usize,
}

impl Default for RejectBudget {
    fn default() -> Self {
        Self::new(100)
    }
}

impl RejectBudget {
    /// Judges the last `window` records (at least 1).
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            last: VecDeque::new(),
            rejected: 0,
            window: window.max(1),
        }
    }

    /// Notes the outcome of a record. False: more than half of the last `window` were rejected.
    #[must_use]
    pub fn note(&mut self, rejected: bool) -> bool {
        self.last.push_back(rejected);
        self.rejected += usize::from(rejected);
        if self.last.len() > self.window {
            self.rejected -= usize::from(self.last.pop_front().unwrap_or(false));
        }
        self.last.len() < self.window || self.rejected * 2 <= self.window
    }

    /// [`Self::note`] of a reject, as the lane's end when the budget is used up. Call it after the letter was sent.
    ///
    /// # Errors
    /// `Stop`, naming the last reason.
    pub fn spend(&mut self, record: &Record, reject: &Reject) -> Result<(), LaneError> {
        if self.note(true) {
            return Ok(());
        }
        let reason = format!(
            "topic {} partition {} offset {}: {} of the last {} records were rejected, the last one because: {}",
            record.topic,
            record.partition,
            record.offset,
            self.rejected,
            self.window,
            because(reject)
        );
        Err(LaneError::stop(
            reason,
            "look at them in the dead-letter topic (headers __connect.errors.*), repair the source or the configuration, then start again",
        ))
    }
}

/// Without the words of the letter, which may repeat the record.
fn because(reject: &Reject) -> String {
    let shown = reject.shown.as_deref();
    shown.map_or_else(
        || reject.kind.to_owned(),
        |shown| format!("{}: {shown}", reject.kind),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_rejects_are_fine_and_a_flood_stops() {
        let mut budget = RejectBudget::new(10);
        assert!((0..100).all(|n| budget.note(n % 3 == 0)));
        let mut flood = (0..100).map(|_| budget.note(true));
        assert!(flood.any(|within| !within));
    }

    #[test]
    fn the_first_records_alone_never_stop_a_partition() {
        let mut budget = RejectBudget::new(10);
        assert!((0..9).all(|_| budget.note(true)));
        assert!(!budget.note(true));
    }
}
