//! Times as people type them: `2026-01-08T09:00:00Z`, `2026-01-08`, `-2h`, `yesterday`, `now`.
//!
//! Invariant: what has no zone is UTC, and the clock is asked by the caller.

use std::str::FromStr;
use std::time::Duration;

use engagement::event::Micros;

const DAY: i64 = 86_400_000_000;

/// A time, absolute or before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This time.
    At(Micros),
    /// So long ago.
    Ago(Duration),
    /// The beginning of a day: 0 is today, 1 yesterday; days of UTC.
    Day(i64),
}

impl Moment {
    /// The time, when it is `now` (microseconds since 1970).
    #[must_use]
    pub fn micros(self, now: i64) -> Micros {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => {
                let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
                Micros(now.saturating_sub(ago))
            }
            Self::Day(back) => Micros((now.div_euclid(DAY) - back).saturating_mul(DAY)),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        match text {
            "now" => return Ok(Self::Ago(Duration::ZERO)),
            "today" => return Ok(Self::Day(0)),
            "yesterday" => return Ok(Self::Day(1)),
            _ => {}
        }
        if let Some(ago) = text.strip_prefix('-') {
            let ago = humantime::parse_duration(ago);
            return ago.map(Self::Ago).map_err(|_| wrong(text));
        }
        let is_day = text.len() == 10 && text.bytes().all(|c| c.is_ascii_digit() || c == b'-');
        let whole = if is_day {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        whole.parse().map(Self::At).map_err(|_| wrong(text))
    }
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is no time: write for example 2026-01-08T09:00:00Z (without a zone: UTC), 2026-01-08, -2h, yesterday or now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-08T14:21:52Z
    const NOW: i64 = 1_767_882_112_000_000;

    fn at(text: &str) -> String {
        text.parse::<Moment>().unwrap().micros(NOW).to_string()
    }

    #[test]
    fn a_time_is_absolute_or_before_now() {
        for (text, expected) in [
            ("2026-01-08T09:00:00Z", "2026-01-08T09:00:00Z"),
            ("2026-01-08T09:00:00", "2026-01-08T09:00:00Z"),
            ("2026-01-08 09:00", "2026-01-08T09:00:00Z"),
            ("2026-01-08T09:00:00.5Z", "2026-01-08T09:00:00.500Z"),
            ("2026-01-08T09:00:00+02:00", "2026-01-08T07:00:00Z"),
            ("2026-01-07", "2026-01-07T00:00:00Z"),
            ("-2h", "2026-01-08T12:21:52Z"),
            ("-1h 30m", "2026-01-08T12:51:52Z"),
            ("today", "2026-01-08T00:00:00Z"),
            ("-1d12h", "2026-01-07T02:21:52Z"),
            ("yesterday", "2026-01-07T00:00:00Z"),
            ("now", "2026-01-08T14:21:52Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for text in [
            "",
            "-",
            "2h",
            "12",
            "tomorrow",
            "-2 fortnights",
            "2026-13-01",
            "2026-1-8",
        ] {
            let refused = text.parse::<Moment>();
            assert!(
                refused.as_ref().is_err_and(|e| e.contains("-2h")),
                "{text}: {refused:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Moment>().map(|moment| moment.micros(NOW));
        }
    }
}
