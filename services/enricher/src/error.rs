//! How failures of the parts become the end of the process.
//!
//! Invariant: every failure names what would be right and the next command.

use service::{Exit, Failure};
use stream::settings::SettingsError;
use stream::{RunError, RunErrorKind};

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
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
pub(crate) fn run(error: RunError) -> Failure {
    let exit = match error.kind() {
        RunErrorKind::Usage => Exit::Usage,
        RunErrorKind::Unavailable => Exit::Unavailable,
        RunErrorKind::Internal => Exit::Internal,
        RunErrorKind::TryAgain => Exit::TryAgain,
        RunErrorKind::Repair => Exit::Repair,
    };
    let remedy = error.remedy().into_owned();
    Failure::new(exit, error.to_string())
        .remedy(remedy)
        .next("enricher check")
}
