//! Why a record is given up, in the words of a dead letter. Pure.
//!
//! Invariant: the endpoint is named, so that a redrive reaches the one that failed and no other.

use stream::Record;
use stream::dead_letter::Reject;
use stream::headers;

use crate::client::Answer;
use crate::delivery::Job;
use crate::endpoint::Endpoint;
use crate::outcome::{Outcome, Verdict};

pub use stream::dead_letter::ENDPOINT;

/// The step of a record that is no event.
pub(crate) const DECODE: &str = "decode";

/// A record that cannot be read.
#[must_use]
pub fn poison(endpoint: &Endpoint, reason: &str) -> Reject {
    let message = format!("endpoint {}: {reason}", endpoint.name);
    Reject::new("malformed", DECODE, "engagement::wire", message)
}

/// A message that its endpoint does not take.
#[must_use]
pub fn undelivered(endpoint: &Endpoint, job: &Job, answer: &Answer) -> Reject {
    let attempts = job.attempts.made();
    let message = format!(
        "endpoint {}: {} after {attempts} attempts, webhook-id {}: {}",
        endpoint.name, answer.outcome, job.message.id, answer.detail
    );
    Reject {
        attempts,
        first_failed_at: job.first_failed_at,
        shown: Some(answer.outcome.to_string()),
        ..Reject::new(
            kind(&answer.outcome),
            "deliver",
            "webhook_forwarder::lane",
            message,
        )
    }
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome.verdict() {
        Verdict::Permanent => "rejected",
        Verdict::Delivered | Verdict::Transient | Verdict::Disabled => "undeliverable",
    }
}

/// The record with the name of the endpoint beside its own headers.
#[must_use]
pub fn addressed(record: &Record, endpoint: &str) -> Record {
    let mut record = record.clone();
    headers::set(&mut record.headers, ENDPOINT, endpoint.to_owned());
    record
}
