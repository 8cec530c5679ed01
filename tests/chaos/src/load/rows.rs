//! Random rows of `engagement_events`, as text for COPY. Pure.
//!
//! Invariant: every column that may be NULL is NULL now and then.

use std::fmt::Write as _;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

const EVENT_TYPES: [&str; 4] = ["play", "pause", "finish", "click"];
const DEVICES: [&str; 4] = ["ios", "android", "web \"quoted\"", "smart-tv"];
const SECOND: i64 = 1_000_000;
/// The column list of a COPY.
pub(super) const COLUMNS: &str =
    "content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload";

/// An endless source of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    rng: ChaCha8Rng,
}

impl Rows {
    /// From a generator of its own.
    #[must_use]
    pub const fn new(rng: ChaCha8Rng) -> Self {
        Self { rng }
    }

    /// `count` lines for COPY (text format) at about `now` (microseconds since 1970).
    pub fn copy(&mut self, contents: &[String], count: usize, now: i64) -> String {
        let mut text = String::with_capacity(count * 160);
        for _ in 0..count {
            self.line(contents, now, &mut text);
        }
        text
    }

    fn line(&mut self, contents: &[String], now: i64, text: &mut String) {
        let content = (!self.chance(0.02))
            .then(|| contents[self.content(contents.len())].clone())
            .filter(|id| !id.is_empty());
        let user = (!self.chance(0.1)).then(|| {
            format!(
                "00000000-0000-4000-8000-{:012x}",
                self.rng.random_range(1..5000)
            )
        });
        let event_type = (!self.chance(0.02)).then(|| EVENT_TYPES[self.rng.random_range(0..4)]);
        let duration = (!self.chance(0.1)).then(|| self.duration().to_string());
        let device = (!self.chance(0.1)).then(|| DEVICES[self.rng.random_range(0..4)]);
        let payload =
            (!self.chance(0.5)).then(|| format!("{{\"n\": {}}}", self.rng.random::<u16>()));
        let ts = timestamp(now - self.lateness());
        let fields = [
            content.as_deref(),
            user.as_deref(),
            event_type,
            Some(ts.as_str()),
            duration.as_deref(),
            device,
            payload.as_deref(),
        ];
        for (index, field) in fields.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "\t" };
            // Writing to a string does not fail.
            let _ = write!(text, "{separator}{}", field.unwrap_or("\\N"));
        }
        text.push('\n');
    }

    /// A fifth of all events go to one content, the rest to few rather than many.
    fn content(&mut self, count: usize) -> usize {
        if self.chance(0.2) {
            return 0;
        }
        let bound = self.rng.random_range(1..=count);
        self.rng.random_range(0..bound)
    }

    fn duration(&mut self) -> i32 {
        match self.rng.random_range(0..20) {
            0 => 0,
            1 => -1,
            2 => i32::MAX,
            _ => self.rng.random_range(1..900_000),
        }
    }

    fn lateness(&mut self) -> i64 {
        match self.rng.random_range(0..50) {
            0 => self.rng.random_range(0..3600 * SECOND),
            1 => -self.rng.random_range(0..120 * SECOND),
            _ => 0,
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}

/// A time as Postgres reads it: seconds since 1970 do not parse, a Julian-free form does.
fn timestamp(micros: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rows_with_nulls_in_every_column_that_may_be_null() {
        let contents = vec!["a".to_owned(), "b".to_owned()];
        let rows =
            || Rows::new(ChaCha8Rng::seed_from_u64(3)).copy(&contents, 2000, 1_700_000_000_000_000);
        assert_eq!(rows(), rows());
        for column in [0, 1, 2, 4, 5, 6] {
            let text = rows();
            let mut fields = text.lines().filter_map(|line| line.split('\t').nth(column));
            assert!(fields.any(|field| field == "\\N"), "column {column}");
        }
    }

    #[test]
    fn a_time_has_microseconds_and_an_offset() {
        assert_eq!(timestamp(1_500_000), "1970-01-01 00:00:01.500000+00");
    }
}
