//! What is wrong with a configuration, for the person who has to repair it.
//! Invariant: a problem names its key or file, where the value came from, and what would be right.

use std::fmt;

use super::Origin;
use crate::{Exit, Failure, Finding};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, for example `batch.rows`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// Where the value came from, if it was set at all.
    pub origin: Option<Origin>,
    /// The value found; never that of a secret.
    pub found: Option<String>,
    /// What would be right.
    pub right: Option<String>,
}

impl Problem {
    /// Without the key: `does not fit (found `x` in engage.toml:3)`.
    fn cause(&self) -> String {
        let origin = self.origin.as_ref().map(ToString::to_string);
        match (&self.found, origin) {
            (Some(found), Some(origin)) => {
                format!("{} (found `{found}` in {origin})", self.message)
            }
            (None, Some(origin)) => format!("{} ({origin})", self.message),
            _ => self.message.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.cause())?;
        match &self.right {
            Some(right) => write!(f, "\n  right: {right}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration; displayed as a numbered list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\n{}", self.summary(), self.list())]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// As the failure of a process (exit 64) that lists them all.
    #[must_use]
    pub fn into_failure(self, program: &str) -> Failure {
        Failure::usage(self.summary())
            .cause(self.list())
            .remedy("correct each of them; all were looked at in one go")
            .next(format!("{program} check"))
    }

    /// As findings of `check`.
    #[must_use]
    pub fn to_findings(&self) -> Vec<Finding> {
        let finding = |problem: &Problem| {
            let what = if problem.key.is_empty() {
                "configuration"
            } else {
                &problem.key
            };
            let right = problem
                .right
                .clone()
                .unwrap_or_else(|| "correct the place named".into());
            Finding::problem(what, Exit::Usage, problem.cause(), right)
        };
        self.problems.iter().map(finding).collect()
    }

    fn summary(&self) -> String {
        match self.problems.len() {
            1 => "1 problem in the configuration".into(),
            many => format!("{many} problems in the configuration"),
        }
    }

    fn list(&self) -> String {
        let numbered = self
            .problems
            .iter()
            .enumerate()
            .map(|(index, problem)| format!("{}. {problem}", index + 1));
        numbered.collect::<Vec<_>>().join("\n")
    }
}
