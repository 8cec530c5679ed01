//! What stands in the topic of runs: plans, notes, ends, and under which keys. Pure.
//!
//! Invariant: a record that was written once is read by every later version.

use engagement::event::Micros;
use serde::{Deserialize, Serialize};
use stream::backfill::Addressee;

use crate::backfill::range::Range;

/// A run: milliseconds since 1970 at its beginning.
pub(in crate::backfill) type RunId = i64;

/// The database that a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::backfill) struct Database {
    /// `system_identifier`, a 64-bit unsigned number as text.
    pub(in crate::backfill) system: String,
    /// Its timeline.
    pub(in crate::backfill) timeline: i64,
    /// Its name.
    pub(in crate::backfill) name: String,
}

/// What a run does; never changed once it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::backfill) struct Spec {
    /// The run.
    pub(in crate::backfill) run: RunId,
    /// What it reads.
    pub(in crate::backfill) database: Database,
    /// Where it writes.
    pub(in crate::backfill) topic: String,
    /// How many partitions that has.
    pub(in crate::backfill) partitions: i32,
    /// Events of that time.
    pub(in crate::backfill) range: Range,
    /// Only events of this content.
    pub(in crate::backfill) content_id: Option<String>,
    /// Who it is for.
    pub(in crate::backfill) sinks: Vec<Addressee>,
    /// Every change that its snapshots do not show stands above this LSN; the revision of its records.
    pub(in crate::backfill) revision_lsn: u64,
    /// Its snapshots show every transaction below this id that was not rolled back.
    pub(in crate::backfill) horizon: i64,
    /// Its parts, in order.
    pub(in crate::backfill) ranges: Vec<Range>,
    /// Rows, about.
    pub(in crate::backfill) rows: u64,
}

/// The last row of a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::backfill) struct Cursor {
    /// Its `event_ts`.
    pub(in crate::backfill) at: Micros,
    /// Its key.
    pub(in crate::backfill) id: String,
}

/// How far a range has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::backfill) struct Note {
    /// Every row up to this one is in the topic; `None`: none is.
    pub(in crate::backfill) after: Option<Cursor>,
    /// How many rows these are.
    pub(in crate::backfill) rows: u64,
    /// All of the range is in the topic.
    pub(in crate::backfill) done: bool,
    /// Per partition of the lane topic: whatever of this range comes after this note comes at or behind this offset.
    pub(in crate::backfill) ends: Vec<i64>,
    /// Those among the rows that are too large for a record.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(in crate::backfill) left_out: u64,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::backfill) struct Finished {
    /// Rows written.
    pub(in crate::backfill) rows: u64,
    /// Seconds from the beginning of the last process to the end of the topic being read.
    pub(in crate::backfill) seconds: f64,
    /// Rows that the last process wrote in that time.
    pub(in crate::backfill) written: u64,
}

/// One record of the topic of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(in crate::backfill) enum Entry {
    /// Key `<run>`.
    Plan(Spec),
    /// Key `<run>/<range>`.
    Note(Note),
    /// Key `<run>/end`.
    End(Finished),
}

/// The key of a plan.
#[must_use]
pub(in crate::backfill) fn plan_key(run: RunId) -> String {
    run.to_string()
}

/// The key of a range's note.
#[must_use]
pub(in crate::backfill) fn note_key(run: RunId, range: u32) -> String {
    format!("{run}/{range}")
}

/// The key of a run's end.
#[must_use]
pub(in crate::backfill) fn end_key(run: RunId) -> String {
    format!("{run}/end")
}
