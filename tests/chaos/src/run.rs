//! One run: arena, load, faults, drain, verdict.
//!
//! Invariant: the verdict is reached after the load has stopped, everything was healed and every sink has drained; a run
//! that is cut short has no verdict.

mod inject;
mod outcome;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::faults::Rule;
use anyhow::Context as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use outcome::Outcome;

use crate::faults::{Class, outage, points, process};
use crate::load::{Bursts, Load, LoadOptions};
use crate::{Arena, ArenaOptions, Patience};

/// Replicas beyond these are guests of a storm.
const STABLE_NAMES: usize = 2;

/// What to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The seed of all chance.
    pub seed: u64,
    /// How long faults are injected; every class has its turn, however long that takes.
    pub duration: Duration,
    /// The shortest time from one fault to the next; the longest is half as much again.
    pub every: Duration,
    /// The classes to draw from.
    pub classes: Vec<&'static Class>,
    /// How often to visit every fault point in every service first.
    pub point_rounds: usize,
    /// Then kill each service so often, alone, to measure how long it takes to work again.
    pub recovery_rounds: usize,
    /// Then take each sink's server away for so long, one after the other, and measure how the backlog drains.
    pub outage: Option<Duration>,
    /// Rows a second.
    pub rate: f64,
    /// Many rows at once besides, now and then.
    pub bursts: Option<Bursts>,
    /// The services that run.
    pub services: Vec<&'static str>,
    /// Replicas of each service.
    pub replicas: usize,
    /// Kafka and Connect compile for a long run.
    pub full_compiler: bool,
    /// No fault freezes a process for longer.
    pub longest_freeze: Duration,
    /// When what is awaited counts as broken.
    pub patience: Patience,
    /// The rule that every service breaks, to see that the run is not good then.
    pub broken: Option<Rule>,
    /// No further faults: drain, compare and report.
    pub enough: CancellationToken,
    /// Where logs and the report go; emptied at the start.
    pub dir: PathBuf,
    /// Where the services' binaries are.
    pub bin: PathBuf,
    /// The command that repeats this run.
    pub again: String,
}

/// Runs it; the outcome is also in `outcome.json` of the directory.
///
/// # Errors
/// The arena or the load could not be started, or a store could not be read at the end.
pub async fn run(options: &RunOptions) -> anyhow::Result<Outcome> {
    if options.dir.exists() {
        std::fs::remove_dir_all(&options.dir)?;
    }
    std::fs::create_dir_all(&options.dir)?;
    say(&format!("seed {}: {}", options.seed, options.again));
    let begun = Instant::now();
    let arena = Arc::new(Box::pin(Arena::start(arena_options(options))).await?);
    say(&format!(
        "everything runs after {} s",
        begun.elapsed().as_secs()
    ));
    let outcome = Box::pin(under_faults(options, &arena)).await;
    let failed = !outcome.as_ref().is_ok_and(Outcome::is_good);
    if failed {
        keep_logs(options, &arena);
    }
    let arena = Arc::into_inner(arena).context("a fault still runs")?;
    arena.shutdown().await?;
    let outcome = outcome?;
    let text = serde_json::to_string_pretty(&outcome)?;
    std::fs::write(options.dir.join("outcome.json"), text)?;
    Ok(outcome)
}

/// To the person at the terminal.
pub(crate) fn say(text: &str) {
    eprintln!("{} {text}", utc("%H:%M:%S"));
}

/// The time now, UTC.
fn utc(format: &str) -> String {
    let now = chrono::DateTime::from_timestamp_micros(service::clock::now());
    now.unwrap_or_default().format(format).to_string()
}

fn arena_options(options: &RunOptions) -> ArenaOptions {
    let mut env = vec![("RUST_LOG".to_owned(), "info".to_owned())];
    if let Some(rule) = options.broken {
        env.push(("ENGAGE_BROKEN_RULE".to_owned(), rule.name().to_owned()));
    }
    ArenaOptions {
        dir: options.dir.join("services"),
        bin: options.bin.clone(),
        services: options.services.clone(),
        replicas: options.replicas,
        stable_names: STABLE_NAMES,
        env,
        direct: false,
        full_compiler: options.full_compiler,
        longest_freeze: options.longest_freeze,
        patience: options.patience,
    }
}

async fn under_faults(options: &RunOptions, arena: &Arc<Arena>) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let load = Load::start(LoadOptions {
        url: arena.addresses.postgres_url.clone(),
        seed: options.seed,
        rate: options.rate,
        bursts: options.bursts,
    })
    .await
    .context("the load cannot be started")?;
    let mut failures = visit_points(options, arena).await;
    if options.recovery_rounds > 0
        && let Err(error) = process::measure_recovery(arena, options.recovery_rounds).await
    {
        failures.push(format!("{error:#}"));
    }
    let drains = match options.outage {
        None => Vec::new(),
        Some(lasting) => outage::measure_drain(arena, lasting)
            .await
            .unwrap_or_else(|error| {
                failures.push(format!("{error:#}"));
                Vec::new()
            }),
    };
    failures.extend(inject::all(options, arena).await);
    let injected_for = begun.elapsed();
    say(&format!("the load ends: {}", load.stop().await));
    if let Err(error) = heal(arena).await {
        failures.push(format!("{error:#}"));
    }
    failures.extend(arena.fleet.errors());
    let draining = Instant::now();
    let report = compare(arena)
        .await
        .context("the sinks cannot be compared with Postgres")?;
    failures.extend(still_behind(&report, options.patience.drain));
    failures.extend(
        arena
            .fleet
            .errors()
            .into_iter()
            .filter(|error| !failures.contains(error))
            .collect::<Vec<_>>(),
    );
    say(&format!(
        "drained and compared after {} s",
        draining.elapsed().as_secs()
    ));
    Ok(outcome::collect(
        options,
        arena,
        injected_for,
        draining.elapsed(),
        drains,
        report,
        failures,
    ))
}

/// As often as wanted; answers what was not reached.
async fn visit_points(options: &RunOptions, arena: &Arc<Arena>) -> Vec<String> {
    let (begun, mut failures) = (Instant::now(), Vec::new());
    for _ in 0..options.point_rounds {
        if options.enough.is_cancelled() {
            break;
        }
        match points::visit_all(arena).await {
            Ok(visited) => say(&format!(
                "{visited} fault points visited after {} s",
                begun.elapsed().as_secs()
            )),
            Err(error) => {
                say(&format!("FAILED {error:#}"));
                failures.push(format!("{error:#}"));
            }
        }
    }
    failures
}

/// What a sink has not done is not compared either, so a run that has not drained proves too little.
fn still_behind(report: &verify::Report, within: Duration) -> impl Iterator<Item = String> {
    let late = report.sinks.iter().filter(|sink| sink.behind > 0);
    late.map(move |sink| {
        format!(
            "{} is {} records behind {} s after the load",
            sink.sink,
            sink.behind,
            within.as_secs()
        )
    })
}

/// On a thread with a runtime of its own: reading whole topics must not hold up the proxies between services and servers.
async fn compare(arena: &Arena) -> anyhow::Result<verify::Report> {
    let runs = |service| arena.fleet.runs(service);
    let mut sources = verify::Sources::from(&arena.addresses);
    sources.clickhouse = sources.clickhouse.filter(|_| runs("clickhouse-sink"));
    sources.redis = sources.redis.filter(|_| runs("redis-aggregator"));
    sources.receiver = sources.receiver.filter(|_| runs("webhook-forwarder"));
    let within = arena.patience.drain;
    let compared = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let settled = Box::pin(verify::settle(&sources, within));
        anyhow::Ok(runtime.block_on(settled)?)
    });
    compared.await?
}

/// Whatever a fault left behind ends here.
async fn heal(arena: &Arena) -> anyhow::Result<()> {
    arena.proxies.heal();
    for id in arena.fleet.replicas() {
        arena.fleet.resume(id);
    }
    arena.all_ready(arena.patience.ready).await
}

fn keep_logs(options: &RunOptions, arena: &Arena) {
    let to = options.dir.join("servers");
    let copied = std::fs::create_dir_all(&to).and_then(|()| {
        for entry in std::fs::read_dir(arena.stack.dir().join("log"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    });
    if let Err(error) = copied {
        tracing::warn!(%error, "the servers' logs were not kept");
    }
}
