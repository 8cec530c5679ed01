//! When batches leave: those of all partitions together, so that one insert takes them all.
//!
//! Invariant: a batch waits for company, never for another lane: each closes its own at the time it was told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many departures does a batch of a backlog let go: a lane is as fast as its batches are large.
const BACKLOG: u32 = 2;

/// The departures of one process.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    /// `None`: nothing has come yet.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A departure every `interval`; the first one after a pause a tenth of it after what comes first.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Mutex::default(),
        }
    }

    /// When a batch leaves that was opened then: with the others that are open, or as the first of the next ones.
    pub fn departs(&self, opened: Instant) -> Instant {
        // nothing panics while it is held
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = opened + self.interval / 10;
        let departs = match *next {
            Some(next) if next > opened => next,
            Some(gone) => soon.max(gone + self.interval),
            None => soon,
        };
        *next = Some(departs);
        departs
    }

    /// The departure of a batch that belongs to a backlog and could leave with this one.
    #[must_use]
    pub fn later(&self, departs: Instant) -> Instant {
        departs + self.interval * BACKLOG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> (Pace, impl Fn(u32) -> Instant) {
        let begun = Instant::now();
        (Pace::new(SECOND), move |tenths| {
            begun + SECOND / 10 * tenths
        })
    }

    #[test]
    fn what_is_opened_between_two_departures_leaves_with_the_next_one() {
        let (pace, at) = pace();
        assert_eq!(pace.departs(at(0)), at(1), "the first one of a process");
        assert_eq!(pace.departs(at(1)), at(11));
        assert_eq!(pace.departs(at(10)), at(11));
        assert_eq!(pace.departs(at(11)), at(21));
        assert_eq!(pace.departs(at(16)), at(21));
        assert_eq!(pace.later(at(21)), at(41));
    }

    #[test]
    fn after_a_pause_the_first_hardly_waits_and_others_go_with_it() {
        let (pace, at) = pace();
        pace.departs(at(0));
        assert_eq!(pace.departs(at(95)), at(96));
        assert_eq!(pace.departs(at(95)), at(96));
        assert_eq!(pace.departs(at(96)), at(106), "and then every interval");
    }
}
