//! How a process ends: a [`Failure`] says what happened, why, what repairs it and which command comes next.
//! Invariant: the exit code is a property of the failure, decided where it is made, never by reading its text.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::process::ExitCode;

/// The exit codes of every Engage process (values of `sysexits.h`; 0 is a clean stop, and 1 an answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// What was asked has the answer no: not ready, a maximum exceeded. Nothing failed.
    No = 1,
    /// Bad usage or configuration: starting again changes nothing until somebody edits something.
    Usage = 64,
    /// A dependency never came up, or cannot be reached.
    Unavailable = 69,
    /// A defect of ours (a panic, a broken invariant).
    Internal = 70,
    /// Stopped with work undone; starting again is right and enough.
    TryAgain = 75,
    /// A human must repair something first (guarantee G8); the remedy names the command.
    Repair = 78,
}

impl Exit {
    /// The number the operating system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a process ends other than cleanly. Built by its kind, then told the rest:
///
/// ```
/// use service::Failure;
/// let failure = Failure::repair("partition 3 of cdc.public.engagement_events was recreated")
///     .cause("the record at offset 41 is another event")
///     .remedy("adopt the new topic as a new epoch")
///     .next("engagectl lineage adopt --partition 3");
/// assert_eq!(failure.exit().code(), 78);
/// ```
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    remedy: Option<String>,
    next: Option<String>,
}

impl Failure {
    /// A failure that ends the process with `exit`; `what` is one lower-case sentence without a full stop.
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            cause: None,
            remedy: None,
            next: None,
        }
    }

    /// Bad usage or configuration (exit 64).
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// A dependency never came up (exit 69).
    #[must_use]
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, what)
    }

    /// A defect of ours (exit 70).
    #[must_use]
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Exit::Internal, what)
    }

    /// Work is undone, a new start is enough (exit 75).
    #[must_use]
    pub fn try_again(what: impl Into<String>) -> Self {
        Self::new(Exit::TryAgain, what)
    }

    /// A human must repair something first (exit 78).
    #[must_use]
    pub fn repair(what: impl Into<String>) -> Self {
        Self::new(Exit::Repair, what)
    }

    /// Adds the error behind it; its whole `source` chain is printed. Text is accepted too.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what would make it right.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the next command to run.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }

    /// The next command with one more option, if it is one of this program's.
    #[must_use]
    pub fn next_with(mut self, program: &str, option: &str) -> Self {
        if let Some(next) = &mut self.next
            && next.starts_with(program)
        {
            *next += &format!(" {option}");
        }
        self
    }

    /// The exit code this failure ends the process with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened, in one sentence.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What would make it right, if it is known.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The next command to run, if there is one.
    #[must_use]
    pub fn next_command(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The causes, outermost first, one sentence each.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut at: Option<&dyn Error> = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(error) = at {
            causes.push(error.to_string());
            at = error.source();
        }
        causes
    }

    /// The same for a program: `error`, `causes`, `remedy`, `next`, `exit`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.what,
            "causes": self.causes(),
            "remedy": self.remedy,
            "next": self.next,
            "exit": self.exit.code(),
        })
    }

    /// The block printed once, as the last thing on standard error.
    #[must_use]
    pub fn render(&self, service: &str) -> String {
        let mut text = format!("\n{service} stopped: {}\n", self.what);
        for cause in self.causes() {
            field(&mut text, "cause", &cause);
        }
        if let Some(remedy) = &self.remedy {
            field(&mut text, "remedy", remedy);
        }
        if let Some(next) = &self.next {
            field(&mut text, "next", next);
        }
        field(&mut text, "exit", &self.exit.code().to_string());
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Appends `  name:   value`, further lines of the value indented below its first.
fn field(text: &mut String, name: &str, value: &str) {
    let label = format!("{name}:");
    for (index, line) in value.lines().enumerate() {
        let label = if index == 0 { label.as_str() } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<8}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_block_names_what_every_cause_remedy_next_command_and_exit() {
        let failure = Failure::unavailable("kafka did not answer within 60 s")
            .cause(Outer(std::io::Error::other("connection refused")))
            .remedy("start the broker\nor set KAFKA_BOOTSTRAP_SERVERS")
            .next("enricher check");
        assert_eq!(
            failure.render("enricher"),
            "\nenricher stopped: kafka did not answer within 60 s\n  cause:  outer\n  cause:  connection refused\n  \
             remedy: start the broker\n          or set KAFKA_BOOTSTRAP_SERVERS\n  next:   enricher check\n  exit:   69\n"
        );
    }

    #[test]
    fn each_kind_has_the_exit_code_of_the_contract() {
        let codes = [
            Failure::usage(""),
            Failure::unavailable(""),
            Failure::internal(""),
            Failure::try_again(""),
            Failure::repair(""),
        ]
        .map(|failure| failure.exit().code());
        assert_eq!(codes, [64, 69, 70, 75, 78]);
    }
}
