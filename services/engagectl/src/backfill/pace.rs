//! How fast a run may go: by its rate, and by looking at the live stream now and then. Pure.
//!
//! Invariant: time that was lost is not made up for.

use std::time::{Duration, Instant};

use super::throttle::{Bound, Throttle};
use crate::generator::Rate;

/// Pause between two looks at the live stream.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How fast it may go.
pub(super) struct Pace {
    rate: Option<Rate>,
    /// When the next page may be written, by the rate.
    free_at: Option<Instant>,
    looked: Option<Instant>,
    pub(super) bound: Bound,
    pub(super) throttle: Throttle,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>, behind: Duration) -> Self {
        Self {
            rate: rate.filter(|rate| rate.per_second() > 0.0),
            free_at: None,
            looked: None,
            bound: Bound(behind),
            throttle: Throttle::default(),
        }
    }

    /// How long to wait before a page of so many rows; what was not used before is not made up for.
    pub(super) fn pause(&mut self, rows: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let free_at = self.free_at.unwrap_or(now).max(now);
        let takes = Duration::try_from_secs_f64(rows as f64 / rate.per_second());
        self.free_at = free_at.checked_add(takes.unwrap_or(Duration::MAX));
        free_at - now
    }

    /// Whether the last look was so long ago that the next one is due; then this is it.
    pub(super) fn is_time_to_look(&mut self, now: Instant) -> bool {
        let due = self
            .looked
            .is_none_or(|looked| now.duration_since(looked) >= LOOK);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_spread_by_the_rate_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace::new(Some("1000/s".parse().unwrap()), LOOK);
        let now = Instant::now();
        assert_eq!(pace.pause(2000, now), Duration::ZERO);
        assert_eq!(pace.pause(500, now), Duration::from_secs(2));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.pause(2000, later), Duration::ZERO);
        assert_eq!(pace.pause(1, later), Duration::from_secs(2));
        assert_eq!(Pace::new(None, LOOK).pause(2000, now), Duration::ZERO);
    }

    #[test]
    fn the_live_stream_is_looked_at_once_a_second() {
        let mut pace = Pace::new(None, LOOK);
        let now = Instant::now();
        assert!(pace.is_time_to_look(now));
        assert!(!pace.is_time_to_look(now + Duration::from_millis(900)));
        assert!(pace.is_time_to_look(now + LOOK));
    }
}
