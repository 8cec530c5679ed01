//! How failures of the parts become the end of the process.
//!
//! Invariant: every failure names what would be right and the next command.

use service::Failure;
use stream::RunError;
use stream::settings::SettingsError;

/// A Kafka setting is wrong.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
pub(crate) fn settings(error: SettingsError) -> Failure {
    Failure::usage("the Kafka settings cannot work")
        .cause(error.to_string())
        .remedy("correct the setting named")
        .next("enricher check")
}

/// The consumer loop has ended.
pub(crate) fn run(error: RunError) -> Failure {
    Failure::from(error).next("enricher check")
}
