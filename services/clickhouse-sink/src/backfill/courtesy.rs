//! Whether live records come late, so that a backfill lets them go first. Pure.
//!
//! The partitions of a process share a server and a processor: a portion of one delays the live batches of all.
//! Invariant: a portion waits for a bounded time, however late the live records are.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From the commit until a lane takes it; a live record that is older is late.
const LATE: Duration = Duration::from_secs(1);
/// After the last late record.
const QUIET: Duration = Duration::from_millis(500);
/// A portion waits no longer, so that a backfill comes to its end beside a stream that is always late.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the lanes of one process have seen of live records.
#[derive(Debug, Default)]
pub(crate) struct Courtesy {
    late: Mutex<Option<Instant>>,
}

impl Courtesy {
    /// A live record was taken so long after its commit.
    pub(crate) fn saw(&self, age: Duration, now: Instant) {
        if age > LATE {
            *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
    }

    /// Until when a portion waits that could be written since then; it asks again after that. `None`: it may be written.
    pub(crate) fn holds(&self, since: Instant, now: Instant) -> Option<Instant> {
        let late = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let until = (late? + QUIET).min(since + PATIENCE);
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_portion_waits_until_no_live_record_has_been_late_for_a_while() {
        let (courtesy, begun) = (Courtesy::default(), Instant::now());
        courtesy.saw(LATE, begun);
        assert_eq!(courtesy.holds(begun, begun), None, "in time");
        courtesy.saw(LATE + MOMENT, begun);
        courtesy.saw(Duration::ZERO, begun + MOMENT);
        assert_eq!(courtesy.holds(begun, begun + MOMENT), Some(begun + QUIET));
        assert_eq!(courtesy.holds(begun, begun + QUIET), None);
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let (courtesy, begun) = (Courtesy::default(), Instant::now());
        courtesy.saw(LATE * 9, begun + PATIENCE - MOMENT);
        let held = courtesy.holds(begun, begun + PATIENCE - MOMENT);
        assert_eq!(held, Some(begun + PATIENCE));
        courtesy.saw(LATE * 9, begun + PATIENCE);
        assert_eq!(courtesy.holds(begun, begun + PATIENCE), None);
    }
}
