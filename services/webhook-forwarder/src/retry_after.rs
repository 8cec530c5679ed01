//! The `Retry-After` header, in both of its forms.
//!
//! Invariant: nothing an endpoint writes there can make us wait longer than the cap, or panic.

use std::time::Duration;

use chrono::NaiveDateTime;

/// The three date forms of RFC 9110 section 5.6.7.
const DATE_FORMS: [&str; 3] = [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
];

/// How long `value` asks to wait, at most `cap`. `now` is in microseconds since 1970 (UTC) and only
/// matters for the date form; a date in the past is no wait. `None` when the value is malformed.
#[must_use]
pub fn parse(value: &str, now: i64, cap: Duration) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // more digits than u64 has is still "very long"
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(cap));
    }
    let date = DATE_FORMS
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(value, form).ok())?;
    let micros = date.and_utc().timestamp_micros().saturating_sub(now);
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const HOUR: Duration = Duration::from_secs(3600);
    /// 1994-11-06T08:49:37Z, the RFC's own example.
    const RFC: i64 = 784_111_777_000_000;

    #[rstest]
    #[case("0", 0)]
    #[case("120", 120)]
    #[case(" 7 ", 7)]
    #[case("99999999", 3600)]
    #[case("99999999999999999999999999", 3600)]
    #[case("Sun, 06 Nov 1994 08:49:37 GMT", 10)]
    #[case("Sunday, 06-Nov-94 08:49:37 GMT", 10)]
    #[case("Sun Nov  6 08:49:37 1994", 10)]
    #[case("Sun, 06 Nov 1994 08:00:00 GMT", 0)]
    #[case("Sat, 06 Nov 2094 08:49:37 GMT", 3600)]
    fn both_forms_are_read_and_capped(#[case] value: &str, #[case] seconds: u64) {
        let waited = parse(value, RFC - 10_000_000, HOUR);
        assert_eq!(waited, Some(Duration::from_secs(seconds)));
    }

    #[rstest]
    #[case("")]
    #[case("-1")]
    #[case("1.5")]
    #[case("soon")]
    #[case("Sun, 31 Feb 1994 08:49:37 GMT")]
    #[case("Mon, 06 Nov 1994 08:49:37 GMT")]
    fn malformed_values_are_ignored(#[case] value: &str) {
        assert_eq!(parse(value, RFC, HOUR), None);
    }

    proptest! {
        #[test]
        fn no_text_panics_or_exceeds_the_cap(value in "\\PC{0,40}", now in any::<i64>()) {
            prop_assert!(parse(&value, now, HOUR).is_none_or(|wait| wait <= HOUR));
        }
    }
}
