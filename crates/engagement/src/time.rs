//! Time as one integer: microseconds since 1970-01-01 00:00:00 UTC.
//!
//! Invariant: printing and parsing are inverse, and neither depends on the machine's zone.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

/// Microseconds since 1970-01-01 00:00:00 UTC; negative before.
///
/// `Display` is RFC 3339 with a `Z` and as many digits (0, 3 or 6) as needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Micros(pub i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

impl Micros {
    /// From milliseconds; saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    /// From chrono's type; what is below a microsecond is dropped.
    #[must_use]
    pub fn from_chrono(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }

    /// To chrono's type; `None` outside its range (262 000 years).
    #[must_use]
    pub fn to_chrono(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// `2026-01-08 14:21:52`: UTC, whole seconds, the rest dropped.
    #[must_use]
    pub fn to_plain(self) -> String {
        let t = Civil::of(self);
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = t;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micro,
        } = Civil::of(*self);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        match (micro, micro % 1000) {
            (0, _) => f.write_str("Z"),
            (_, 0) => write!(f, ".{:03}Z", micro / 1000),
            _ => write!(f, ".{micro:06}Z"),
        }
    }
}

impl serde::Serialize for Micros {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Micros {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micro: i64,
}

impl Civil {
    fn of(at: Micros) -> Self {
        let (seconds, micro) = (at.seconds(), at.0.rem_euclid(SECOND));
        let (days, in_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
            micro,
        }
    }
}

/// Howard Hinnant's `civil_from_days` (chrono-compatible low-level date algorithms, section 3).
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + (month <= 2) as i64;
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// The inverse: days since 1970-01-01 of a proleptic Gregorian date.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 8601 time such as 2026-01-08T14:21:52.123456Z")]
pub struct TimeError;

impl FromStr for Micros {
    type Err = TimeError;

    /// `2026-01-08T14:21:52[.123456][Z|+02:00]`; a space may stand for the `T`, no zone means UTC,
    /// digits beyond microseconds are dropped, 24:00 and leap seconds are refused.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut cursor = Cursor(text.as_bytes());
        let seconds = cursor.date_and_time().ok_or(TimeError)?;
        let micro = cursor.fraction().ok_or(TimeError)?;
        let offset = cursor.zone().ok_or(TimeError)?;
        Ok(Self((seconds - offset) * SECOND + micro))
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn date_and_time(&mut self) -> Option<i64> {
        let year = self.number(4)?;
        let month = self.byte(b"-")?.number(2)?;
        let day = self.byte(b"-")?.number(2)?;
        let hour = self.byte(b"Tt ")?.number(2)?;
        let minute = self.byte(b":")?.number(2)?;
        let second = if self.0.first() == Some(&b':') {
            self.byte(b":")?.number(2)?
        } else {
            0
        };
        let valid = (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        valid.then(|| days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
    }

    fn fraction(&mut self) -> Option<i64> {
        if self.0.first() != Some(&b'.') {
            return Some(0);
        }
        let digits = self.0[1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        let (mut micro, mut unit) = (0, 100_000);
        for digit in &self.0[1..=digits] {
            micro += i64::from(digit - b'0') * unit;
            unit /= 10;
        }
        self.0 = &self.0[1 + digits..];
        (digits > 0).then_some(micro)
    }

    fn zone(&mut self) -> Option<i64> {
        match self.0 {
            [] | [b'Z' | b'z'] => Some(0),
            [sign @ (b'+' | b'-'), rest @ ..] => {
                let mut rest = Cursor(rest);
                let hours = rest.number(2)?;
                if rest.0.first() == Some(&b':') {
                    rest.byte(b":")?;
                }
                let minutes = if rest.0.is_empty() {
                    0
                } else {
                    rest.number(2)?
                };
                let valid = rest.0.is_empty() && hours < 24 && minutes < 60;
                let seconds = hours * 3600 + minutes * 60;
                valid.then_some(if *sign == b'-' { -seconds } else { seconds })
            }
            _ => None,
        }
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(digits)?;
        let mut value = 0;
        for byte in head {
            if !byte.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i64::from(byte - b'0');
        }
        self.0 = tail;
        Some(value)
    }

    fn byte(&mut self, allowed: &[u8]) -> Option<&mut Self> {
        let (first, tail) = self.0.split_first()?;
        self.0 = tail;
        allowed.contains(first).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<i64> {
        text.parse().ok().map(|Micros(n)| n)
    }

    #[test]
    fn every_accepted_spelling_is_the_same_instant() {
        let at = Some(1_767_882_112_123_000);
        for text in [
            "2026-01-08T14:21:52.123Z",
            "2026-01-08T14:21:52.123000Z",
            "2026-01-08T14:21:52.123000999Z",
            "2026-01-08 14:21:52.123",
            "2026-01-08T16:21:52.123+02:00",
            "2026-01-08T09:21:52.123-0500",
            "2026-01-08 15:21:52.123+01",
        ] {
            assert_eq!(parse(text), at, "{text}");
        }
        assert_eq!(parse("2026-01-08T14:21Z"), Some(1_767_882_060_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-01-08",
            "2026-13-08T14:21:52Z",
            "2026-02-29T00:00:00Z",
            "2026-01-08T24:00:00Z",
            "2026-01-08T14:21:52.Z",
            "2026-01-08T14:21:52+25:00",
            "2026-01-08T14:21:52Zx",
            "infinity",
            "292278994-08-17T07:12:55Z",
            "２026-01-08T14:21:52Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_text_is_as_short_as_the_value_allows() {
        assert_eq!(
            Micros(1_767_882_112_000_000).to_string(),
            "2026-01-08T14:21:52Z"
        );
        assert_eq!(
            Micros(1_767_882_112_120_000).to_string(),
            "2026-01-08T14:21:52.120Z"
        );
        assert_eq!(
            Micros(1_767_882_112_123_456).to_string(),
            "2026-01-08T14:21:52.123456Z"
        );
        assert_eq!(
            Micros(1_767_882_112_999_999).to_plain(),
            "2026-01-08 14:21:52"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(at in -62_167_219_200_000_000i64..=253_402_300_799_999_999) {
            prop_assert_eq!(Micros(at).to_string().parse(), Ok(Micros(at)));
            let by_chrono = Micros(at).to_chrono().unwrap().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
            prop_assert_eq!(Micros(at).to_string(), by_chrono);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Micros>();
        }

        #[test]
        fn no_value_panics(at in any::<i64>()) {
            let _ = (Micros(at).to_string(), Micros(at).to_plain());
        }
    }
}
