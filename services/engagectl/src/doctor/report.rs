//! What the doctor says: one diagnosis for each thing looked at. Pure.
//!
//! Invariant: whatever is not well says where it was found and what to do next, and the exit code is that of the gravest error.

use std::fmt::Write as _;

use serde_json::{Value, json};
use service::finding::State;
use service::{Exit, Finding, finding};

/// How grave a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Somebody must act: events are or will be late, wrong or lost.
    Error,
    /// It works, and something will go wrong one day.
    Warning,
    /// As it should be.
    Ok,
}

impl Severity {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Ok => "ok",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) severity: Severity,
    /// Where it was found.
    pub(super) place: String,
    /// What was found.
    pub(super) found: String,
    /// What would be right.
    pub(super) right: String,
    /// What to run or to change.
    pub(super) next: String,
    exit: Exit,
}

impl Diagnosis {
    fn new(severity: Severity, place: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            severity,
            place: place.into(),
            found: found.into(),
            right: String::new(),
            next: String::new(),
            exit: Exit::Repair,
        }
    }

    pub(super) fn ok(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Ok, place, found)
    }

    pub(super) fn warning(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, found)
    }

    pub(super) fn error(place: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, found)
    }

    /// What would be right.
    pub(super) fn right(mut self, right: impl Into<String>) -> Self {
        self.right = right.into();
        self
    }

    /// What to do next.
    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Another exit code than 78.
    pub(super) fn exits(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// What `check` has found.
impl From<Finding> for Diagnosis {
    fn from(finding: Finding) -> Self {
        match finding.state {
            State::Ok(seen) => Self::ok(finding.what, seen),
            State::Problem {
                cause,
                remedy,
                exit,
            } => Self::error(finding.what, cause).next(remedy).exits(exit),
        }
    }
}

/// The exit code of all: `None` (0) without an error.
pub(super) fn exit(all: &[Diagnosis]) -> Option<Exit> {
    let errors = all.iter().filter(|one| one.severity == Severity::Error);
    let findings: Vec<_> = errors
        .map(|one| Finding::problem(&*one.place, one.exit, &*one.found, &*one.next))
        .collect();
    finding::exit(&findings)
}

/// For a person, the gravest first.
pub(super) fn text(all: &[Diagnosis]) -> String {
    let width = all.iter().map(|one| one.place.chars().count()).max();
    let width = width.unwrap_or(0).min(40);
    let indent = " ".repeat(width + 11);
    let mut text = String::new();
    for one in sorted(all) {
        let found = one.found.replace('\n', &format!("\n{indent}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<7}  {:<width$}  {found}",
            one.severity.name(),
            one.place
        );
        for (label, value) in [("right:", &one.right), ("next: ", &one.next)] {
            if one.severity != Severity::Ok && !value.is_empty() {
                let value = value.replace('\n', &format!("\n{indent}       "));
                let _ = writeln!(text, "{indent}{label} {value}");
            }
        }
    }
    let count = |severity| all.iter().filter(|one| one.severity == severity).count();
    let _ = writeln!(
        text,
        "{} looked at, {} errors, {} warnings",
        all.len(),
        count(Severity::Error),
        count(Severity::Warning)
    );
    text
}

/// For a program.
pub(super) fn json(all: &[Diagnosis]) -> Value {
    let findings: Vec<Value> = sorted(all)
        .into_iter()
        .map(|one| {
            json!({
                "severity": one.severity.name(), "where": one.place, "found": one.found, "right": one.right, "next": one.next,
            })
        })
        .collect();
    let code = exit(all).map_or(0, Exit::code);
    json!({"ok": code == 0, "exit": code, "findings": findings})
}

fn sorted(all: &[Diagnosis]) -> Vec<&Diagnosis> {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|one| one.severity);
    sorted
}

/// Bytes in the unit that reads best.
#[expect(
    clippy::cast_precision_loss,
    reason = "for display; one digit behind the point"
)]
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" {
        return format!("{bytes} B");
    }
    format!("{value:.1} {unit}")
}

/// A time in the unit that reads best.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 72 * 3600 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Diagnosis> {
        vec![
            Diagnosis::ok("redis", "answers"),
            Diagnosis::warning("slot", "holds much")
                .right("less")
                .next("look"),
            Diagnosis::error("kafka", "away")
                .next("start it")
                .exits(Exit::Unavailable),
            Finding::problem("topic x", Exit::Repair, "missing", "engagectl init").into(),
        ]
    }

    #[test]
    fn the_gravest_comes_first_with_what_would_be_right_and_what_to_do() {
        let text = text(&all());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("error    kafka    away"), "{text}");
        assert!(lines[1].trim().starts_with("next:  start it"), "{text}");
        assert!(text.contains("right: less"), "{text}");
        assert!(text.ends_with("4 looked at, 2 errors, 1 warnings\n"));
    }

    #[test]
    fn warnings_do_not_fail_and_errors_do_by_the_gravest() {
        assert_eq!(exit(&all()[..2]), None);
        assert_eq!(exit(&all()[..3]), Some(Exit::Unavailable));
        assert_eq!(exit(&all()), Some(Exit::Repair));
    }

    #[test]
    fn the_json_form_has_all_five_parts() {
        let value = json(&all());
        assert_eq!(value["exit"], 78);
        let first = &value["findings"][0];
        for key in ["severity", "where", "found", "right", "next"] {
            assert!(first[key].is_string(), "{key}");
        }
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(size(1536 << 20), "1.5 GiB");
        assert_eq!((span(90), span(600)), ("90 s".into(), "10 min".into()));
        assert_eq!(
            (span(5 * 3600), span(4 * 86_400)),
            ("5 h".into(), "4 d".into())
        );
    }
}
