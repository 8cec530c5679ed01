//! `engagectl backfill`: rows of Postgres into the sinks again, by a lane of their own.
//!
//! Invariant: nothing is written before the plan was shown and agreed to; whatever ends it, `--resume` goes on.

mod args;
mod emitter;
mod fence;
mod gauge;
mod ledger;
mod log;
mod misfit;
mod range;
mod readers;
mod route;
mod rows;
mod session;
mod source;
mod throttle;
mod view;
mod whole;

use std::time::{Duration, Instant};

use ::verify::{Options, Sink};
use engagement::event::Micros;
use service::{Failure, clock};
use stream::Producer;
use stream::backfill::Addressee;
use tokio_util::sync::CancellationToken;

pub use args::BackfillArgs;
pub(crate) use whole::{Whole, whole};

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use crate::confirm;
use crate::generator::Rate;
use crate::init::print;
use emitter::Emitter;
use gauge::Gauge;
use ledger::{Entry, Finished, Run, RunId, Runs, Spec};
use log::Log;
use misfit::misfit;
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
    let prepared = Box::pin(prepared(config, args, log, output, &stop));
    let Some(prepared) = stop.run_until_cancelled(prepared).await else {
        let interrupted = Failure::try_again("interrupted; nothing was written");
        return Err(match args.resume {
            Some(id) => interrupted.next(resume_command(id)),
            None => interrupted,
        });
    };
    let Some(prepared) = prepared? else {
        return Ok(Outcome(None));
    };
    let (id, spec) = (prepared.run.spec.run, prepared.run.spec.clone());
    let producer = begin(args, &prepared).await?;
    let done = work(config, args, prepared, producer, stop).await;
    let done = done.map_err(|failure| failure.next(resume_command(id)))?;
    if !done {
        return Err(Failure::try_again(
            "stopped between two pages; everything up to there is noted",
        )
        .next(resume_command(id)));
    }
    if !spec.sinks.contains(&Addressee::Clickhouse) {
        return Ok(Outcome(None));
    }
    let compared = compare(config, spec.range, output).await;
    compared.map_err(|failure| failure.next(resume_command(id)))
}

/// A run that was shown and agreed to, and everything that it needs.
struct Prepared {
    source: Source,
    log: Log,
    run: Run,
    readers: Vec<String>,
    size: Size,
}

/// Looks, plans, shows, asks, and takes the lock. `None`: nothing is to be written.
async fn prepared(
    config: &Config,
    args: &BackfillArgs,
    log: Log,
    output: Output,
    stop: &CancellationToken,
) -> Result<Option<Prepared>, Failure> {
    let range = given_range(args)?;
    let mut source = Source::open(&config.database).await?;
    let partitions = log.partitions().await?;
    log.prove_route(partitions, config.database.schema).await?;
    let runs = log.runs().await?;
    let mut run = match (args.resume, range) {
        (Some(id), _) => resumed(&runs, id, &source, &log).await?,
        (None, Some(range)) => planned(&mut source, &log, args, range, (partitions, &runs)).await?,
        (None, None) => return Err(Failure::usage("--start is missing")),
    };
    let readers = readers::of(config, &run.spec.sinks).await?;
    let size = size(&mut source, &run, args, &runs).await?;
    print(&view::plan(&run, size, output));
    if args.dry_run || !(args.yes || confirmed(size.rows, stop).await?) {
        return Ok(None);
    }
    source.lock().await?;
    if let Some(id) = args.resume {
        // another process may have gone on with it while this one was looking and asking
        run = resumed(&log.runs().await?, id, &source, &log).await?;
    }
    Ok(Some(Prepared {
        source,
        log,
        run,
        readers,
        size,
    }))
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

/// Notes the plan of a new run: what is not noted is no run, and cannot be resumed.
async fn begin(args: &BackfillArgs, prepared: &Prepared) -> Result<Producer, Failure> {
    let producer = prepared.log.producer()?;
    if args.resume.is_none() {
        let (key, entry) = log::plan(&prepared.run);
        prepared.log.note(&producer, key, &entry).await?;
    }
    Ok(producer)
}

/// Writes what is left and waits until the sinks have read it. `false`: told to stop.
async fn work(
    config: &Config,
    args: &BackfillArgs,
    prepared: Prepared,
    producer: Producer,
    stop: CancellationToken,
) -> Result<bool, Failure> {
    let Prepared {
        source,
        log,
        run,
        readers,
        size,
    } = prepared;
    let begun = Instant::now();
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
        gauge: Gauge::open(&log, readers).await?,
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
        "{} rows written in {:.1} s, {} in all; read by the sinks",
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

async fn confirmed(rows: u64, stop: &CancellationToken) -> Result<bool, Failure> {
    if !confirm::can_ask() {
        return Err(Failure::usage("there is no terminal to ask on")
            .remedy("read the plan above, then confirm it by option")
            .next("engagectl backfill .. --yes"));
    }
    confirm::confirmed(&format!("write these {rows} rows?"), stop).await
}
