//! A server's clock against this machine's.
//!
//! Invariant: only what the way there and back cannot explain counts as skew.

use platform::Answered;

use crate::doctor::report::Diagnosis;

const SECOND: i64 = 1_000_000;
/// Windows of ten minutes are cut into ten seconds; freshness is told in fractions of a second.
const WARNS: i64 = 2 * SECOND;
/// A change that was committed a minute after the mark contradicts it.
const FAILS: i64 = 60 * SECOND;

/// `resolution` is what the server's clock is rounded down to, in microseconds.
pub(in crate::doctor) fn judge(what: &str, at: &Answered, resolution: i64) -> Diagnosis {
    let place = format!("clock of {what}");
    let skew = skew(at, resolution);
    let way = if skew > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "{}.{:03} s {way} this machine",
        skew.abs() / SECOND,
        skew.abs() % SECOND / 1000
    );
    let right = "both follow the same time (chrony or another NTP client): windows, freshness and signatures go by it";
    let next = "timedatectl status, here and there";
    match skew.abs() {
        0 => Diagnosis::ok(place, "agrees with this machine's"),
        skew if skew < WARNS => Diagnosis::ok(place, text),
        skew if skew < FAILS => Diagnosis::warning(place, text).right(right).next(next),
        _ => Diagnosis::error(place, text).right(right).next(next),
    }
}

/// How far it is ahead at least; negative: behind.
fn skew(at: &Answered, resolution: i64) -> i64 {
    // it was read between the two, and up to a step later than it says
    let (earliest, latest) = (at.server, at.server.saturating_add(resolution));
    if earliest > at.after {
        earliest - at.after
    } else if latest < at.before {
        latest - at.before
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    fn judged(server: i64, resolution: i64) -> Diagnosis {
        let at = Answered {
            before: 100 * SECOND,
            server,
            after: 101 * SECOND,
        };
        judge("postgres", &at, resolution)
    }

    #[test]
    fn what_lies_between_question_and_answer_agrees() {
        let found = judged(100 * SECOND + 7, 1);
        assert!(found.found.contains("agrees"), "{found:?}");
        // rounded down to the second
        assert!(judged(99 * SECOND + 1, SECOND).found.contains("agrees"));
    }

    #[test]
    fn two_seconds_warn_and_a_minute_fails_in_both_directions() {
        let severity = |server| judged(server, 1).severity;
        assert_eq!(severity(102 * SECOND), Severity::Ok);
        assert_eq!(severity(104 * SECOND), Severity::Warning);
        assert_eq!(severity(97 * SECOND), Severity::Warning);
        assert_eq!(severity(162 * SECOND), Severity::Error);
        assert_eq!(severity(20 * SECOND), Severity::Error);
        assert!(judged(104 * SECOND, 1).found.contains("3.000 s ahead of"));
    }
}
