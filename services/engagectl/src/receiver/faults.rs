//! Faults on request: a share of failures, a delay, a status.
//!
//! Invariant: without a `PUT /faults` nothing fails on purpose.

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

/// What is made to fail. Each `PUT` replaces all of it; `{}` ends it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Faults {
    /// Share of requests that fail, 0 to 100.
    pub(super) fail_percent: u8,
    /// Delay before each answer, milliseconds.
    pub(super) slow_ms: u64,
    /// Status of the failures.
    pub(super) status: u16,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            fail_percent: 0,
            slow_ms: 0,
            status: 503,
        }
    }
}

impl Faults {
    /// What is wrong with these faults.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.fail_percent > 100 {
            return Some("fail_percent is a share: 0 to 100");
        }
        if self.slow_ms > 600_000 {
            return Some("slow_ms is at most 600000 (10 minutes)");
        }
        if !(300..=599).contains(&self.status) {
            return Some("status is that of the failures: 300 to 599");
        }
        None
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.slow_ms)
    }

    /// The status of this request's failure, if it fails; `random` is any evenly distributed number.
    pub(super) fn failure(&self, random: u64) -> Option<StatusCode> {
        let fails = random % 100 < u64::from(self.fail_percent);
        fails.then(|| StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_failures_is_the_percentage() {
        let share = |fail_percent| {
            let faults = Faults {
                fail_percent,
                ..Faults::default()
            };
            (0..100)
                .filter(|random| faults.failure(*random).is_some())
                .count()
        };
        assert_eq!([share(0), share(30), share(100)], [0, 30, 100]);
    }

    #[test]
    fn absurd_faults_are_refused() {
        let read = |text| serde_json::from_str::<Faults>(text).map(|f| f.problem().is_some());
        assert!(read(r#"{"fail_percent":101}"#).unwrap());
        assert!(read(r#"{"status":200}"#).unwrap());
        assert!(read(r#"{"slow_ms":600001}"#).unwrap());
        assert!(read(r#"{"fail":1}"#).is_err());
        assert!(!read("{}").unwrap());
    }
}
