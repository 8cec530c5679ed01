//! Names and labels of this service's own metrics.
//!
//! Invariant: labels are configured names and enumerations, never data.

use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};

/// Attempts by endpoint and outcome (labels `endpoint`, `outcome`).
pub const ATTEMPTS: &str = "engage_webhook_attempts_total";
/// State of an endpoint (label `endpoint`): 0 closed, 1 half-open, 2 open, 3 disabled by a 410.
pub const BREAKER: &str = "engage_breaker_state";
/// Value of [`BREAKER`] for an endpoint that answered 410.
pub const DISABLED: u8 = 3;
/// Records that an endpoint does not want: historical events, deletions (label `endpoint`).
pub const SKIPPED: &str = "engage_webhook_skipped_total";

/// Tells the recorder what they mean.
pub fn describe() {
    describe_counter!(ATTEMPTS, "Attempts to deliver a message.");
    describe_gauge!(
        BREAKER,
        "0 closed, 1 half-open, 2 open, 3 disabled by a 410."
    );
    describe_counter!(SKIPPED, "Records that an endpoint does not want.");
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
