//! When a backfill makes way for the live stream. Pure.
//!
//! Invariant: it stops at one bound and goes on at a lower one, so that it does not flutter between them.

use std::fmt;
use std::time::Duration;

/// Behind by so much the live stream goes first, until it is behind by less than the half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound(pub(super) Duration);

impl Bound {
    /// The lower one.
    pub(super) fn go(self) -> Duration {
        self.0 / 2
    }
}

/// What a group that keeps up shows between two commits: a batch is a second, and commits are sent once a second.
pub(super) const CADENCE: Duration = Duration::from_secs(2);
/// Records that sinks have not read yet: more is not written ..
pub(super) const FULL: u64 = 400_000;
/// .. until they are fewer than this.
pub(super) const LOW: u64 = 200_000;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Some live partition is behind by the [`Bound`] or more.
    pub(super) beyond_stop: bool,
    /// Some live partition is behind by the half of it or more.
    pub(super) beyond_go: bool,
    /// Records of the backfill topic that the sink has not committed.
    pub(super) unread: u64,
}

/// Why it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The live stream is behind.
    Live,
    /// The sink has enough to read.
    Unread,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "the live stream is behind and goes first (`engagectl lag`: by how much)",
            Self::Unread => "the sinks have not read what is written yet",
        })
    }
}

/// Stands still or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throttle {
    live: bool,
    unread: bool,
}

impl Throttle {
    /// Whether it must stand still now, and why.
    pub(super) fn judge(&mut self, seen: Reading) -> Option<Why> {
        self.live = seen.beyond_stop || (self.live && seen.beyond_go);
        self.unread = seen.unread >= FULL || (self.unread && seen.unread >= LOW);
        match (self.live, self.unread) {
            (true, _) => Some(Why::Live),
            (false, true) => Some(Why::Unread),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn behind(seconds: f64) -> Reading {
        Reading {
            beyond_stop: seconds >= 2.0,
            beyond_go: seconds >= 1.0,
            unread: 0,
        }
    }

    #[test]
    fn it_stops_at_two_seconds_and_goes_on_below_one() {
        let mut throttle = Throttle::default();
        let seen = [0.2, 1.9, 2.0, 1.5, 1.0, 0.9, 1.5];
        let stands: Vec<bool> = seen
            .into_iter()
            .map(|seconds| throttle.judge(behind(seconds)).is_some())
            .collect();
        assert_eq!(stands, [false, false, true, true, true, false, false]);
    }

    #[test]
    fn it_waits_for_the_sinks_and_says_which_of_both_it_is() {
        let mut throttle = Throttle::default();
        let unread = |unread| Reading {
            unread,
            ..behind(0.0)
        };
        assert_eq!(throttle.judge(unread(FULL - 1)), None);
        assert_eq!(throttle.judge(unread(FULL)), Some(Why::Unread));
        assert_eq!(throttle.judge(unread(LOW)), Some(Why::Unread));
        let both = Reading {
            unread: LOW,
            ..behind(3.0)
        };
        assert_eq!(throttle.judge(both), Some(Why::Live));
        assert_eq!(throttle.judge(unread(LOW - 1)), None);
    }

    proptest! {
        #[test]
        fn whatever_was_before_a_calm_pipeline_lets_it_go(seen in proptest::collection::vec((0.0..4.0, 0..FULL * 2), 0..50)) {
            let mut throttle = Throttle::default();
            for (seconds, unread) in seen {
                throttle.judge(Reading { unread, ..behind(seconds) });
            }
            prop_assert_eq!(throttle.judge(behind(0.0)), None);
        }
    }
}
