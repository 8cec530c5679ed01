//! Reads `<point>=<action>[@n][,..]`.
//!
//! Invariant: what is not understood is an error; nothing is armed by half.

use std::time::Duration;

use crate::{Point, Rule};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to the own process.
    Kill,
    /// SIGSTOP to the own process.
    Stop,
    /// The task that arrives waits.
    Pause(Duration),
    /// The step answers its usual error.
    Fail,
}

/// One armed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// Where.
    pub point: Point,
    /// What.
    pub action: Action,
    /// At which arrival, from 1.
    pub arrival: u64,
}

/// A text that arms nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `=`.
    #[error(
        "ENGAGE_FAULTS: {0:?} is not <point>=<action>[@n], for example enricher.lookup.before=kill@3"
    )]
    Form(String),
    /// A name that no point has.
    #[error("ENGAGE_FAULTS: there is no point {0:?}; the nearest is {1:?}")]
    Point(String, &'static str),
    /// A name that no action has.
    #[error(
        "ENGAGE_FAULTS: there is no action {0:?}; there are kill, stop, pause:<duration> and fail"
    )]
    Action(String),
    /// No positive number.
    #[error("ENGAGE_FAULTS: @{0:?} is no arrival; give a number from 1 on")]
    Arrival(String),
    /// A name that no rule has.
    #[error(
        "ENGAGE_BROKEN_RULE: there is no rule {0:?}; there are {all}",
        all = Rule::ALL.map(Rule::name).join(", ")
    )]
    Rule(String),
    /// A step that has no error to answer.
    #[error("ENGAGE_FAULTS: {0} cannot fail, only kill, stop or pause")]
    CannotFail(Point),
}

/// All armed points of a text; an empty one arms nothing.
///
/// # Errors
/// The first part that is not understood.
pub fn parse(text: &str) -> Result<Vec<Armed>, Error> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(one)
        .collect()
}

fn one(part: &str) -> Result<Armed, Error> {
    let (point, rest) = part
        .split_once('=')
        .ok_or_else(|| Error::Form(part.to_owned()))?;
    let (action, arrival) = match rest.split_once('@') {
        Some((action, arrival)) => (action, number(arrival)?),
        None => (rest, 1),
    };
    let armed = Armed {
        point: point.parse()?,
        action: read_action(action)?,
        arrival,
    };
    if armed.action == Action::Fail && !armed.point.can_fail() {
        return Err(Error::CannotFail(armed.point));
    }
    Ok(armed)
}

fn number(text: &str) -> Result<u64, Error> {
    match text.parse() {
        Ok(arrival) if arrival > 0 => Ok(arrival),
        _ => Err(Error::Arrival(text.to_owned())),
    }
}

fn read_action(text: &str) -> Result<Action, Error> {
    let unknown = || Error::Action(text.to_owned());
    match text {
        "kill" => Ok(Action::Kill),
        "stop" => Ok(Action::Stop),
        "fail" => Ok(Action::Fail),
        _ => text
            .strip_prefix("pause:")
            .and_then(|duration| humantime::parse_duration(duration).ok())
            .map(Action::Pause)
            .ok_or_else(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_actions_and_arrivals_are_read() {
        let armed =
            parse("enricher.lookup.before=kill, stream.commit.after=pause:250ms@7").unwrap();
        assert_eq!(
            armed,
            [
                Armed {
                    point: Point::EnricherLookupBefore,
                    action: Action::Kill,
                    arrival: 1
                },
                Armed {
                    point: Point::StreamCommitAfter,
                    action: Action::Pause(Duration::from_millis(250)),
                    arrival: 7
                },
            ]
        );
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert!(matches!(
            parse("enricher.lookup.before"),
            Err(Error::Form(_))
        ));
        assert!(matches!(
            parse("enricher.lookup.befor=kill"),
            Err(Error::Point(_, "enricher.lookup.before"))
        ));
        for action in ["die", "pause", "pause:soon", ""] {
            let text = format!("enricher.lookup.before={action}");
            assert!(matches!(parse(&text), Err(Error::Action(_))), "{text}");
        }
        assert!(matches!(
            parse("enricher.lookup.before=kill@0"),
            Err(Error::Arrival(_))
        ));
    }

    #[test]
    fn only_a_step_with_an_error_of_its_own_can_fail() {
        for point in Point::ALL {
            let parsed = parse(&format!("{point}=fail"));
            assert_eq!(parsed.is_ok(), point.can_fail(), "{point}");
        }
    }
}
