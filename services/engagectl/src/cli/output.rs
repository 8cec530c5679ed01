//! The form of what is printed.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use service::{Exit, Failure};

/// The form of results on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Output {
    /// Why a command ended, for standard error; as JSON it is one line.
    #[must_use]
    pub fn failure(self, failure: &Failure) -> String {
        match self {
            Self::Table => failure.render("engagectl"),
            Self::Json => failure.json().to_string(),
        }
    }

    /// What a command line asks for that could not be read: the last word about it.
    fn among(words: impl IntoIterator<Item = String>) -> Self {
        let mut form = Self::Table;
        let mut is_next = false;
        for word in words {
            let value = ["--output=", "-o=", "-o"]
                .iter()
                .find_map(|option| word.strip_prefix(option));
            match value.filter(|value| !value.is_empty()) {
                Some(value) => form = Self::named(value),
                None if is_next => form = Self::named(&word),
                None => {}
            }
            is_next = ["-o", "--output"].contains(&word.as_str());
        }
        form
    }

    fn named(word: &str) -> Self {
        Self::from_str(word, false).unwrap_or(Self::Table)
    }
}

/// Results go to standard output; a closed pipe (`| head`) is no error of ours.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints what the definition of the command line answers in place of a command: help, which is a result, or what is wrong with the
/// words, in the form that they ask for. Answers how the process ends.
#[must_use]
pub fn unread(error: &clap::Error) -> ExitCode {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    match (error.use_stderr(), Output::among(words)) {
        (true, Output::Json) => eprintln!("{}", Output::Json.failure(&misread(error))),
        // a closed pipe is no error of ours
        _ => drop(error.print()),
    }
    if error.use_stderr() {
        return Exit::Usage.into();
    }
    ExitCode::SUCCESS
}

/// Why a command line could not be read.
fn misread(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let (what, usage) = text.split_once("\n\nUsage: ").unwrap_or((&text, ""));
    let what = what.trim_start_matches("error: ");
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let failure = Failure::usage(what);
    match usage.lines().next() {
        Some(usage) => failure.remedy(format!("{usage}; see --help")),
        None => failure.remedy("see --help"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_form_is_found_in_words_that_are_no_command() {
        let among = |line: &str| Output::among(line.split(' ').map(str::to_owned));
        for line in [
            "-o json verfy",
            "verify -ojson --nothing",
            "verify --output=json",
            "--output json",
            "-o table -o=json x",
        ] {
            assert_eq!(among(line), Output::Json, "{line}");
        }
        for line in ["verfy", "-o", "-o yaml x", "json"] {
            assert_eq!(among(line), Output::Table, "{line}");
        }
    }

    #[test]
    fn a_failure_in_json_is_one_line() {
        let error = Cli::try_parse_from(["engagectl", "verify", "--sinks", "kafka"]).unwrap_err();
        let line = Output::Json.failure(&misread(&error));
        assert!(!line.contains('\n'), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["exit"], 64);
        let what = value["error"].as_str().unwrap();
        assert!(what.starts_with("invalid value 'kafka'"), "{what}");
    }
}
