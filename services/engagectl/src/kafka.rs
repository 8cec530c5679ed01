//! A question to Kafka, and what is said where no answer comes.
//!
//! Invariant: what blocks is asked off the runtime.

use std::fmt::Display;

use service::Failure;
use stream::LaneError;

use crate::off_the_runtime;

/// Asks what blocks.
///
/// # Errors
/// [`unanswered`].
pub(crate) async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, LaneError> + Send + 'static,
) -> Result<T, Failure> {
    off_the_runtime(question).await?.map_err(unanswered)
}

/// Where no answer came, because of `error`.
pub(crate) fn unanswered(error: impl Display) -> Failure {
    Failure::unavailable("Kafka cannot be asked")
        .cause(error.to_string())
        .remedy(
            "look whether KAFKA_BOOTSTRAP_SERVERS names the brokers, and whether its user may do what `engagectl access kafka` lists",
        )
        .next("engagectl check")
}
