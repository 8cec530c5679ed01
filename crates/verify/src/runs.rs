//! What the topic of backfill runs says of each run. Pure.
//!
//! The shape of its records stands here a second time on purpose, as that of a message does in `implied.rs`; what is not needed
//! of them is passed over.
//!
//! Invariant: a record that is none of a run changes nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::share::RunState;

/// How webhooks are named in a plan.
const WEBHOOK: &str = "webhook";

/// One record of the topic.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Entry {
    Plan(Plan),
    Note(Noted),
    End {},
}

#[derive(Debug, Deserialize)]
struct Plan {
    sinks: Vec<String>,
    ranges: Vec<IgnoredAny>,
    rows: u64,
}

/// How far a range has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Noted {
    rows: u64,
    done: bool,
    #[serde(default)]
    left_out: u64,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// It is for webhooks too.
    pub(crate) for_webhooks: bool,
    /// Rows of the plan, about.
    pub(crate) planned: u64,
    ranges: usize,
    noted: BTreeMap<u32, Noted>,
    ended: bool,
}

/// All runs, by when they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<i64, Run>);

impl Plan {
    fn run(&self) -> Run {
        Run {
            for_webhooks: self.sinks.iter().any(|sink| sink == WEBHOOK),
            planned: self.rows,
            ranges: self.ranges.len(),
            ..Run::default()
        }
    }
}

impl Run {
    /// How far it has come.
    pub(crate) fn state(&self) -> RunState {
        let done = self.noted.values().filter(|range| range.done).count();
        match (self.ended, done >= self.ranges) {
            (true, _) => RunState::Finished,
            (false, true) => RunState::Written,
            (false, false) => RunState::Open,
        }
    }

    /// Rows that are noted.
    pub(crate) fn rows(&self) -> u64 {
        self.noted.values().map(|range| range.rows).sum()
    }

    /// Records that stand in the topic of backfills at least: all rows but those that are too large for a record.
    pub(crate) fn records(&self) -> u64 {
        let left_out: u64 = self.noted.values().map(|range| range.left_out).sum();
        self.rows().saturating_sub(left_out)
    }
}

impl Runs {
    /// Takes over one record; a later one of the same key replaces an earlier one.
    pub(crate) fn apply(&mut self, key: &str, payload: Option<&[u8]>) {
        let (run, part) = match key.split_once('/') {
            None => (key, None),
            Some((run, part)) => (run, Some(part)),
        };
        let Ok(run) = run.parse::<i64>() else { return };
        let Some(payload) = payload else {
            self.0.remove(&run);
            return;
        };
        match (serde_json::from_slice(payload), part) {
            (Ok(Entry::Plan(plan)), None) => {
                self.0.entry(run).or_insert_with(|| plan.run());
            }
            (Ok(Entry::Note(noted)), Some(part)) => {
                if let (Some(known), Ok(range)) = (self.0.get_mut(&run), part.parse()) {
                    known.noted.insert(range, noted);
                }
            }
            (Ok(Entry::End {}), Some("end")) => {
                if let Some(known) = self.0.get_mut(&run) {
                    known.ended = true;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn get(&self, run: i64) -> Option<&Run> {
        self.0.get(&run)
    }

    /// Those that are for webhooks too.
    pub(crate) fn for_webhooks(&self) -> impl Iterator<Item = i64> {
        let wanted = self.0.iter().filter(|(_, run)| run.for_webhooks);
        wanted.map(|(run, _)| *run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(records: &[(&str, &str)]) -> Runs {
        let mut runs = Runs::default();
        for (key, payload) in records {
            runs.apply(key, Some(payload.as_bytes()));
        }
        runs
    }

    const PLAN: &str = r#"{"kind":"plan","run":7,"database":{"system":"1","timeline":1,"name":"engage"},
        "topic":"engagement.backfill.v1","partitions":16,"range":{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:02Z"},
        "content_id":null,"sinks":["clickhouse","webhook"],"revision_lsn":99,"horizon":5,
        "ranges":[{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:01Z"},{"start":"1970-01-01T00:00:01Z","end":"1970-01-01T00:00:02Z"}],
        "rows":10}"#;
    const BEGUN: &str = r#"{"kind":"note","after":null,"rows":0,"done":false,"ends":[3,4]}"#;
    const DONE: &str = r#"{"kind":"note","after":{"at":"1970-01-01T00:00:00Z","id":"1"},"rows":5,"done":true,"ends":[5,6]}"#;
    const CUT: &str = r#"{"kind":"note","after":null,"rows":4,"done":true,"ends":[],"left_out":1}"#;
    const END: &str = r#"{"kind":"end","rows":9,"seconds":2.5,"written":9}"#;

    #[test]
    fn a_run_is_open_written_and_finished_as_its_records_say() {
        let state = |records: &[(&str, &str)]| runs(records).get(7).map(Run::state);
        assert_eq!(state(&[("7", PLAN)]), Some(RunState::Open));
        let mut records = vec![("7", PLAN), ("7/0", BEGUN), ("7/1", CUT)];
        assert_eq!(state(&records), Some(RunState::Open));
        records.push(("7/0", DONE));
        assert_eq!(state(&records), Some(RunState::Written));
        records.push(("7/end", END));
        assert_eq!(state(&records), Some(RunState::Finished));
        let known = runs(&records);
        let run = known.get(7).unwrap();
        assert_eq!((run.planned, run.rows(), run.records()), (10, 9, 8));
        assert_eq!(known.for_webhooks().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_run_for_other_sinks_is_known_as_such_and_one_that_was_taken_back_is_not_known() {
        let plan = PLAN.replace(r#","webhook""#, "");
        let mut known = runs(&[("7", &plan)]);
        assert_eq!(known.for_webhooks().count(), 0);
        assert!(known.get(7).is_some());
        known.apply("7", None);
        assert_eq!(known, Runs::default());
    }

    #[test]
    fn what_is_no_record_of_a_run_changes_nothing() {
        let strange = [
            ("x", PLAN),
            ("7", "{}"),
            ("7/0", PLAN),
            ("8/0", DONE),
            ("8/end", END),
            ("7/end", BEGUN),
        ];
        assert_eq!(runs(&strange), Runs::default());
        let mut records = vec![("7", PLAN), ("7/0", DONE)];
        let before = runs(&records);
        records.extend([
            ("7/0", "\u{fffd}"),
            ("7/x", DONE),
            ("7", BEGUN),
            ("7/1", END),
        ]);
        assert_eq!(runs(&records), before);
    }
}
