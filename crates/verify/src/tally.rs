//! Compares two sides cell by cell. Pure.
//!
//! Invariant: every cell is counted once; at most `keep` differing cells are kept to name what differs in them.

use crate::cell::{Cell, Digest};
use crate::lacking::Lacking;
use crate::report::SinkReport;

/// The differing cells kept for naming.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) report: SinkReport,
    pub(crate) differing: Vec<Cell>,
    keep: usize,
}

impl Tally {
    pub(crate) fn new(report: SinkReport, keep: usize) -> Self {
        Self {
            report,
            differing: Vec::new(),
            keep,
        }
    }

    /// Notes one cell as both sides have it.
    pub(crate) fn note(&mut self, cell: Cell, source: Digest, sink: Digest) {
        self.report.compared += source.events.unsigned_abs();
        if source == sink {
            self.report.equal += 1;
            return;
        }
        match sink.events.cmp(&source.events) {
            std::cmp::Ordering::Less => {
                self.report.missing += 1;
                self.report.lacking = Some(Lacking::with(self.report.lacking, cell.minute));
            }
            std::cmp::Ordering::Greater => self.report.surplus += 1,
            std::cmp::Ordering::Equal => self.report.changed += 1,
        }
        if self.differing.len() < self.keep {
            self.differing.push(cell);
        }
    }
}

/// What to take next from two sides in the order of cells.
pub(crate) fn merge(
    source: &mut Option<(Cell, Digest)>,
    sink: &mut Option<(Cell, Digest)>,
) -> Option<(Cell, Digest, Digest)> {
    let order = match (&*source, &*sink) {
        (None, None) => return None,
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some((source, _)), Some((sink, _))) => source.cmp(sink),
    };
    let (left, right) = match order {
        std::cmp::Ordering::Less => (source.take(), None),
        std::cmp::Ordering::Greater => (None, sink.take()),
        std::cmp::Ordering::Equal => (source.take(), sink.take()),
    };
    let digest = |side: &Option<(Cell, Digest)>| {
        side.as_ref()
            .map_or_else(Digest::default, |(_, digest)| *digest)
    };
    let (of_source, of_sink) = (digest(&left), digest(&right));
    let (cell, _) = left.or(right)?;
    Some((cell, of_source, of_sink))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::MINUTE;
    use crate::report::Kind;
    use crate::rows::{NamedRow, Step, step};
    use crate::sources::Sink;

    fn cell(minute: i64) -> Cell {
        Cell {
            minute,
            content: None,
        }
    }

    fn compare(source: &[(i64, &str)], sink: &[(i64, &str)]) -> SinkReport {
        let side = |rows: &[(i64, &str)]| -> Vec<(Cell, Digest)> {
            rows.iter()
                .map(|(minute, id)| (cell(*minute), Digest::of(id, "play", Some(1))))
                .collect()
        };
        let (mut left, mut right) = (side(source).into_iter(), side(sink).into_iter());
        let (mut a, mut b) = (left.next(), right.next());
        let mut tally = Tally::new(SinkReport::new(Sink::Clickhouse), 10);
        while let Some((cell, source, sink)) = merge(&mut a, &mut b) {
            tally.note(cell, source, sink);
            a = a.or_else(|| left.next());
            b = b.or_else(|| right.next());
        }
        tally.report
    }

    #[test]
    fn each_cell_is_counted_once_for_what_it_is() {
        let report = compare(
            &[(1, "a"), (2, "b"), (4, "d")],
            &[(1, "a"), (3, "c"), (4, "x")],
        );
        assert_eq!((report.equal, report.missing), (1, 1));
        assert_eq!((report.surplus, report.changed), (1, 1));
        let lacking = report.lacking.map(|lacking| (lacking.from.0, lacking.to.0));
        assert_eq!(lacking, Some((2 * MINUTE, 3 * MINUTE)));
        assert!(!report.is_equal());
    }

    #[test]
    fn equal_sides_are_equal() {
        let rows = [(1, "a"), (2, "b")];
        assert!(compare(&rows, &rows).is_equal());
        assert_eq!(compare(&rows, &rows).lacking, None);
    }

    #[test]
    fn a_row_is_named_where_it_is_too_many_or_differs() {
        let row = |id: &str, ms| NamedRow {
            cell: cell(1),
            id: id.into(),
            event_type: "play".into(),
            duration_ms: Some(ms),
        };
        let (a, b, other) = (row("a", 1), row("b", 1), row("a", 2));
        assert!(matches!(step(Some(&a), Some(&b)), Step::Source(_)));
        assert!(matches!(step(Some(&b), Some(&a)), Step::Sink(_)));
        assert!(matches!(step(Some(&a), Some(&a)), Step::Both(None)));
        let Step::Both(Some((Kind::Changed, what))) = step(Some(&a), Some(&other)) else {
            panic!("must be changed")
        };
        assert!(what.contains("1 ms") && what.contains("2 ms"), "{what}");
    }
}
