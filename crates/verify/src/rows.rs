//! Names what differs between two sides of the same cells. Pure.
//!
//! Invariant: both sides come in the order of cells, then ids; a row is named once, on the side where it is too many.

use std::cmp::Ordering;

use crate::cell::Cell;
use crate::report::Kind;

/// A row with what is compared of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedRow {
    pub(crate) cell: Cell,
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) duration_ms: Option<i64>,
}

impl NamedRow {
    fn place(&self) -> (&Cell, &str) {
        (&self.cell, &self.id)
    }

    fn values(&self) -> String {
        let ms = self
            .duration_ms
            .map_or_else(|| "no duration".into(), |ms| format!("{ms} ms"));
        format!(
            "{} of {ms}",
            if self.event_type.is_empty() {
                "no type"
            } else {
                &self.event_type
            }
        )
    }
}

/// What the next rows of source and sink say.
pub(crate) enum Step {
    /// They are the same row with the same values; or what is different. Both go on.
    Both(Option<(Kind, String)>),
    /// The source's row is missing in the sink; the source goes on.
    Source(String),
    /// The sink's row is not in the source; the sink goes on.
    Sink(String),
    /// Both are at their end.
    End,
}

/// Compares the next row of each side.
pub(crate) fn step(source: Option<&NamedRow>, sink: Option<&NamedRow>) -> Step {
    let order = match (source, sink) {
        (None, None) => return Step::End,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(source), Some(sink)) => source.place().cmp(&sink.place()),
    };
    match (order, source, sink) {
        (Ordering::Less, Some(row), _) => Step::Source(format!("{}, {}", row.cell, row.values())),
        (Ordering::Greater, _, Some(row)) => Step::Sink(format!("{}, {}", row.cell, row.values())),
        (_, Some(source), Some(sink)) if source.values() != sink.values() => {
            let what = format!(
                "{}: Postgres has {}, the sink {}",
                source.cell,
                source.values(),
                sink.values()
            );
            Step::Both(Some((Kind::Changed, what)))
        }
        _ => Step::Both(None),
    }
}
