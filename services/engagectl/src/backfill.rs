//! `engagectl backfill`: rows of Postgres into the sinks again, by a lane of their own.
//!
//! Invariant: nothing is written before the plan was shown and agreed to; whatever ends it, `--resume` goes on.

mod args;
mod emitter;
mod fence;
mod ledger;
mod log;
mod range;
mod route;
mod rows;
mod session;
mod source;
mod throttle;
mod view;
mod whole;

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ::verify::{Options, Sink};
use engagement::event::Micros;
use service::{Failure, clock};
use stream::backfill::Addressee;
use tokio_util::sync::CancellationToken;

pub use args::BackfillArgs;
pub(crate) use whole::{Whole, whole};

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use crate::generator::Rate;
use crate::init::print;
use emitter::Emitter;
use ledger::{Entry, Finished, Run, RunId, Runs, Spec};
use log::Log;
use range::Range;
use rows::Wanted;
use session::{Pace, Session};
use source::Source;
use view::{Progress, Size};

/// Rows of a range, about, if they are spread evenly; where they are not, many ranges keep all readers at work.
const RANGE_ROWS: u64 = 5000;
const RANGES: u64 = 256;
/// How long the comparison waits for what is on its way.
const WITHIN: Duration = Duration::from_secs(60);

/// Plans, asks, writes, waits for the sink, compares.
///
/// # Errors
/// Wrong options (64), a server that does not answer (69), what can be resumed (75), what a person must repair (78).
pub(crate) async fn run(
    config: &Config,
    args: &BackfillArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    let log = Log::new(config);
    if args.list {
        print(&view::list(&log.runs().await?, output));
        return Ok(Outcome(None));
    }
    let range = given_range(args)?;
    let mut source = Source::open(&config.database).await?;
    let partitions = log.partitions().await?;
    log.prove_route(partitions, config.database.schema).await?;
    let runs = log.runs().await?;
    let run = match (args.resume, range) {
        (Some(id), _) => resumed(&runs, id, &source, &log, partitions)?,
        (None, Some(range)) => planned(&mut source, &log, args, range, (partitions, &runs)).await?,
        (None, None) => return Err(Failure::usage("--start is missing")),
    };
    let size = size(&mut source, &run, args, &runs).await?;
    print(&view::plan(&run, size, output));
    if args.dry_run || !(args.yes || confirmed(size.rows)?) {
        return Ok(Outcome(None));
    }
    source.lock().await?;
    let (id, compared) = (run.spec.run, run.spec.range);
    let done = work(config, args, (source, log, run), size, stop).await;
    let done = done.map_err(|failure| failure.next(resume_command(id)))?;
    if !done {
        return Err(Failure::try_again(
            "stopped between two pages; everything up to there is noted",
        )
        .next(resume_command(id)));
    }
    let compared = compare(config, compared, output).await;
    compared.map_err(|failure| failure.next(resume_command(id)))
}

fn resume_command(id: RunId) -> String {
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
) -> Result<Run, Failure> {
    let wanted = Wanted {
        range,
        content_id: args.content_id.as_deref(),
        after: None,
    };
    let (rows, ..) = source.size(&wanted).await?;
    let horizon = source.horizon().await?;
    let parts = (rows / RANGE_ROWS + 1).min(RANGES);
    let mut sinks: Vec<Addressee> = args.sinks.clone();
    sinks.sort_unstable();
    sinks.dedup();
    Ok(Run::new(Spec {
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
        ranges: range.split(u32::try_from(parts).unwrap_or(1)),
        rows,
    }))
}

/// A run of former processes, if it still fits what is there now.
fn resumed(
    runs: &Runs,
    id: RunId,
    source: &Source,
    log: &Log,
    partitions: i32,
) -> Result<Run, Failure> {
    let Some(run) = runs.get(id) else {
        return Err(
            Failure::usage(format!("there is no run {id}")).next("engagectl backfill --list")
        );
    };
    let spec = &run.spec;
    match misfit(spec, &source.database, &log.lane, partitions) {
        None => Ok(run.clone()),
        Some((what, remedy)) => Err(Failure::repair(format!("run {id} cannot go on: {what}"))
            .remedy(remedy)
            .next("engagectl backfill --list")),
    }
}

/// Why a run cannot go on here, and what to do.
fn misfit(
    spec: &Spec,
    database: &ledger::Database,
    topic: &str,
    partitions: i32,
) -> Option<(String, &'static str)> {
    let planned = &spec.database;
    if (&planned.system, &planned.name) != (&database.system, &database.name) {
        let what = format!(
            "it belongs to database {} of system {}, this is {} of {}",
            planned.name, planned.system, database.name, database.system
        );
        return Some((what, "correct DATABASE_URL, or start a new run"));
    }
    if planned.timeline != database.timeline {
        let what = format!(
            "the database was failed over since it was planned (timeline {} then, {} now)",
            planned.timeline, database.timeline
        );
        return Some((
            what,
            "start a new run over the same range: what is there is not written twice",
        ));
    }
    if spec.topic != topic {
        let what = format!("it writes to {}, and {topic} is configured", spec.topic);
        return Some((what, "correct KAFKA_BACKFILL_TOPIC, or start a new run"));
    }
    (spec.partitions != partitions).then(|| {
        let what = format!(
            "topic {topic} has {partitions} partitions, it was planned for {}",
            spec.partitions
        );
        (
            what,
            "start a new run over the same range: what is there is not written twice",
        )
    })
}

async fn size(
    source: &mut Source,
    run: &Run,
    args: &BackfillArgs,
    runs: &Runs,
) -> Result<Size, Failure> {
    let wanted = Wanted {
        range: run.spec.range,
        content_id: run.spec.content_id.as_deref(),
        after: None,
    };
    let (rows, bytes, counted) = source.size(&wanted).await?;
    let (rate, reached) = (args.rate.map(Rate::per_second), runs.speed());
    Ok(Size {
        rows,
        bytes,
        counted,
        indexed: source.has_index().await?,
        speed: match (rate, reached) {
            (Some(rate), Some(reached)) => Some(rate.min(reached)),
            (rate, reached) => rate.or(reached),
        },
    })
}

/// Writes what is left and waits until the sink has read it. `false`: told to stop.
async fn work(
    config: &Config,
    args: &BackfillArgs,
    (source, log, run): (Source, Log, Run),
    size: Size,
    stop: CancellationToken,
) -> Result<bool, Failure> {
    let (producer, begun) = (log.producer()?, Instant::now());
    if args.resume.is_none() {
        let (key, entry) = log::plan(&run);
        log.note(&producer, key, &entry).await?;
    }
    eprintln!(
        "run {}; Ctrl-C stops it, `{}` goes on",
        run.spec.run,
        resume_command(run.spec.run)
    );
    let found = log.found(&run).await?;
    if !found.is_empty() {
        eprintln!(
            "{} records of an unfinished page are there already",
            found.len()
        );
    }
    let schema = config.database.schema;
    let mut session = Session {
        emitter: Emitter::open(log.clone(), producer.clone(), schema, found).await?,
        gauge: log.gauge().await?,
        progress: Progress::new(run.rows(), size.rows),
        slot: config.connect.slot.clone(),
        pace: Pace::new(args.rate, args.behind),
        source,
        log,
        run,
        stop,
    };
    let written = session.write().await;
    let done = match written {
        Ok(true) => session.drain().await,
        other => other,
    };
    session.progress.close();
    for (event, size) in &session.emitter.too_large {
        eprintln!("not written: event {event}, {size} bytes are more than a record may have");
    }
    if !done? {
        return Ok(false);
    }
    let end = Finished {
        rows: session.run.rows(),
        seconds: begun.elapsed().as_secs_f64(),
        written: session.emitter.written,
    };
    say_end(&session.run, &end);
    let key = log::key_of_end(&session.run);
    session.log.note(&producer, key, &Entry::End(end)).await?;
    Ok(true)
}

fn say_end(run: &Run, end: &Finished) {
    eprintln!(
        "{} rows written in {:.1} s, {} in all; read by the sink",
        end.written, end.seconds, end.rows
    );
    if run.spec.sinks.contains(&Addressee::Webhook) {
        eprintln!(
            "endpoints deliver it at their own pace; `engagectl verify --sinks webhook --receiver URL --historical --within 60s` compares what one has got"
        );
    }
}

/// Whether ClickHouse now holds what Postgres holds.
async fn compare(config: &Config, range: Range, output: Output) -> Result<Outcome, Failure> {
    let sources = crate::verify::stores(config);
    let options = Options {
        from: Some(range.start),
        to: Some(range.end),
        sinks: [Sink::Clickhouse].into(),
        ..Options::default()
    };
    let report = ::verify::settle_with(&sources, &options, WITHIN).await;
    let report = report.map_err(crate::verify::failure)?;
    print(&crate::verify::render(&report, output));
    Ok(Outcome(crate::verify::exit(&report)))
}

fn confirmed(rows: u64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on")
            .remedy("read the plan above, then confirm it by option")
            .next("engagectl backfill .. --yes"));
    }
    eprint!("write these {rows} rows? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::internal("cannot read the answer").cause(error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str, timeline: i64) -> ledger::Database {
        ledger::Database {
            system: "7".into(),
            timeline,
            name: name.into(),
        }
    }

    #[test]
    fn a_run_goes_on_only_in_its_own_database_topic_and_partitions() {
        let range = Range {
            start: Micros(0),
            end: Micros(10),
        };
        let spec = Spec {
            run: 1,
            database: database("engage", 1),
            topic: "t".into(),
            partitions: 16,
            range,
            content_id: None,
            sinks: vec![Addressee::Clickhouse],
            revision_lsn: 0,
            horizon: 0,
            ranges: range.split(1),
            rows: 0,
        };
        let judge = |database: &ledger::Database, topic, partitions| {
            misfit(&spec, database, topic, partitions).map(|(what, _)| what)
        };
        let own = database("engage", 1);
        assert_eq!(judge(&own, "t", 16), None);
        assert!(
            judge(&database("other", 1), "t", 16)
                .unwrap()
                .contains("belongs to database")
        );
        assert!(
            judge(&database("engage", 2), "t", 16)
                .unwrap()
                .contains("failed over")
        );
        assert!(judge(&own, "u", 16).unwrap().contains("is configured"));
        assert!(judge(&own, "t", 8).unwrap().contains("planned for 16"));
    }
}
