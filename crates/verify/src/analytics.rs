//! Postgres against ClickHouse.
//!
//! Invariant: one row of each side is in memory at a time.

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::clickhouse::{Answer, Store};
use crate::error::Error;
use crate::log::Log;
use crate::naming::name;
use crate::postgres::Source;
use crate::report::{Kind, SinkReport};
use crate::slots::Slots;
use crate::sources::{Options, Sink};
use crate::tally::{Tally, merge};

/// Differing cells that are looked into.
const KEPT: usize = 1000;

/// Compares the view with the table of Postgres, whose cells are also taken from `slots`.
pub(crate) async fn compare(
    source: &mut Source,
    store: &Store<'_>,
    options: &Options,
    without: &[String],
    log: &Log,
    slots: Option<&mut Slots>,
) -> Result<SinkReport, Error> {
    let begun = Instant::now();
    options.say("summing in Postgres and ClickHouse");
    let mut answer = store.cells(options, without).await?;
    let tally = join(
        source,
        &mut answer,
        options,
        without,
        slots.map(|slots| (log, slots)),
    )
    .await?;
    let Tally {
        mut report,
        differing,
        ..
    } = tally;
    report.lacking = report.lacking.map(|lacking| lacking.within(options));
    if !differing.is_empty() {
        options.say("naming the rows that differ in ClickHouse");
        let answer = store.rows(&differing, options, without).await?;
        let found = stream::try_unfold(answer, async |mut answer: Answer| {
            Ok::<_, Error>(answer.row().await?.map(|row| (row, answer)))
        });
        let rows = source.rows(&differing, options, without);
        name(rows, Box::pin(found), options.limit, &mut report).await?;
    }
    options.say("looking for rows that ClickHouse holds twice");
    doubled(store, options, &mut report).await?;
    report.elapsed = begun.elapsed();
    Ok(report)
}

async fn join(
    source: &mut Source,
    answer: &mut Answer,
    options: &Options,
    without: &[String],
    mut slots: Option<(&Log, &mut Slots)>,
) -> Result<Tally, Error> {
    let mut rows = source.cells(options, without);
    let mut tally = Tally::new(SinkReport::new(Sink::Clickhouse), KEPT);
    let (mut left, mut right) = (rows.next().await.transpose()?, answer.cell().await?);
    while let Some((cell, expected, found)) = merge(&mut left, &mut right) {
        if let Some((log, slots)) = &mut slots
            && log.covers(&cell)
        {
            slots.expect(&cell, expected);
        }
        tally.note(cell, expected, found);
        if left.is_none() {
            left = rows.next().await.transpose()?;
        }
        if right.is_none() {
            right = answer.cell().await?;
        }
    }
    Ok(tally)
}

async fn doubled(
    store: &Store<'_>,
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let too_many = store.doubled(options).await?;
    report.violations += too_many;
    if too_many == 0 {
        return Ok(());
    }
    for row in store.first_doubled(options).await? {
        let what = format!(
            "revision {} is in the table {} times",
            row.revision,
            row.more + 1
        );
        report.name(options.limit, Kind::Violation, row.id, what);
    }
    Ok(())
}
