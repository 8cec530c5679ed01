//! Runs: what was planned, how far it came, and what a new process has to do. Pure.
//!
//! A range is written page by page: the records of a page, their acknowledgement, then its note. Before its first page a range is
//! noted as begun. So whatever was written and not noted lies, in each partition of the lane topic, at or behind the place that the last
//! note names; there a new process looks for it.
//! Invariant: what a note covers is in the topic; a row is passed over only because it was found there.

mod entry;

use std::collections::{BTreeMap, HashSet};

use super::range::Range;
pub(super) use entry::{
    Cursor, Database, Entry, Finished, Note, RunId, Spec, end_key, note_key, plan_key,
};

/// A record that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {key:?} of the topic of runs: {what}")]
pub(super) struct LedgerError {
    key: String,
    what: String,
}

/// One run as its records say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    /// What it does.
    pub(super) spec: Spec,
    /// Ranges that have begun.
    pub(super) notes: BTreeMap<u32, Note>,
    /// Whether and how it ended.
    pub(super) finished: Option<Finished>,
}

/// All runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Runs(BTreeMap<RunId, Run>);

impl Runs {
    /// Takes over one record; a later one of the same key replaces an earlier one.
    ///
    /// # Errors
    /// It is no record of a run; nothing has changed.
    pub(super) fn apply(&mut self, key: &str, payload: Option<&[u8]>) -> Result<(), LedgerError> {
        self.take(key, payload).map_err(|what| LedgerError {
            key: key.chars().take(80).collect(),
            what,
        })
    }

    fn take(&mut self, key: &str, payload: Option<&[u8]>) -> Result<(), String> {
        let (run, part) = match key.split_once('/') {
            None => (key, None),
            Some((run, part)) => (run, Some(part)),
        };
        let run: RunId = run.parse().map_err(|_| "its key names no run")?;
        let Some(payload) = payload else {
            self.0.remove(&run);
            return Ok(());
        };
        let entry = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        match (entry, part) {
            (Entry::Plan(spec), None) if spec.run == run => {
                let planned = Run::new(spec);
                self.0.entry(run).or_insert(planned);
                Ok(())
            }
            (Entry::Note(note), Some(part)) => {
                let range = part.parse().map_err(|_| "its key names no range")?;
                self.planned(run)?.notes.insert(range, note);
                Ok(())
            }
            (Entry::End(finished), Some("end")) => {
                self.planned(run)?.finished = Some(finished);
                Ok(())
            }
            _ => Err("key and content do not belong together".into()),
        }
    }

    #[cfg(test)]
    pub(super) fn of(run: Run) -> Self {
        Self([(run.spec.run, run)].into())
    }

    fn planned(&mut self, run: RunId) -> Result<&mut Run, &'static str> {
        self.0.get_mut(&run).ok_or("its run has no plan")
    }

    /// A run.
    #[must_use]
    pub(super) fn get(&self, run: RunId) -> Option<&Run> {
        self.0.get(&run)
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.0.values()
    }

    /// A revision for a new run, below `lsn` and of no other run: revisions of webhooks are messages, and two runs at one place of
    /// the log send two. No change begins within the eight bytes before another one.
    #[must_use]
    pub(super) fn free_revision(&self, lsn: u64) -> u64 {
        let is_taken = |lsn: &u64| self.iter().any(|run| run.spec.revision_lsn == *lsn);
        let below = |bytes| lsn.saturating_sub(bytes);
        let free = (1..8).map(below).find(|lsn| !is_taken(lsn));
        free.unwrap_or(below(7))
    }

    /// Rows a second that the last finished run of some size has reached.
    #[must_use]
    pub(super) fn speed(&self) -> Option<f64> {
        let ended = self.iter().rev().filter_map(|run| run.finished.as_ref());
        let measured = ended.filter(|end| end.written >= 1000 && end.seconds > 0.0);
        measured.map(|end| end.written as f64 / end.seconds).next()
    }
}

/// A part that is still to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Its number.
    pub(super) range: u32,
    /// Events of that time.
    pub(super) span: Range,
    /// From behind this row on.
    pub(super) after: Option<Cursor>,
}

impl Run {
    /// A run that was just planned.
    #[must_use]
    pub(super) fn new(spec: Spec) -> Self {
        Self {
            spec,
            notes: BTreeMap::new(),
            finished: None,
        }
    }

    /// The parts that are still to be written, in order.
    #[must_use]
    pub(super) fn work(&self) -> Vec<Work> {
        let ranges = (0..).zip(&self.spec.ranges);
        ranges
            .filter_map(|(range, span)| {
                let note = self.notes.get(&range);
                (!note.is_some_and(|note| note.done)).then(|| Work {
                    range,
                    span: *span,
                    after: note.and_then(|note| note.after.clone()),
                })
            })
            .collect()
    }

    /// Whether every range is in the topic.
    #[must_use]
    pub(super) fn is_written(&self) -> bool {
        self.work().is_empty()
    }

    /// Rows that are noted.
    #[must_use]
    pub(super) fn rows(&self) -> u64 {
        self.notes.values().map(|note| note.rows).sum()
    }

    /// Those among them that are too large for a record, and were not written.
    #[must_use]
    pub(super) fn left_out(&self) -> u64 {
        self.notes.values().map(|note| note.left_out).sum()
    }

    /// A partition of the lane topic that ends before what the notes say is in it: it is another topic. `ends`: where each one ends.
    #[must_use]
    pub(super) fn is_beyond(&self, ends: &[i64]) -> Option<usize> {
        let mut notes = self.notes.values();
        notes.find_map(|note| {
            let beyond = |(noted, end): (&i64, &i64)| noted > end;
            note.ends.iter().zip(ends).position(beyond)
        })
    }

    /// From where a partition of the lane topic has to be searched for what was written and not noted; `None`: nothing was.
    #[must_use]
    pub(super) fn search_from(&self, partition: i32) -> Option<i64> {
        let at = usize::try_from(partition).ok()?;
        let open = self.notes.values().filter(|note| !note.done);
        open.map(|note| note.ends.get(at).copied().unwrap_or(0))
            .min()
    }

    /// Whether a range has a note.
    #[must_use]
    pub(super) fn has_begun(&self, range: u32) -> bool {
        self.notes.contains_key(&range)
    }

    /// The first note of a range, before anything of it is written. `settled`: per partition, everything below it is acknowledged.
    pub(super) fn begin(&mut self, range: u32, settled: &[i64]) -> Note {
        let note = Note {
            ends: settled.to_vec(),
            ..Note::default()
        };
        self.notes.insert(range, note.clone());
        note
    }

    /// So many rows of the page that is noted next are too large for a record.
    pub(super) fn leave_out(&mut self, range: u32, rows: u64) {
        self.notes.entry(range).or_default().left_out += rows;
    }

    /// The note of a page whose rows are all in the topic. `ends`: where the search for later ones begins; `None`: where it began
    /// for this range until now, because some of what was found there is still to come.
    pub(super) fn advance(&mut self, page: &Page, ends: Option<Vec<i64>>) -> Note {
        let note = self.notes.entry(page.range).or_default();
        note.rows += page.rows;
        note.done = page.is_last;
        if let Some(ends) = ends {
            note.ends = ends;
        }
        if let Some(last) = &page.last {
            note.after = Some(last.clone());
        }
        note.clone()
    }
}

/// What a note says of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The range it belongs to.
    pub(super) range: u32,
    /// Its rows.
    pub(super) rows: u64,
    /// Its last row, if it has any.
    pub(super) last: Option<Cursor>,
    /// Nothing of the range comes after it.
    pub(super) is_last: bool,
}

/// Events that a former process has written and not noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found(BTreeMap<u32, HashSet<String>>);

impl Found {
    /// A record of the run was found behind the notes.
    pub(super) fn note(&mut self, range: u32, event_id: String) {
        self.0.entry(range).or_default().insert(event_id);
    }

    /// How many.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }

    /// Whether none was found.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this row has to be written; asked once for each.
    pub(super) fn is_new(&mut self, range: u32, event_id: &str) -> bool {
        let of_range = self.0.get_mut(&range);
        !of_range.is_some_and(|found| found.remove(event_id))
    }

    /// Whether rows of a range were found that it has not come to yet.
    #[must_use]
    pub(super) fn has_more_of(&self, range: u32) -> bool {
        self.0.get(&range).is_some_and(|found| !found.is_empty())
    }
}

#[cfg(test)]
mod tests;
