//! From `main` to the exit code.

use std::process::ExitCode;

use crate::{App, Exit};

/// Runs the service as a process.
#[must_use]
pub fn main<A: App>() -> ExitCode {
    Exit::Internal.into()
}
