//! Lines that repeat: a place in the code that warns of every record would bury everything else.
//!
//! Invariant: of one place at most [`BURST`] lines are written in [`WINDOW`], and the first line after it says how many were
//! left out. Only warnings and errors are limited: INFO is the life of the process, and who asks for DEBUG gets all of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Over this time lines are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// So many lines of one place are written in a window: one for each partition of the documented topics, twice.
pub(super) const BURST: u32 = 32;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It is written; so many of the same place were left out before it.
    Written { left_out: u64 },
    /// It is left out.
    LeftOut,
}

/// The lines of each place.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    places: Mutex<HashMap<Identifier, Place>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Repeats {
    /// What becomes of a line of this place now.
    pub(super) fn judge(&self, metadata: &Metadata<'_>, now: Instant) -> Line {
        if *metadata.level() > Level::WARN {
            return Line::Written { left_out: 0 };
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_insert(Place {
            since: now,
            written: 0,
            left_out: 0,
        });
        place.judge(now)
    }
}

impl Place {
    fn judge(&mut self, now: Instant) -> Line {
        if now.duration_since(self.since) >= WINDOW {
            let left_out = self.left_out;
            *self = Self {
                since: now,
                written: 1,
                left_out: 0,
            };
            return Line::Written { left_out };
        }
        if self.written < BURST {
            self.written += 1;
            return Line::Written { left_out: 0 };
        }
        self.left_out += 1;
        Line::LeftOut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_the_rest_left_out_and_the_next_line_says_how_many() {
        let begin = Instant::now();
        let mut place = Place {
            since: begin,
            written: 0,
            left_out: 0,
        };
        for _ in 0..BURST {
            assert_eq!(place.judge(begin), Line::Written { left_out: 0 });
        }
        for _ in 0..7 {
            assert_eq!(place.judge(begin), Line::LeftOut);
        }
        let later = begin + WINDOW;
        assert_eq!(place.judge(later), Line::Written { left_out: 7 });
        assert_eq!(place.judge(later), Line::Written { left_out: 0 });
    }
}
