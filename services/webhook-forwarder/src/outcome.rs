//! What one attempt came to, and whom it speaks about: the record or the endpoint.
//!
//! Invariant: every status code and every transport error has exactly one outcome.

use std::time::Duration;

/// Result of one HTTP attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Any 2xx.
    Delivered,
    /// 408, 425, 429: come again later.
    Throttled {
        /// The status code.
        status: u16,
        /// What `Retry-After` asked for, capped.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    ServerError {
        /// The status code.
        status: u16,
        /// What `Retry-After` asked for, capped (503 only).
        retry_after: Option<Duration>,
    },
    /// 410: the receiver wants no more messages.
    Gone,
    /// Any other 4xx, or a status outside of HTTP's ranges: this message as it is will not be taken.
    Rejected {
        /// The status code.
        status: u16,
    },
    /// 3xx: redirects are not followed.
    Redirected {
        /// The status code.
        status: u16,
    },
    /// No complete response head in time.
    TimedOut,
    /// No connection, or it broke.
    Unreachable,
    /// The host's address is not allowed for this endpoint.
    RefusedAddress,
}

/// Whom an outcome speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered; the endpoint is well.
    Delivered,
    /// The endpoint answered and does not want this record: trying again will hardly help.
    Permanent,
    /// The endpoint, the way to it, or (if it goes on while others are delivered) the record.
    Transient,
    /// The endpoint is switched off by its owner.
    Disabled,
}

impl Outcome {
    /// Every value of [`Outcome::label`].
    pub const LABELS: &[&str] = &[
        "delivered",
        "throttled",
        "server_error",
        "gone",
        "rejected",
        "redirected",
        "timeout",
        "unreachable",
        "refused_address",
    ];
    /// Those of attempts that did not deliver.
    pub const FAILURES: &[&str] = Self::LABELS.split_at(1).1;

    /// Outcome of a response with this status. `retry_after` counts for 429 and 503 only.
    #[must_use]
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirected { status },
            410 => Self::Gone,
            429 => Self::Throttled {
                status,
                retry_after,
            },
            408 | 425 => Self::Throttled {
                status,
                retry_after: None,
            },
            503 => Self::ServerError {
                status,
                retry_after,
            },
            500..=599 => Self::ServerError {
                status,
                retry_after: None,
            },
            _ => Self::Rejected { status },
        }
    }

    /// Whom this outcome speaks about.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Delivered => Verdict::Delivered,
            Self::Rejected { .. } | Self::Redirected { .. } => Verdict::Permanent,
            Self::Gone => Verdict::Disabled,
            Self::Throttled { .. }
            | Self::ServerError { .. }
            | Self::TimedOut
            | Self::Unreachable
            | Self::RefusedAddress => Verdict::Transient,
        }
    }

    /// How long the endpoint asked everybody to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::ServerError { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Value of the `outcome` label in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Throttled { .. } => "throttled",
            Self::ServerError { .. } => "server_error",
            Self::Gone => "gone",
            Self::Rejected { .. } => "rejected",
            Self::Redirected { .. } => "redirected",
            Self::TimedOut => "timeout",
            Self::Unreachable => "unreachable",
            Self::RefusedAddress => "refused_address",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Gone => f.write_str("status 410, the receiver wants no more messages"),
            Self::Throttled { status, .. }
            | Self::ServerError { status, .. }
            | Self::Rejected { status } => write!(f, "status {status}"),
            Self::Redirected { status } => {
                write!(
                    f,
                    "status {status}, a redirect, and redirects are not followed"
                )
            }
            Self::TimedOut => f.write_str("no response in time"),
            Self::Unreachable => f.write_str("no connection, or it broke"),
            Self::RefusedAddress => f.write_str("the host's address is not allowed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(200..=299, Verdict::Delivered)]
    #[case(300..=399, Verdict::Permanent)]
    #[case(400..=407, Verdict::Permanent)]
    #[case(408..=408, Verdict::Transient)]
    #[case(409..=409, Verdict::Permanent)]
    #[case(410..=410, Verdict::Disabled)]
    #[case(411..=424, Verdict::Permanent)]
    #[case(425..=425, Verdict::Transient)]
    #[case(426..=428, Verdict::Permanent)]
    #[case(429..=429, Verdict::Transient)]
    #[case(430..=499, Verdict::Permanent)]
    #[case(500..=599, Verdict::Transient)]
    #[case(600..=999, Verdict::Permanent)]
    #[case(100..=199, Verdict::Permanent)]
    fn every_status_has_the_verdict_of_the_contract(
        #[case] range: std::ops::RangeInclusive<u16>,
        #[case] verdict: Verdict,
    ) {
        for status in range {
            assert_eq!(
                Outcome::of_status(status, None).verdict(),
                verdict,
                "{status}"
            );
        }
    }

    #[test]
    fn every_outcome_has_a_label_that_is_listed() {
        let statuses = (100..=999).map(|status| Outcome::of_status(status, None));
        let others = [
            Outcome::TimedOut,
            Outcome::Unreachable,
            Outcome::RefusedAddress,
        ];
        let seen: std::collections::BTreeSet<&str> = statuses
            .chain(others)
            .map(|outcome| outcome.label())
            .collect();
        assert_eq!(seen, Outcome::LABELS.iter().copied().collect());
        assert!(!Outcome::FAILURES.contains(&Outcome::Delivered.label()));
    }

    #[test]
    fn only_429_and_503_may_ask_for_time() {
        let wait = Some(Duration::from_secs(3));
        for status in 100..=999 {
            let asked = Outcome::of_status(status, wait).retry_after();
            assert_eq!(asked.is_some(), matches!(status, 429 | 503), "{status}");
        }
    }
}
