//! What an endpoint got of the live stream, and of each backfill.
//!
//! Invariant: what is said of a backfill is said of its messages alone; those that are under way or not written yet are no
//! difference.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Messages of the live stream, or of one backfill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Messages that must have been delivered: the endpoint's group has passed their records.
    pub expected: u64,
    /// Those among them that the receiver has.
    pub delivered: u64,
    /// Those that it lacks.
    pub missing: u64,
    /// Messages that it has and that no record implies.
    pub surplus: u64,
    /// Messages that it has with another body.
    pub changed: u64,
}

/// What an endpoint got of one backfill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// The run, as `engagectl backfill --list` shows it.
    pub run: i64,
    /// How far it has come.
    pub state: RunState,
    /// Rows that it will write, about, by its plan.
    pub planned: u64,
    /// Rows that it has noted as written.
    pub rows: u64,
    /// Records of it that the topic of backfills holds.
    pub records: u64,
    /// Its messages are compared. They are not once records of it have expired.
    pub compared: bool,
    /// Its messages.
    #[serde(flatten)]
    pub share: Share,
    /// Records that the endpoint's group has not passed yet: their messages may be there or not.
    pub under_way: u64,
    /// Records that are in the endpoint's dead letters: their messages may be there or not.
    pub given_up: u64,
    /// Records from before the endpoint began: likewise.
    pub before: u64,
    /// Deliveries of a message that was there already, with the same body, which are allowed. `None`: the receiver does not tell.
    pub repeats: Option<u64>,
}

/// How far a backfill has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It has ended.
    Finished,
    /// All of it is in the topic of backfills, and its process has not ended in good order.
    Written,
    /// It runs, or was interrupted.
    Open,
    /// The topic of runs does not know it.
    #[default]
    Unknown,
}

impl RunState {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Written => "written",
            Self::Open => "open",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} expected, {} delivered",
            self.expected, self.delivered
        )?;
        for (count, what) in [
            (self.missing, "missing"),
            (self.surplus, "surplus"),
            (self.changed, "changed"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backfill {} {}: ", self.run, self.state.name())?;
        if self.compared {
            write!(f, "{}", self.share)?;
        } else {
            write!(f, "not compared, its records have expired")?;
        }
        if self.state == RunState::Open {
            write!(f, ", {} of about {} rows written", self.rows, self.planned)?;
        }
        for (count, what) in [
            (self.under_way, "under way"),
            (self.given_up, "in dead letters"),
            (self.before, "from before the endpoint began"),
            (self.repeats.unwrap_or(0), "repeated"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run() -> RunReport {
        RunReport {
            run: 7,
            state: RunState::Open,
            planned: 100,
            rows: 12,
            records: 12,
            compared: true,
            share: Share {
                expected: 10,
                delivered: 9,
                missing: 1,
                ..Share::default()
            },
            under_way: 2,
            given_up: 0,
            before: 0,
            repeats: Some(3),
        }
    }

    #[test]
    fn the_line_of_a_run_says_what_is_there_what_is_not_and_how_far_it_has_come() {
        let text = "backfill 7 open: 10 expected, 9 delivered, 1 missing, 12 of about 100 rows written, 2 under way, 3 repeated";
        assert_eq!(run().to_string(), text);
        let expired = RunReport {
            state: RunState::Finished,
            compared: false,
            under_way: 0,
            repeats: None,
            ..run()
        };
        let text = "backfill 7 finished: not compared, its records have expired";
        assert_eq!(expired.to_string(), text);
    }

    #[test]
    fn the_json_of_a_run_is_flat_and_reads_back() {
        let value = serde_json::to_value(run()).unwrap();
        assert_eq!(value["state"], "open");
        assert_eq!(
            (&value["missing"], &value["repeats"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(serde_json::from_value::<RunReport>(value).unwrap(), run());
    }
}
