//! What a run will do, before anything is written: planned anew, or taken up where it still fits what is there.
//!
//! Invariant: a run is resumed only where it fits; only one whose plan the broker has can be resumed, and only then it is said how.

use engagement::event::Micros;
use service::{Failure, clock};
use stream::backfill::Addressee;

use super::args::BackfillArgs;
use super::ledger::{Run, RunId, Runs, Spec};
use super::log::Log;
use super::misfit::misfit;
use super::notes::Notes;
use super::range::Range;
use super::readers;
use super::rows::Wanted;
use super::session::WORKERS;
use super::source::Source;
use super::view::Size;
use crate::config::Config;
use crate::generator::Rate;

/// Rows of a range, about, if they are spread evenly; where they are not, many ranges keep all readers at work.
const RANGE_ROWS: u64 = 5000;
const RANGES: u32 = 256;

/// A run, where it reads, where it writes, and who reads that.
pub(super) struct Plan {
    pub(super) source: Source,
    pub(super) log: Log,
    pub(super) run: Run,
    /// The groups that read what it writes.
    pub(super) readers: Vec<String>,
    pub(super) size: Size,
    /// Of a run that no process has begun: where the log was.
    new_at: Option<u64>,
}

impl Plan {
    /// Asks everything that a run depends on, and changes nothing.
    ///
    /// # Errors
    /// Wrong options (64), a server that does not answer (69), a run that cannot go on here or topics that do not fit (78).
    pub(super) async fn make(
        config: &Config,
        args: &BackfillArgs,
        log: Log,
    ) -> Result<Self, Failure> {
        let range = given_range(args)?;
        let mut source = Source::open(&config.database).await?;
        let partitions = log.partitions().await?;
        log.prove_route(partitions, config.database.schema).await?;
        let runs = log.runs().await?;
        let (run, size, new_at) = match (args.resume, range) {
            (Some(id), _) => {
                let run = resumed(&runs, id, &source, &log).await?;
                let (range, content) = (run.spec.range, run.spec.content_id.as_deref());
                let size = source.size(&wanted(range, content)).await?;
                (run, size, None)
            }
            (None, Some(range)) => {
                planned(&mut source, &log, args, range, (partitions, &runs)).await?
            }
            (None, None) => return Err(Failure::usage("--start is missing")),
        };
        let speed = speed(args, &runs);
        Ok(Self {
            readers: readers::of(config, &run.spec.sinks).await?,
            size: Size { speed, ..size },
            new_at,
            source,
            log,
            run,
        })
    }

    /// Takes the lock, and what the runs have noted until then.
    ///
    /// # Errors
    /// Another backfill holds it (75), a server does not answer (69), or the run cannot go on here any more (78).
    pub(super) async fn lock(&mut self) -> Result<(), Failure> {
        self.source.lock().await?;
        // another process may have begun one, or gone on with this one, while this one was looking and asking
        let (runs, id) = (self.log.runs().await?, self.run.spec.run);
        match self.new_at {
            Some(lsn) => self.run.spec.revision_lsn = runs.free_revision(lsn),
            None => self.run = resumed(&runs, id, &self.source, &self.log).await?,
        }
        Ok(())
    }

    /// Notes a new run, and says how to go on with it: what is not noted is no run, and cannot be resumed. Answers what writes notes.
    ///
    /// # Errors
    /// The broker does not take the note (69).
    pub(super) async fn begin(&self) -> Result<Notes, Failure> {
        let notes = Notes::open(&self.log)?;
        if self.new_at.is_some() {
            notes.plan(&self.run).await?;
        }
        let id = self.run.spec.run;
        eprintln!(
            "run {id}; Ctrl-C stops it, `{}` goes on",
            resume_command(id)
        );
        Ok(notes)
    }
}

/// What goes on with a run.
pub(super) fn resume_command(id: RunId) -> String {
    format!("engagectl backfill --resume {id}")
}

fn given_range(args: &BackfillArgs) -> Result<Option<Range>, Failure> {
    let Some(start) = args.start else {
        return Ok(None);
    };
    let now = Micros(clock::now());
    Range::new(start.micros(now.0), args.end.micros(now.0), now)
        .map(Some)
        .map_err(|error| Failure::usage(error.to_string()).remedy("correct --start and --end"))
}

async fn planned(
    source: &mut Source,
    log: &Log,
    args: &BackfillArgs,
    range: Range,
    (partitions, runs): (i32, &Runs),
) -> Result<(Run, Size, Option<u64>), Failure> {
    let size = source
        .size(&wanted(range, args.content_id.as_deref()))
        .await?;
    let horizon = source.horizon().await?;
    let parts = parts(size.rows, source.indexed);
    let mut sinks: Vec<Addressee> = args.sinks.clone();
    sinks.sort_unstable();
    sinks.dedup();
    let run = Run::new(Spec {
        run: Micros(clock::now()).millis(),
        database: source.database.clone(),
        topic: log.lane.clone(),
        partitions,
        range,
        content_id: args.content_id.clone(),
        sinks,
        // a change may begin exactly at the noted position
        revision_lsn: runs.free_revision(horizon.lsn),
        horizon: horizon.xid,
        ranges: range.split(parts),
        rows: size.rows,
    });
    Ok((run, size, Some(horizon.lsn)))
}

const fn wanted(range: Range, content_id: Option<&str>) -> Wanted<'_> {
    Wanted {
        range,
        content_id,
        after: None,
    }
}

/// In how many ranges that many rows are read. Without an index each range reads the whole table, so that there are no more than
/// are read at a time.
fn parts(rows: u64, indexed: bool) -> u32 {
    let most = if indexed { RANGES } else { WORKERS.into() };
    let wanted = u32::try_from(rows / RANGE_ROWS + 1);
    wanted.unwrap_or(most).min(most)
}

/// A run of former processes, if it still fits what is there now.
async fn resumed(runs: &Runs, id: RunId, source: &Source, log: &Log) -> Result<Run, Failure> {
    let Some(run) = runs.get(id) else {
        return Err(
            Failure::usage(format!("there is no run {id}")).next("engagectl backfill --list")
        );
    };
    let ends = log.ends(&log.lane).await?;
    match misfit(run, &source.database, &log.lane, &ends) {
        None => Ok(run.clone()),
        Some((what, remedy)) => Err(Failure::repair(format!("run {id} cannot go on: {what}"))
            .remedy(remedy)
            .next("engagectl backfill --list")),
    }
}

/// Rows a second: what is allowed, or what the last run has reached where that is less.
fn speed(args: &BackfillArgs, runs: &Runs) -> Option<f64> {
    match (args.rate.map(Rate::per_second), runs.speed()) {
        (Some(rate), Some(reached)) => Some(rate.min(reached)),
        (rate, reached) => rate.or(reached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_an_index_is_read_as_often_as_there_are_readers_however_large_it_is() {
        assert_eq!([0, 4_999, 5_000].map(|rows| parts(rows, true)), [1, 1, 2]);
        assert_eq!([0, 4_999, 5_000].map(|rows| parts(rows, false)), [1, 1, 2]);
        assert_eq!(parts(u64::MAX, true), RANGES);
        assert_eq!(parts(100_000_000, false), u32::from(WORKERS));
    }
}
