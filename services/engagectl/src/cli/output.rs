//! The form of what is printed.

use std::io::Write as _;

use clap::ValueEnum;
use service::Failure;

/// The form of results on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Output {
    /// Why a command ended, for standard error.
    #[must_use]
    pub fn failure(self, failure: &Failure) -> String {
        match self {
            Self::Table => failure.render("engagectl"),
            Self::Json => format!("{:#}", failure.json()),
        }
    }
}

/// Results go to standard output; a closed pipe (`| head`) is no error of ours.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
