//! Random but repeatable interactions: the same seed gives the same rows on every machine.
//!
//! Invariant: pure; the clock is an argument and the seed the only source of chance.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EVENT_TYPES: [(&str, u32); 4] = [("play", 55), ("click", 25), ("pause", 12), ("finish", 8)];
const DEVICES: [&str; 5] = ["ios", "android", "web-chrome", "web-safari", "smart-tv"];
const SECOND: i64 = 1_000_000;

/// What the generated stream looks like; every ratio is between 0 and 1.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// How strongly a few contents attract most events: 0 = evenly, 1 = Zipf.
    pub skew: f64,
    /// The share of events that all go to the first content.
    pub hot_key: f64,
    /// The share of NULL durations, and of NULL contents at a tenth of it.
    pub null_ratio: f64,
    /// The share of events whose time lies up to an hour back.
    pub late_ratio: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            skew: 1.0,
            hot_key: 0.0,
            null_ratio: 0.05,
            late_ratio: 0.01,
        }
    }
}

/// One row to insert into `engagement_events`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Index into the list of contents; `None` is a NULL `content_id`.
    pub content: Option<usize>,
    /// A user, numbered from 1.
    pub user: i64,
    /// `play`, `pause`, `finish` or `click`.
    pub event_type: &'static str,
    /// Microseconds since 1970 UTC.
    pub event_ts: i64,
    /// Milliseconds; `None` is NULL.
    pub duration_ms: Option<i32>,
    /// The client device; `None` is NULL.
    pub device: Option<&'static str>,
}

/// An endless source of rows.
#[derive(Clone, Debug)]
pub struct RowSource {
    rng: ChaCha8Rng,
    mix: Mix,
    /// Cumulative weights of the contents, ending at 1.
    cumulative: Vec<f64>,
}

impl RowSource {
    /// Rows over `contents` contents.
    #[must_use]
    pub fn new(seed: u64, mix: Mix, contents: usize) -> Self {
        let weights: Vec<f64> = (1..=contents)
            .map(|rank| f64::from(u32::try_from(rank).unwrap_or(u32::MAX)).powf(-mix.skew))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulative = weights
            .iter()
            .map(|w| {
                sum += w / total;
                sum
            })
            .collect();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            mix,
            cumulative,
        }
    }

    /// The next row; `now` is in microseconds since 1970 UTC.
    pub fn next_row(&mut self, now: i64) -> EventRow {
        let event_type = self.event_type();
        EventRow {
            content: self.content(),
            user: self.rng.random_range(1..=100_000),
            event_type,
            event_ts: now - self.lateness(),
            duration_ms: self.duration(event_type),
            device: (!self.chance(0.05)).then(|| DEVICES[self.rng.random_range(0..DEVICES.len())]),
        }
    }

    /// A position below `len`, for choosing a row to update.
    pub fn pick(&mut self, len: usize) -> usize {
        self.rng.random_range(0..len.max(1))
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability.clamp(0.0, 1.0))
    }

    fn content(&mut self) -> Option<usize> {
        if self.cumulative.is_empty() || self.chance(self.mix.null_ratio / 10.0) {
            return None;
        }
        if self.chance(self.mix.hot_key) {
            return Some(0);
        }
        let point: f64 = self.rng.random();
        Some(
            self.cumulative
                .partition_point(|c| *c < point)
                .min(self.cumulative.len() - 1),
        )
    }

    fn event_type(&mut self) -> &'static str {
        let mut point = self
            .rng
            .random_range(0..EVENT_TYPES.iter().map(|(_, weight)| weight).sum());
        for (name, weight) in EVENT_TYPES {
            if point < weight {
                return name;
            }
            point -= weight;
        }
        "play"
    }

    fn duration(&mut self, event_type: &str) -> Option<i32> {
        if self.chance(self.mix.null_ratio) {
            return None;
        }
        Some(match event_type {
            "click" => 0,
            "finish" => self.rng.random_range(60_000..3_600_000),
            _ => self.rng.random_range(500..900_000),
        })
    }

    fn lateness(&mut self) -> i64 {
        if self.chance(self.mix.late_ratio) {
            self.rng.random_range(SECOND..3600 * SECOND)
        } else {
            0
        }
    }
}

/// One row of `content`.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentRow {
    /// Random bits that become the key (UUID, or a positive integer in the all-BIGINT schema).
    pub key: u128,
    /// Unique, for example `podcast-0007`.
    pub slug: String,
    /// A readable title.
    pub title: String,
    /// `podcast`, `newsletter` or `video`.
    pub content_type: &'static str,
    /// Seconds; newsletters have none.
    pub length_seconds: Option<i32>,
}

/// The contents that a seed stands for.
#[must_use]
pub fn contents(seed: u64, count: usize) -> Vec<ContentRow> {
    const KINDS: [(&str, &str); 3] = [
        ("podcast", "Episode"),
        ("video", "Clip"),
        ("newsletter", "Issue"),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|index| {
            let (content_type, word) = KINDS[index % KINDS.len()];
            let key = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
            let length = rng.random_range(30..5_400);
            ContentRow {
                key,
                slug: format!("{content_type}-{seed}-{index:04}"),
                title: format!("{word} {}", index + 1),
                content_type,
                length_seconds: (content_type != "newsletter").then_some(length),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(seed: u64, mix: Mix, count: usize) -> Vec<EventRow> {
        let mut source = RowSource::new(seed, mix, 50);
        (0..count)
            .map(|_| source.next_row(1_000_000_000_000))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
        assert_eq!(take(7, Mix::default(), 100), take(7, Mix::default(), 100));
        assert_ne!(take(7, Mix::default(), 100), take(8, Mix::default(), 100));
    }

    #[test]
    fn skew_gives_the_first_content_most_events() {
        let rows = take(1, Mix::default(), 5_000);
        let of = |index| rows.iter().filter(|row| row.content == Some(index)).count();
        assert!(
            of(0) > 5 * of(40),
            "first {}, forty-first {}",
            of(0),
            of(40)
        );
    }

    #[test]
    fn ratios_of_zero_leave_no_null_and_no_late_row() {
        let mix = Mix {
            null_ratio: 0.0,
            late_ratio: 0.0,
            ..Mix::default()
        };
        for row in take(3, mix, 1_000) {
            assert!(row.content.is_some() && row.duration_ms.is_some());
            assert_eq!(row.event_ts, 1_000_000_000_000);
        }
    }

    #[test]
    fn without_contents_every_row_has_no_content() {
        let mut source = RowSource::new(1, Mix::default(), 0);
        assert_eq!(source.next_row(0).content, None);
    }
}
