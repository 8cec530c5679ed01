//! Event time: buckets, minutes, and the watermark that decides what "the last 10 minutes" are.
//!
//! Invariant: the watermark stored in Redis never goes back, and Redis' own clock is never read.
//!
//! A bucket is a stretch of event time of fixed length (10 s by default). At watermark bucket `hi` a window of `span`
//! buckets covers `hi - span ..= hi`: the bucket in which the window begins counts whole, so a window is never
//! shorter than configured and at most one bucket longer.
//!
//! **Which now?** The local clock, but not further than the newest commit seen plus [`Bounds::slack`] (the heartbeat
//! interval), so that a machine whose clock runs ahead cannot expire events that have just been committed. When no
//! event of any partition arrived for [`Bounds::idle_after`] there is no commit to compare with, and the local clock
//! counts alone, so that an idle leaderboard empties. What a clock that is ahead by `x` can do is thereby bounded: on
//! an idle stream windows empty up to `x` early, and, since the watermark never goes back, show events again only
//! when the true time reaches it. A lane that catches up on old records moves its window through their time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use engagement::event::Micros;

const MINUTE: i64 = 60_000_000;

/// The bucket in which `at` lies, for buckets of `length` microseconds.
#[must_use]
pub const fn bucket_of(at: Micros, length: i64) -> i64 {
    at.0.div_euclid(length)
}

/// Minutes since 1970.
#[must_use]
pub const fn minute_of(at: Micros) -> i64 {
    at.0.div_euclid(MINUTE)
}

/// `YYYYMMDDHHMM` in UTC. A time beyond the calendar gives its minute number.
#[must_use]
pub fn minute_name(minute: i64) -> String {
    Micros(minute.saturating_mul(MINUTE))
        .to_chrono()
        .map_or_else(
            || minute.to_string(),
            |at| at.format("%Y%m%d%H%M").to_string(),
        )
}

/// How far the local clock is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How far beyond the newest commit the watermark may be.
    pub slack: Duration,
    /// After how long without any event the local clock counts alone.
    pub idle_after: Duration,
}

/// The watermark by the rule above; `None`: not known yet. `newest_commit` is `None` before the first event;
/// `silent_for` is how long no event came, by a clock that cannot be set.
#[must_use]
pub fn watermark(
    local: Micros,
    newest_commit: Option<Micros>,
    silent_for: Duration,
    bounds: Bounds,
) -> Option<Micros> {
    if silent_for >= bounds.idle_after {
        return Some(local);
    }
    newest_commit.map(|newest| local.min(Micros(newest.0.saturating_add(micros(bounds.slack)))))
}

/// What the lanes of a process have heard: the newest commit, and when an event came last.
#[derive(Debug)]
pub struct Heard {
    newest_commit: AtomicI64,
    at: AtomicI64,
    started: std::time::Instant,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            newest_commit: AtomicI64::new(i64::MIN),
            at: AtomicI64::new(0),
            started: std::time::Instant::now(),
        }
    }
}

impl Heard {
    /// Events came, the newest of them committed at `commit`.
    pub fn events(&self, commit: Micros) {
        self.newest_commit.fetch_max(commit.0, Ordering::Relaxed);
        self.at
            .fetch_max(micros(self.started.elapsed()), Ordering::Relaxed);
    }

    /// The watermark for a local clock that says `local`; `None`: not known yet.
    #[must_use]
    pub fn watermark(&self, local: Micros, bounds: Bounds) -> Option<Micros> {
        let newest = Some(self.newest_commit.load(Ordering::Relaxed))
            .filter(|at| *at != i64::MIN)
            .map(Micros);
        let silent = micros(self.started.elapsed()) - self.at.load(Ordering::Relaxed);
        watermark(
            local,
            newest,
            Duration::from_micros(u64::try_from(silent).unwrap_or(0)),
            bounds,
        )
    }
}

/// Whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        slack: Duration::from_secs(10),
        idle_after: Duration::from_secs(2),
    };
    const BUSY: Duration = Duration::ZERO;

    #[test]
    fn a_clock_that_runs_ahead_is_bounded_by_the_newest_commit() {
        let newest = Micros(1_000_000_000);
        assert_eq!(
            watermark(Micros(9_000_000_000), Some(newest), BUSY, BOUNDS),
            Some(Micros(1_010_000_000))
        );
        assert_eq!(
            watermark(Micros(1_000_500_000), Some(newest), BUSY, BOUNDS),
            Some(Micros(1_000_500_000))
        );
    }

    #[test]
    fn on_an_idle_stream_the_local_clock_counts_alone() {
        let late = Micros(9_000_000_000);
        assert_eq!(
            watermark(late, Some(Micros(0)), BOUNDS.idle_after, BOUNDS),
            Some(late)
        );
        assert_eq!(watermark(late, None, BOUNDS.idle_after, BOUNDS), Some(late));
        assert_eq!(watermark(late, None, BUSY, BOUNDS), None);
    }

    #[test]
    fn times_before_1970_have_buckets_and_minutes_too() {
        assert_eq!(bucket_of(Micros(-1), 10), -1);
        assert_eq!(minute_of(Micros(-1)), -1);
        assert_eq!(minute_name(-1), "196912312359");
    }

    #[test]
    fn a_minute_is_named_in_utc() {
        assert_eq!(
            minute_name(minute_of(engagement::testing::EVENT_TS)),
            "202601081421"
        );
        assert_eq!(minute_name(i64::MAX / 2), (i64::MAX / 2).to_string());
    }
}
