//! Random but repeatable interactions: the same seed gives the same rows on every machine.
//!
//! Invariant: pure; the clock is an argument and the seed the only source of chance.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::contents::ContentRow;
use super::sessions::Session;

const DEVICES: [&str; 5] = ["ios", "android", "web-chrome", "web-safari", "smart-tv"];
const SECOND: i64 = 1_000_000;
/// How far back a late event may lie.
const LATE: i64 = 3600 * SECOND;
/// How far back an event may lie that is only out of order.
const DISORDER: i64 = 30 * SECOND;
/// Sessions under way at once.
const SESSIONS: usize = 1000;
/// How often a row begins a session, as long as there may be more.
const BEGINS: f64 = 0.4;
/// How often a session is about a content that was added meanwhile.
const NOVELTY: f64 = 0.1;
/// 1931, and 2400: times that Postgres takes and the enricher gives up (`absurd_timestamp`).
const ABSURD: [i64; 2] = [-1_230_768_000 * SECOND, 13_569_465_600 * SECOND];

/// What the generated stream looks like; every ratio is between 0 and 1.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// How strongly a few contents attract most sessions: 0 = evenly, 1 = Zipf.
    pub skew: f64,
    /// The share of sessions that are all about the first content.
    pub hot_key: f64,
    /// The share of NULL durations, and of NULL contents at a tenth of it.
    pub null_ratio: f64,
    /// The share of events whose time lies up to an hour back.
    pub late_ratio: f64,
    /// The share of events whose time lies up to half a minute back, so that later rows carry earlier times.
    pub disorder_ratio: f64,
    /// The share of events with a time that the enricher gives up.
    pub poison_ratio: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            skew: 1.0,
            hot_key: 0.0,
            null_ratio: 0.05,
            late_ratio: 0.01,
            disorder_ratio: 0.0,
            poison_ratio: 0.0,
        }
    }
}

/// One row to insert into `engagement_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl EventRow {
    /// The enricher gives it up.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        ABSURD.contains(&self.event_ts)
    }
}

/// An endless source of rows.
#[derive(Clone, Debug)]
pub struct RowSource {
    rng: ChaCha8Rng,
    mix: Mix,
    /// Cumulative weights of the contents that were there at first, ending at 1.
    cumulative: Vec<f64>,
    /// The length of every content in seconds.
    lengths: Vec<Option<i32>>,
    sessions: Vec<Session>,
}

impl RowSource {
    /// Rows over these contents.
    #[must_use]
    pub fn new(seed: u64, mix: Mix, contents: &[ContentRow]) -> Self {
        let weights: Vec<f64> = (1..=contents.len())
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
            lengths: contents.iter().map(|row| row.length_seconds).collect(),
            sessions: Vec::new(),
        }
    }

    /// The next row; `now` is in microseconds since 1970 UTC.
    pub fn next_row(&mut self, now: i64) -> EventRow {
        let at = self.session();
        let step = self.sessions[at].step(&mut self.rng);
        let session = &self.sessions[at];
        let (content, user, device) = (session.content, session.user, session.device);
        if step.is_last {
            self.sessions.swap_remove(at);
        }
        let duration = i32::try_from(step.duration_ms).unwrap_or(i32::MAX);
        EventRow {
            content,
            user,
            event_type: step.event_type,
            event_ts: self.time(now),
            duration_ms: (!self.chance(self.mix.null_ratio)).then_some(duration),
            device,
        }
    }

    /// A content was added, or has another length now.
    pub(super) fn set_length(&mut self, index: usize, length_seconds: Option<i32>) {
        match self.lengths.get_mut(index) {
            Some(length) => *length = length_seconds,
            None => self.lengths.push(length_seconds),
        }
    }

    /// Which session goes on: one that begins, or one under way.
    fn session(&mut self) -> usize {
        let may_begin = self.sessions.len() < SESSIONS;
        if self.sessions.is_empty() || may_begin && self.chance(BEGINS) {
            let content = self.content();
            let length = content.and_then(|index| self.lengths.get(index).copied().flatten());
            let user = self.rng.random_range(1..=100_000);
            let device =
                (!self.chance(0.05)).then(|| DEVICES[self.rng.random_range(0..DEVICES.len())]);
            self.sessions
                .push(Session::begin(content, length, user, device));
            return self.sessions.len() - 1;
        }
        self.rng.random_range(0..self.sessions.len())
    }

    fn content(&mut self) -> Option<usize> {
        if self.cumulative.is_empty() || self.chance(self.mix.null_ratio / 10.0) {
            return None;
        }
        if self.chance(self.mix.hot_key) {
            return Some(0);
        }
        let first = self.cumulative.len();
        if self.lengths.len() > first && self.chance(NOVELTY) {
            return Some(self.rng.random_range(first..self.lengths.len()));
        }
        let point: f64 = self.rng.random();
        let found = self.cumulative.partition_point(|c| *c < point);
        Some(found.min(first - 1))
    }

    fn time(&mut self, now: i64) -> i64 {
        if self.chance(self.mix.poison_ratio) {
            return ABSURD[self.rng.random_range(0..ABSURD.len())];
        }
        if self.chance(self.mix.late_ratio) {
            return now - self.rng.random_range(SECOND..LATE);
        }
        if self.chance(self.mix.disorder_ratio) {
            return now - self.rng.random_range(1..DISORDER);
        }
        now
    }

    /// True with the given probability.
    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::contents::contents;
    use super::*;

    const NOW: i64 = 1_700_000_000 * SECOND;

    fn take(seed: u64, mix: Mix, count: usize) -> Vec<EventRow> {
        let mut source = RowSource::new(seed, mix, &contents(seed, 50));
        (0..count).map(|_| source.next_row(NOW)).collect()
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
            assert_eq!(row.event_ts, NOW);
        }
    }

    #[test]
    fn times_are_late_out_of_order_or_absurd_as_often_as_they_were_asked_for() {
        let mix = Mix {
            late_ratio: 0.1,
            disorder_ratio: 0.2,
            poison_ratio: 0.05,
            ..Mix::default()
        };
        let rows = take(5, mix, 20_000);
        let poison = rows.iter().filter(|row| row.is_poison()).count();
        let back = |from: i64, to: i64| {
            let ages = rows.iter().filter(|row| !row.is_poison());
            ages.filter(|row| (from..to).contains(&(NOW - row.event_ts)))
                .count()
        };
        assert!((800..1200).contains(&poison), "{poison}");
        let (late, disorder) = (back(DISORDER, LATE), back(1, DISORDER));
        assert!((1600..2200).contains(&late), "{late}");
        assert!((3000..4000).contains(&disorder), "{disorder}");
    }

    #[test]
    fn what_is_poison_is_what_the_enricher_gives_up() {
        for at in ABSURD {
            let year = engagement::event::Micros(at).to_string();
            let outside = !(0..=10_413_792_000 * SECOND).contains(&at);
            assert!(outside, "{year} lies between 1970 and 2300");
        }
    }

    #[test]
    fn a_user_stays_with_one_content_for_a_session_and_watches_no_more_than_it_has() {
        let mix = Mix {
            null_ratio: 0.0,
            ..Mix::default()
        };
        let lengths: Vec<_> = contents(9, 50).iter().map(|c| c.length_seconds).collect();
        let mut watched: BTreeMap<(i64, usize), i64> = BTreeMap::new();
        for row in take(9, mix, 3_000) {
            let place = (row.user, row.content.unwrap());
            let sum = watched.entry(place).or_default();
            // a user may come back, and begins anew then
            if row.event_type == "click" || row.event_type == "play" && *sum == 0 {
                *sum = 0;
            }
            *sum += i64::from(row.duration_ms.unwrap());
            if let Some(length) = lengths[place.1] {
                assert!(*sum <= 2 * i64::from(length) * 1000, "{place:?}: {sum}");
            }
        }
        assert!(watched.len() > 500);
    }

    #[test]
    fn without_contents_every_row_has_no_content() {
        let mut source = RowSource::new(1, Mix::default(), &[]);
        assert_eq!(source.next_row(0).content, None);
    }
}
