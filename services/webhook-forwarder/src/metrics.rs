//! Names and labels of this service's own metrics.
//!
//! Invariant: labels are configured names and enumerations, never data.

use metrics::{Counter, Histogram, counter, gauge, histogram};
use service::metrics::{Label, Metric, SECONDS_BUCKETS, Unit};

use crate::outcome::Outcome;

/// Attempts by endpoint and outcome (labels `endpoint`, `outcome`).
pub const ATTEMPTS: &str = "engage_webhook_attempts_total";
/// State of an endpoint (label `endpoint`): 0 closed, 1 half-open, 2 open, 3 disabled by a 410.
pub const BREAKER: &str = "engage_breaker_state";
/// Value of [`BREAKER`] for an endpoint that answered 410.
pub const DISABLED: u8 = 3;
/// Records that an endpoint does not want: historical events, deletions (label `endpoint`).
pub const SKIPPED: &str = "engage_webhook_skipped_total";

/// Duration of one attempt (label `endpoint`).
pub const ATTEMPT_SECONDS: &str = "engage_webhook_attempt_seconds";

const ENDPOINT: Label = Label::any("endpoint", "the name of an endpoint");

/// What only this service exports, with its part of the shared ones.
pub const OWN: &[Metric] = &[
    service::metrics::FRESHNESS_METRIC,
    service::metrics::sink_errors_metric(&[
        Label::service("sink"),
        Label::one_of("kind", Outcome::FAILURES),
    ]),
    service::metrics::duplicates_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["position"]),
    ]),
    service::metrics::dead_letters_metric(&[
        Label::service("service"),
        Label::one_of("reason", &["malformed", "rejected", "undeliverable"]),
    ]),
    Metric::counter(ATTEMPTS, "Attempts to deliver a message.")
        .with(&[ENDPOINT, Label::one_of("outcome", Outcome::LABELS)]),
    Metric::histogram(
        ATTEMPT_SECONDS,
        Unit::Seconds,
        SECONDS_BUCKETS,
        "Duration of one attempt, from the request to the end of the answer.",
    )
    .with(&[ENDPOINT]),
    Metric::gauge(
        BREAKER,
        Unit::State,
        "0 closed, 1 half-open, 2 open, 3 disabled by a 410.",
    )
    .with(&[ENDPOINT]),
    Metric::counter(
        SKIPPED,
        "Records that an endpoint does not want: historical events, deletions.",
    )
    .with(&[ENDPOINT]),
];

/// Shows every series of an endpoint from its start: an alert on an increase must not miss the first one.
pub fn begin(endpoint: &str) {
    for outcome in Outcome::LABELS {
        attempts(endpoint, outcome).increment(0);
    }
    counter!(SKIPPED, "endpoint" => endpoint.to_owned()).increment(0);
    breaker_level(endpoint, 0);
}

/// The histogram of an endpoint's attempts, in seconds.
pub fn attempt_seconds(endpoint: &str) -> Histogram {
    histogram!(ATTEMPT_SECONDS, "endpoint" => endpoint.to_owned())
}

/// Attempts that end so; who counts many keeps it.
pub fn attempts(endpoint: &str, outcome: &'static str) -> Counter {
    counter!(ATTEMPTS, "endpoint" => endpoint.to_owned(), "outcome" => outcome)
}

/// Shows the state of an endpoint.
pub fn breaker_level(endpoint: &str, level: u8) {
    gauge!(BREAKER, "endpoint" => endpoint.to_owned()).set(f64::from(level));
}

/// Counts a record that is not sent.
pub fn skipped(endpoint: &str) {
    counter!(SKIPPED, "endpoint" => endpoint.to_owned()).increment(1);
}
