//! Names the rows that differ between Postgres and a sink, wherever the sink's rows come from.
//!
//! Invariant: one row of each side is in memory at a time, and no more are named than the report takes.

use futures_util::{Stream, StreamExt};

use crate::error::Error;
use crate::report::{Kind, SinkReport};
use crate::rows::{NamedRow, Step, step};

/// Both sides come in the order of cells, then ids.
pub(crate) async fn name(
    mut source: impl Stream<Item = Result<NamedRow, Error>> + Unpin,
    mut sink: impl Stream<Item = Result<NamedRow, Error>> + Unpin,
    limit: usize,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let id = |row: &Option<NamedRow>| row.as_ref().map(|row| row.id.clone()).unwrap_or_default();
    let mut left = source.next().await.transpose()?;
    let mut right = sink.next().await.transpose()?;
    while report.differences.len() < limit {
        let (of_left, of_right) = match step(left.as_ref(), right.as_ref()) {
            Step::End => break,
            Step::Both(found) => {
                if let Some((kind, what)) = found {
                    report.name(limit, kind, id(&left), what);
                }
                (true, true)
            }
            Step::Source(what) => {
                report.name(limit, Kind::Missing, id(&left), what);
                (true, false)
            }
            Step::Sink(what) => {
                report.name(limit, Kind::Surplus, id(&right), what);
                (false, true)
            }
        };
        if of_left {
            left = source.next().await.transpose()?;
        }
        if of_right {
            right = sink.next().await.transpose()?;
        }
    }
    Ok(())
}
