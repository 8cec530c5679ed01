//! What `check` finds: one [`Finding`] per thing looked at, good or bad, printed as lines or as JSON.
//! Invariant: every problem carries a cause and a remedy; the exit code is that of the gravest problem.

use std::fmt::Write as _;

use serde_json::json;

use crate::Exit;

/// One thing that `check` looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, for example `kafka` or `topic engagement.enriched.v1`.
    pub what: String,
    /// What was seen.
    pub state: State,
}

/// Whether a [`Finding`] is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be; the text says what was seen.
    Ok(String),
    /// Not as it should be.
    Problem {
        /// What is wrong, and where it comes from.
        cause: String,
        /// What would be right, ending in the next command where there is one.
        remedy: String,
        /// What the process would exit with because of it.
        exit: Exit,
    },
}

impl Finding {
    /// A good finding: `Finding::ok("kafka", "3 brokers at 127.0.0.1:9092")`.
    #[must_use]
    pub fn ok(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state: State::Ok(seen.into()),
        }
    }

    /// A problem: what, how the process would exit, why, what repairs it.
    #[must_use]
    pub fn problem(
        what: impl Into<String>,
        exit: Exit,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            state: State::Problem {
                cause: cause.into(),
                remedy: remedy.into(),
                exit,
            },
        }
    }

    /// Whether this finding is good.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.state, State::Ok(_))
    }
}

/// The exit code of a whole check: `None` (0) when all is well, else that of the gravest problem. Configuration goes
/// before anything else, since the other findings may only follow from it.
#[must_use]
pub fn exit(findings: &[Finding]) -> Option<Exit> {
    let rank = |exit: &Exit| match exit {
        Exit::Usage => 4,
        Exit::Repair => 3,
        Exit::Internal => 2,
        Exit::Unavailable => 1,
        Exit::TryAgain | Exit::No => 0,
    };
    let exits = findings.iter().filter_map(|finding| match &finding.state {
        State::Ok(_) => None,
        State::Problem { exit, .. } => Some(*exit),
    });
    exits.max_by_key(rank)
}

/// The findings as lines for a person.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        // Writing to a String cannot fail.
        let _ = match &finding.state {
            State::Ok(seen) => writeln!(text, "ok       {:<width$}  {seen}", finding.what),
            State::Problem { cause, remedy, .. } => {
                let indent = " ".repeat(width + 11);
                let cause = cause.replace('\n', &format!("\n{indent}"));
                let remedy = remedy.replace('\n', &format!("\n{indent}"));
                writeln!(
                    text,
                    "PROBLEM  {:<width$}  {cause}\n{indent}remedy: {remedy}",
                    finding.what
                )
            }
        };
    }
    let problems = findings.iter().filter(|finding| !finding.is_ok()).count();
    let _ = writeln!(text, "{} looked at, {problems} to repair", findings.len());
    text
}

/// The findings as one JSON document: `{"ok": bool, "exit": 0, "findings": [..]}`.
#[must_use]
pub fn render_json(findings: &[Finding]) -> serde_json::Value {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| match &finding.state {
            State::Ok(seen) => json!({"what": finding.what, "ok": true, "seen": seen}),
            State::Problem { cause, remedy, exit } => {
                json!({"what": finding.what, "ok": false, "cause": cause, "remedy": remedy, "exit": exit.code()})
            }
        })
        .collect();
    let code = exit(findings).map_or(0, Exit::code);
    json!({"ok": code == 0, "exit": code, "findings": list})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Finding> {
        vec![
            Finding::ok("configuration", "3 values set"),
            Finding::problem(
                "kafka",
                Exit::Unavailable,
                "nobody answers at 127.0.0.1:9092",
                "start it",
            ),
            Finding::problem("topic x", Exit::Repair, "15 partitions", "engagectl init"),
        ]
    }

    #[test]
    fn the_gravest_problem_decides_the_exit_code() {
        assert_eq!(exit(&sample()), Some(Exit::Repair));
        assert_eq!(exit(&sample()[..2]), Some(Exit::Unavailable));
        assert_eq!(exit(&sample()[..1]), None);
    }

    #[test]
    fn every_problem_is_printed_with_its_remedy() {
        let text = render(&sample());
        assert!(
            text.contains("ok       configuration  3 values set\n"),
            "{text}"
        );
        assert!(
            text.contains("PROBLEM  kafka          nobody answers at 127.0.0.1:9092\n"),
            "{text}"
        );
        assert!(text.contains("remedy: engagectl init\n"), "{text}");
        assert!(text.ends_with("3 looked at, 2 to repair\n"), "{text}");
    }

    #[test]
    fn json_carries_the_same_findings() {
        let json = render_json(&sample());
        assert_eq!(json["exit"], 78);
        assert_eq!(json["findings"][1]["remedy"], "start it");
    }
}
