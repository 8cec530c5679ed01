//! What Redis should hold of a partition, recomputed from the records it covers. Pure.
//!
//! Invariant: told independently of the aggregator: whole sums over everything that counts, nothing incremental.

use std::collections::HashMap;

use engagement::event::{EnrichedEvent, Lane, Origin};

use crate::change::{Image, images};

/// Events, milliseconds, events with a duration, and play, pause, finish, click.
pub(crate) type Sums = [i64; 7];

/// Longer durations are not summed: the aggregator gives such records to its dead letters.
pub(crate) const MAX_DURATION_MS: i64 = 1 << 36;
const TYPES: [&str; 4] = ["play", "pause", "finish", "click"];

/// A window at a frozen watermark: the buckets that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Buckets that the window reaches back.
    pub(crate) span: i64,
    /// The watermark's bucket.
    pub(crate) hi: i64,
    /// Microseconds of a bucket.
    pub(crate) bucket_us: i64,
}

impl Window {
    fn covers(&self, image: &Image<'_>) -> bool {
        let bucket = image.at.0.div_euclid(self.bucket_us);
        (self.hi - self.span..=self.hi).contains(&bucket)
    }
}

/// The sums of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recount {
    /// Offset in the enriched topic of the last record that Redis has.
    pub(crate) upto: i64,
    windows: Vec<Window>,
    streamed: bool,
    snapshot: Option<u64>,
    /// Per content: over everything, then per window.
    pub(crate) contents: HashMap<String, Vec<Sums>>,
}

impl Recount {
    pub(crate) fn new(upto: i64, windows: Vec<Window>) -> Self {
        Self {
            upto,
            windows,
            ..Self::default()
        }
    }

    /// Takes the event at this offset of the enriched topic, in the order of the log.
    pub(crate) fn take(&mut self, offset: i64, event: &EnrichedEvent) {
        if offset > self.upto || !self.counts(event) {
            return;
        }
        let (gone, came) = images(event);
        for (image, times) in [(gone, -1), (came, 1)] {
            if let Some(image) = image {
                self.put(&image, times);
            }
        }
    }

    /// The stream always, the last snapshot before it once, nothing else.
    fn counts(&mut self, event: &EnrichedEvent) -> bool {
        if event.source.lane != Lane::Live || event.origin == Origin::Backfill {
            return false;
        }
        if event.origin == Origin::Stream {
            self.streamed = true;
            return true;
        }
        if self.streamed || self.snapshot > Some(event.revision) {
            return false;
        }
        if self.snapshot.is_some_and(|open| event.revision > open) {
            self.contents.clear();
        }
        self.snapshot = Some(event.revision);
        true
    }

    fn put(&mut self, image: &Image<'_>, times: i64) {
        let Some(content) = image.content.filter(|_| is_summable(image.duration_ms)) else {
            return;
        };
        let one = sums_of(image.event_type, image.duration_ms);
        if !self.contents.contains_key(content) {
            let empty = vec![Sums::default(); 1 + self.windows.len()];
            self.contents.insert(content.to_owned(), empty);
        }
        let Some(sums) = self.contents.get_mut(content) else {
            return;
        };
        add(&mut sums[0], &one, times);
        for (window, sums) in self.windows.iter().zip(&mut sums[1..]) {
            if window.covers(image) {
                add(sums, &one, times);
            }
        }
    }
}

fn is_summable(duration_ms: Option<i64>) -> bool {
    duration_ms.is_none_or(|ms| ms.unsigned_abs() <= MAX_DURATION_MS.unsigned_abs())
}

fn sums_of(event_type: &str, duration_ms: Option<i64>) -> Sums {
    let mut sums = [
        1,
        duration_ms.unwrap_or(0),
        i64::from(duration_ms.is_some()),
        0,
        0,
        0,
        0,
    ];
    if let Some(index) = TYPES.iter().position(|name| *name == event_type) {
        sums[3 + index] = 1;
    }
    sums
}

fn add(into: &mut Sums, sums: &Sums, times: i64) {
    for (sum, one) in into.iter_mut().zip(sums) {
        *sum += times * one;
    }
}

/// The score by which a partition ranks a content: whole numbers, half up. `None`: a kind of score that is not known here.
pub(crate) fn score(kind: &str, sums: &Sums, length: i64, weights: &[i64; 5]) -> Option<i64> {
    let half_up = |a: i128, b: i128| (2 * a + b).div_euclid(2 * b);
    let n = sums.map(i128::from);
    let [events, ms, timed, ..] = n;
    let length = i128::from(length);
    let rated = timed > 0 && length > 0;
    let points = match kind {
        "events" => events,
        "seconds" => ms,
        "mean_percent" if rated => half_up(ms * 10, length * timed),
        "mean_percent" => 0,
        "weighted" => {
            let of_type = |index: usize| i128::from(weights[index]) * n[3 + index];
            let known: i128 = n[3..].iter().sum();
            let weight: i128 =
                (0..4).map(of_type).sum::<i128>() + i128::from(weights[4]) * (events - known);
            let rating = if rated {
                half_up(weight * ms, length * timed)
            } else {
                0
            };
            weight * 1000 + rating
        }
        _ => return None,
    };
    i64::try_from(points).ok()
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;

    #[test]
    fn a_window_counts_the_buckets_from_its_beginning_to_the_watermark() {
        let event = Sample::new().build();
        let bucket = event.event_ts.0.div_euclid(10);
        let window = |hi| Window {
            span: 2,
            hi,
            bucket_us: 10,
        };
        let windows = [bucket - 1, bucket, bucket + 2, bucket + 3].map(window);
        let mut recount = Recount::new(0, windows.to_vec());
        recount.take(0, &event);
        let events: Vec<i64> = recount
            .contents
            .values()
            .next()
            .unwrap()
            .iter()
            .map(|sums| sums[0])
            .collect();
        assert_eq!(events, [1, 0, 1, 1, 0]);
    }

    #[test]
    fn what_lies_after_the_position_does_not_count() {
        let mut recount = Recount::new(4, Vec::new());
        recount.take(5, &Sample::new().build());
        assert!(recount.contents.is_empty());
    }

    #[test]
    fn a_duration_beyond_the_bound_is_neither_added_nor_taken_away() {
        let absurd = Sample::new().duration_ms(i64::MAX).build();
        let mut recount = Recount::new(9, Vec::new());
        recount.take(0, &absurd);
        recount.take(1, &Sample::new().duration_ms(1).replacing(&absurd).build());
        assert_eq!(recount.contents.values().next().unwrap()[0][..3], [1, 1, 1]);
    }

    #[test]
    fn scores_are_the_ones_of_the_contract() {
        let weights = [1000, 500, 3000, 300, 0];
        let sums = [2, 7_000, 1, 1, 0, 1, 0];
        assert_eq!(score("events", &sums, 300, &weights), Some(2));
        assert_eq!(score("seconds", &sums, 300, &weights), Some(7_000));
        assert_eq!(score("mean_percent", &sums, 300, &weights), Some(233));
        assert_eq!(score("weighted", &sums, 300, &weights), Some(4_093_333));
        assert_eq!(score("other", &sums, 300, &weights), None);
    }
}
