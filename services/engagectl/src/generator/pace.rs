//! How many rows are due: a rate over time and a burst at the start. Pure.

use std::str::FromStr;
use std::time::Duration;

/// Events per second, written `500`, `500/s`, `30000/min` or `100/h`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// So many rows a second.
    #[must_use]
    pub fn per(second: u32) -> Self {
        Self(f64::from(second))
    }

    /// Rows per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0
    }

    /// When a row is due, by its number from 0; at once where nothing is.
    #[must_use]
    pub fn at(self, number: u64) -> Duration {
        Duration::try_from_secs_f64(number as f64 / self.0).unwrap_or_default()
    }

    /// How many rows should have been written after `elapsed`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count far below 2^52, never negative"
    )]
    pub fn due(self, elapsed: Duration) -> u64 {
        (self.0 * elapsed.as_secs_f64()) as u64
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let per = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            other => {
                return Err(format!(
                    "unknown unit {other:?}: write for example 500/s, 30000/min or 100/h"
                ));
            }
        };
        let number: f64 = number
            .trim()
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{number:?} is no number: write for example 500/s"))?;
        if !number.is_finite() || number < 0.0 {
            return Err(format!(
                "{number} is no rate: write a number that is 0 or more, for example 500/s"
            ));
        }
        Ok(Self(number / per))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_be_given_per_second_minute_or_hour() {
        for (text, rate) in [
            ("500", 500.0),
            ("500/s", 500.0),
            ("30_000/min", 500.0),
            ("3600/h", 1.0),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().per_second(), rate, "{text}");
        }
    }

    #[test]
    fn a_wrong_unit_or_a_negative_number_is_refused_with_an_example() {
        for text in ["5/fortnight", "-1/s", "many"] {
            assert!(
                text.parse::<Rate>().unwrap_err().contains("500/s"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_due_follows_the_clock_not_the_number_of_calls() {
        let rate: Rate = "100/s".parse().unwrap();
        assert_eq!(rate.due(Duration::from_millis(250)), 25);
        assert_eq!(rate.at(25), Duration::from_millis(250));
        let nothing: Rate = "0".parse().unwrap();
        assert_eq!(nothing.at(25), Duration::ZERO);
    }
}
