//! The one wall clock. Everything else takes time as an argument.
//! Invariant: this is the only file that reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC (negative before).
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file the ban points to"
)]
pub fn now() -> i64 {
    let micros =
        |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn now_is_in_this_century_and_in_microseconds() {
        let year_2020 = 1_577_836_800_000_000;
        let year_2100 = 4_102_444_800_000_000;
        assert!((year_2020..year_2100).contains(&super::now()));
    }
}
