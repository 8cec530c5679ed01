//! How far one lane is, and how old the oldest record is that it has not done.
//!
//! Invariant: `done` never exceeds what was delivered, other than across offsets that hold no record.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::locked;

/// Records waiting and none taken or done for this long is no progress.
const STALLED: Duration = Duration::from_secs(60);

/// How far one lane is; samples of (offset, timestamp) tell the age of the oldest record that is not done.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    inner: Mutex<Samples>,
}

#[derive(Debug)]
struct Samples {
    done: i64,
    delivered: i64,
    moved: Instant,
    /// When a record came last.
    received: Instant,
    open: VecDeque<(i64, i64)>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            done: -1,
            delivered: -1,
            moved: Instant::now(),
            received: Instant::now(),
            open: VecDeque::new(),
        }
    }
}

/// One sample per this many milliseconds of record time is exact enough for a gauge in seconds.
const SAMPLE_MS: i64 = 100;
const SAMPLES: usize = 4096;

impl Progress {
    pub(crate) fn begin(&self, offset: i64) {
        *locked(&self.inner) = Samples {
            done: offset,
            delivered: offset,
            ..Samples::default()
        };
    }

    /// Where the lane will go on, as far as is known before it has named an offset itself.
    pub(crate) fn known(&self, offset: i64) {
        let mut samples = locked(&self.inner);
        if samples.done < 0 {
            samples.done = offset;
            samples.delivered = offset;
        }
    }

    /// No record has come for this long.
    pub(super) fn is_silent(&self, time: Duration) -> bool {
        locked(&self.inner).received.elapsed() >= time
    }

    pub(crate) fn delivered(&self, offset: i64, timestamp_ms: Option<i64>) {
        let mut samples = locked(&self.inner);
        samples.delivered = offset + 1;
        samples.moved = Instant::now();
        samples.received = samples.moved;
        let Some(at) = timestamp_ms else { return };
        let due = samples
            .open
            .back()
            .is_none_or(|(_, last)| at - last >= SAMPLE_MS);
        if due && samples.open.len() < SAMPLES {
            samples.open.push_back((offset, at));
        }
    }

    pub(crate) fn done(&self, next: i64) {
        let mut samples = locked(&self.inner);
        samples.done = next;
        samples.moved = Instant::now();
        // a sample stands for the records up to the next one
        while samples
            .open
            .get(1)
            .is_some_and(|(offset, _)| *offset <= next)
        {
            samples.open.pop_front();
        }
        if next >= samples.delivered {
            samples.open.clear();
        }
    }

    /// The client has fetched up to `high` and nothing waits to be taken: what lies between the last record and the end
    /// holds no records (transaction markers, compaction).
    pub(super) fn nothing_below(&self, high: i64) {
        let mut samples = locked(&self.inner);
        if samples.done >= samples.delivered && samples.done >= 0 {
            samples.done = samples.done.max(high);
            samples.delivered = samples.delivered.max(high);
        }
    }

    pub(super) fn done_offset(&self) -> i64 {
        locked(&self.inner).done
    }

    pub(super) fn delivered_offset(&self) -> i64 {
        locked(&self.inner).delivered
    }

    pub(super) fn is_stalled(&self, high: i64) -> bool {
        let samples = locked(&self.inner);
        samples.done >= 0 && samples.done < high && samples.moved.elapsed() > STALLED
    }

    pub(super) fn behind_seconds(&self, high: i64, now: i64) -> f64 {
        let samples = locked(&self.inner);
        if samples.done < 0 || samples.done >= high.max(samples.delivered) {
            return 0.0;
        }
        let waiting = samples.moved.elapsed().as_secs_f64();
        let Some((_, oldest)) = samples.open.front() else {
            return waiting;
        };
        let age = Duration::from_millis(u64::try_from(now / 1000 - oldest).unwrap_or(0));
        age.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn behind_is_the_age_of_the_oldest_record_not_done() {
        let progress = Progress::default();
        progress.begin(10);
        for (offset, at) in [(10, 1000), (11, 1050), (12, 2000), (13, 3000)] {
            progress.delivered(offset, Some(at));
        }
        let behind = |now| progress.behind_seconds(14, now);
        assert!((behind(11 * SECOND) - 10.0).abs() < 1e-9);
        progress.done(11);
        assert!(
            (behind(11 * SECOND) - 10.0).abs() < 1e-9,
            "11 lies within the first sample"
        );
        progress.done(12);
        assert!((behind(11 * SECOND) - 9.0).abs() < 1e-9);
        progress.done(14);
        assert!(behind(11 * SECOND).abs() < 1e-9, "caught up");
    }

    #[test]
    fn a_lane_that_has_not_begun_is_as_far_behind_as_its_commit_says() {
        let progress = Progress::default();
        assert_eq!(progress.done_offset(), -1);
        progress.known(7);
        assert_eq!(progress.done_offset(), 7);
        assert!(progress.behind_seconds(9, 0) >= 0.0);
        progress.begin(8);
        progress.known(7);
        assert_eq!(progress.done_offset(), 8, "what the lane says counts");
    }

    #[test]
    fn offsets_without_records_at_the_end_are_no_lag() {
        let progress = Progress::default();
        progress.begin(0);
        progress.delivered(8, None);
        progress.nothing_below(10);
        assert_eq!(progress.done_offset(), 0, "a record is in hand");
        progress.done(9);
        progress.nothing_below(10);
        assert_eq!(progress.done_offset(), 10);
    }
}
