//! The enriched topic: read once for every sink that is compared with it, and against Postgres.
//!
//! Invariant: a second reading happens only where the first one showed that something differs or may repeat.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::cell::Cell;
use crate::error::Error;
use crate::fold::{Counted, Focus, Fold, Into};
use crate::implied::Implied;
use crate::log::Log;
use crate::naming;
use crate::postgres::Source;
use crate::report::{Kind, SinkReport};
use crate::slots::Slots;
use crate::sources::{Options, Sink};
use crate::sums::Recount;

/// Slots and cells that are looked into.
const MOST: usize = 200;

/// Everything that one reading of the topic feeds.
pub(crate) struct Reading {
    pub(crate) fold: Fold,
    pub(crate) recounts: BTreeMap<i32, Recount>,
    pub(crate) implied: Option<Implied>,
    pub(crate) counted: Counted,
}

impl Reading {
    pub(crate) fn new(
        options: &Options,
        without: HashSet<String>,
        log: &Log,
        recounts: BTreeMap<i32, Recount>,
        implied: Option<Implied>,
    ) -> Self {
        let fold = Fold::new(
            Arc::new(options.clone()),
            Arc::new(without),
            log.covered_from,
        );
        Self {
            fold,
            recounts,
            implied,
            counted: Counted::default(),
        }
    }

    /// Reads the log: once, or twice where rows may repeat.
    pub(crate) async fn read(self, log: &Log, options: &Options) -> Result<Self, Error> {
        options.say("reading the enriched topic");
        let mut reading = log
            .read(self, |reading, record| {
                let Some(event) = reading.fold.take(&record) else {
                    return;
                };
                if let Some(recount) = reading.recounts.get_mut(&record.partition) {
                    recount.take(record.offset, &event);
                }
                if let Some(implied) = &mut reading.implied {
                    implied.take(&record, &event);
                }
            })
            .await?;
        reading.counted = reading.fold.counted.clone();
        if reading.fold.needs_again() {
            reading = reading
                .again(log, options, Into::Slots(Slots::new()))
                .await?;
        }
        reading.fold.finish();
        Ok(reading)
    }

    /// Reads the log once more, into something else.
    async fn again(mut self, log: &Log, options: &Options, into: Into) -> Result<Self, Error> {
        options.say("reading the enriched topic again");
        self.fold.again(into);
        log.read(self, |reading, record| drop(reading.fold.take(&record)))
            .await
    }

    /// Reads the log once more for the messages that `implied` looks at.
    pub(crate) async fn messages(
        mut self,
        log: &Log,
        implied: Implied,
        options: &Options,
    ) -> Result<(Self, Implied), Error> {
        options.say("reading the enriched topic for messages that differ");
        self.fold.again(Into::Rows(Focus::default()));
        let take = |(reading, implied): &mut (Self, Implied), record| {
            if let Some(event) = reading.fold.take(&record) {
                implied.take(&record, &event);
            }
        };
        log.read((self, implied), take).await
    }
}

/// What the sums say; to be called when Postgres has been taken from them.
pub(crate) fn report(reading: &Reading, log: &Log, options: &Options) -> SinkReport {
    let mut report = SinkReport::new(Sink::Enriched);
    let counted = &reading.counted;
    for (place, what) in counted.holes.iter().chain(&counted.unreadable) {
        report.name(options.limit, Kind::Violation, place, what);
    }
    report.violations = counted.all_holes + counted.all_unreadable;
    report.notes = notes(counted, log);
    if reading.fold.late.is_full {
        let most = reading.fold.late.len();
        let what = format!("more than {most} rows may repeat: too many to compare by id");
        report.violation(options.limit, "the topic", what);
    }
    if let Into::Slots(slots) = &reading.fold.into {
        count(slots, &mut report);
    }
    report
}

fn notes(counted: &Counted, log: &Log) -> Vec<String> {
    let covered = log.covered_from.map(|from| {
        format!("the topic no longer holds everything: compared are events from {from} on")
    });
    let counts = [
        (
            counted.duplicates,
            "records at or below a position seen before, which readers drop",
        ),
        (
            counted.by_id,
            "rows that may repeat (later snapshot, backfill, redriven), counted by id",
        ),
        (
            counted.replaced,
            "rows of a snapshot that was taken again, left out",
        ),
        (
            counted.given_up,
            "records that are no enriched event and are in a sink's dead letters",
        ),
    ];
    let told = counts.into_iter().filter(|(count, _)| *count > 0);
    covered
        .into_iter()
        .chain(told.map(|(count, what)| format!("{count} {what}")))
        .collect()
}

fn count(slots: &Slots, report: &mut SinkReport) {
    report.compared = slots.expected;
    for (_, sum) in slots.differing() {
        match sum.events.cmp(&0) {
            std::cmp::Ordering::Less => report.missing += 1,
            std::cmp::Ordering::Greater => report.surplus += 1,
            std::cmp::Ordering::Equal => report.changed += 1,
        }
    }
    report.equal = slots.equal();
}

/// Names the rows of slots that differ.
pub(crate) async fn name(
    reading: Reading,
    log: &Log,
    postgres: &mut Source,
    options: &Options,
    without: &[String],
    report: &mut SinkReport,
) -> Result<Reading, Error> {
    let Into::Slots(slots) = &reading.fold.into else {
        return Ok(reading);
    };
    let differing: Vec<usize> = slots.differing().map(|(slot, _)| slot).take(MOST).collect();
    let focus = Focus::on(differing);
    options.say("looking for the cells of Postgres that differ from the topic");
    let mut cells = cells_of(postgres, &focus, log, options, without).await?;
    let mut reading = reading.again(log, options, Into::Rows(focus)).await?;
    reading.fold.finish();
    let into = std::mem::replace(&mut reading.fold.into, Into::Rows(Focus::default()));
    let Into::Rows(focus) = into else {
        return Ok(reading);
    };
    if focus.is_full {
        report
            .notes
            .push("more rows differ than are looked into; the names are incomplete".into());
    }
    let found = focus.into_rows();
    cells.extend(found.iter().map(|row| row.cell.clone()));
    cells.sort_unstable();
    cells.dedup();
    let rows = postgres.rows(&cells, options, without);
    let found = stream::iter(found.into_iter().map(Ok));
    naming::name(rows, found, options.limit, report).await?;
    Ok(reading)
}

async fn cells_of(
    postgres: &mut Source,
    focus: &Focus,
    log: &Log,
    options: &Options,
    without: &[String],
) -> Result<Vec<Cell>, Error> {
    let mut rows = postgres.cells(options, without);
    let mut cells = Vec::new();
    while let Some((cell, _)) = rows.next().await.transpose()? {
        if cells.len() < MOST && log.covers(&cell) && focus.wants(&cell) {
            cells.push(cell);
        }
    }
    Ok(cells)
}
