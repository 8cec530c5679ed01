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
    next: Mutex<Instant>,
}

impl Pace {
    /// A departure every `interval`; the first one after a pause a tenth of it after what comes first.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: Mutex::new(now),
        }
    }

    /// When a batch leaves that was opened then: with the others that are open, or as the first of the next ones.
    pub fn departs(&self, opened: Instant) -> Instant {
        // nothing panics while it is held
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next <= opened {
            *next = (*next + self.interval).max(opened + self.interval / 10);
        }
        *next
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

    #[test]
    fn what_is_opened_between_two_departures_leaves_with_the_next_one() {
        let begun = Instant::now();
        let (pace, at) = (Pace::new(SECOND, begun), |tenths| {
            begun + SECOND / 10 * tenths
        });
        assert_eq!(pace.departs(at(0)), at(10));
        assert_eq!(pace.departs(at(9)), at(10));
        assert_eq!(pace.departs(at(10)), at(20));
        assert_eq!(pace.departs(at(15)), at(20));
        assert_eq!(pace.departs(at(21)), at(30), "as if the one at 20 had gone");
    }

    #[test]
    fn after_a_pause_the_first_hardly_waits_and_others_go_with_it() {
        let begun = Instant::now();
        let (pace, at) = (Pace::new(SECOND, begun), |tenths| {
            begun + SECOND / 10 * tenths
        });
        assert_eq!(pace.departs(at(95)), at(96));
        assert_eq!(pace.departs(at(95)), at(96));
        assert_eq!(pace.departs(at(96)), at(106), "and then every interval");
    }
}
