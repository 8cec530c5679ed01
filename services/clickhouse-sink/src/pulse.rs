//! Notices that this process stood still (suspended, or starved of CPU) for so long that its partitions may have been
//! given to another owner without it knowing.
//!
//! Invariant: whoever asks after a standstill is told once, even before the ticker itself has woken up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Half of the group's session timeout of 6 s: no partition is lost by less.
const STANDSTILL: Duration = Duration::from_secs(3);

/// The shared pulse of one process.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Mutex<Beat>>);

#[derive(Clone, Copy, Debug)]
struct Beat {
    last: Instant,
    standstills: u64,
}

impl Pulse {
    /// A pulse that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Beat {
            last: now,
            standstills: 0,
        })))
    }

    /// Beats until dropped.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.standstills(Instant::now());
        }
    }

    /// How many standstills there were up to now.
    pub fn standstills(&self, now: Instant) -> u64 {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(beat.last) > STANDSTILL {
            beat.standstills += 1;
        }
        beat.last = beat.last.max(now);
        beat.standstills
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_told_to_whoever_asks_first() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        assert_eq!(pulse.standstills(start + TICK), 0);
        assert_eq!(pulse.standstills(start + TICK + STANDSTILL + TICK), 1);
        assert_eq!(pulse.standstills(start + TICK + STANDSTILL + TICK * 2), 1);
    }
}
