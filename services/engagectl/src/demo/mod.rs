//! `engagectl demo`: the whole pipeline on this machine, watched while it works and judged at its end.

mod measure;
mod traces;
mod view;

use std::path::Path;
use std::time::Duration;

use ::verify::{Report, Sink, Sources};
use devstack::{Stack, Supervisor};
use platform::Schema;
use service::Failure;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use measure::Measure;
pub(crate) use view::seconds;

use crate::cli::DemoArgs;
use crate::generator::{self, Mix, Options, Progress};
use crate::pipeline::{Addresses, Pipeline, Site};
use view::{Snapshot, View};

const CONTENTS: usize = 200;
const TOP: usize = 10;
/// Lies in a directory that the demo may empty.
const MARKER: &str = ".engage-demo";
/// Between two looks at everything.
const TICK: Duration = Duration::from_millis(500);
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// Runs the demo until its duration is over or `stop` is cancelled.
///
/// # Errors
/// A server or service that does not start (69), or, with a duration, a sink that does not hold exactly what
/// Postgres holds (70).
pub async fn run(args: &DemoArgs, stop: CancellationToken) -> Result<(), Failure> {
    empty(&args.dir)?;
    eprintln!("starting Postgres, Kafka, Debezium, Redis and ClickHouse ..");
    let needs = crate::local::needs(args.tracing);
    let starting = Stack::builder().needs(needs).demo(&args.dir).start();
    let stack = Box::pin(starting).await.map_err(stack_failure)?;
    let mut addresses = Addresses::documented(&stack, Schema::Uuid);
    if let Some(traces) = &mut addresses.traces {
        traces.share = share(args.rate.per_second());
    }
    let supervisor = Supervisor::attached().map_err(stack_failure)?;
    eprintln!("creating topics, tables and the connector, starting the services ..");
    let site = Site::beside_this_program(&args.dir)?;
    let mut pipeline = Pipeline::start(addresses.clone(), site, supervisor).await?;
    let outcome = watch(args, &mut pipeline, stop).await;
    let stopped = tokio::task::spawn_blocking(move || pipeline.stop()).await;
    stopped
        .map_err(|e| Failure::internal("stopping the services panicked").cause(e))?
        .map_err(stack_failure)?;
    stack.shutdown().await;
    outcome
}

/// All of a slow stream, a tenth of a fast one: enough to look at.
fn share(rate: f64) -> f64 {
    if rate <= 20.0 { 1.0 } else { 0.1 }
}

/// Turns a server that does not start into the process's failure.
pub(crate) fn stack_failure(error: devstack::StackError) -> Failure {
    Failure::unavailable("the local servers did not start")
        .cause(error)
        .next("deploy/provision/provision.sh --check")
}

async fn watch(
    args: &DemoArgs,
    pipeline: &mut Pipeline,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let addresses = &pipeline.addresses().clone();
    let measure = Measure::begin(addresses.clone()).await;
    let progress = Progress::default();
    let writing = tokio::spawn(generator::run(
        addresses.postgres_url.clone(),
        options(args, addresses),
        progress.clone(),
        stop.clone(),
    ));
    let mut view = View::open(addresses.links());
    let mut started_again = Vec::new();
    let start = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    while !stop.is_cancelled() && !writing.is_finished() {
        ticks.tick().await;
        started_again.extend(pipeline.start_again()?);
        let top = measure.top(TOP).await;
        view.show(&Snapshot {
            elapsed: start.elapsed(),
            inserted: progress.inserted(),
            sinks: measure.sinks().await,
            top,
        });
        if view.quit_requested() {
            stop.cancel();
        }
    }
    drop(view);
    started_again.into_iter().for_each(say_started_again);
    written(writing).await?;
    if args.duration.is_none() || stop.is_cancelled() {
        return Ok(());
    }
    judge(pipeline, addresses, &measure).await
}

/// Waits for the generator's end.
async fn written(writing: JoinHandle<Result<(), sqlx::Error>>) -> Result<(), Failure> {
    let written = writing
        .await
        .map_err(|e| Failure::internal("the generator panicked").cause(e))?;
    written.map_err(|e| Failure::unavailable("the generator cannot write to Postgres").cause(e))
}

fn options(args: &DemoArgs, addresses: &Addresses) -> Options {
    Options {
        rate: args.rate,
        burst: 0,
        duration: args.duration,
        seed: 1,
        mix: Mix::default(),
        contents: CONTENTS,
        schema: addresses.schema,
        ..Options::default()
    }
}

/// Waits until every sink has caught up, then prints the summary.
async fn judge(
    pipeline: &mut Pipeline,
    addresses: &Addresses,
    measure: &Measure,
) -> Result<(), Failure> {
    let sources = Sources::from(addresses);
    let report = beside(pipeline, ::verify::settle(&sources, DRAIN_WITHIN)).await?;
    let report = report
        .map_err(|e| Failure::unavailable("a store cannot be read for the comparison").cause(e))?;
    crate::cli::print(&summary(
        &report,
        &measure.sinks().await,
        &measure.memory().await,
    ));
    if report.is_equal() {
        return traces::reached_every_sink(addresses).await;
    }
    Err(
        Failure::internal("not every sink holds what Postgres holds")
            .cause(report.to_string())
            .remedy("the logs of the services are in the demo's directory, under logs/"),
    )
}

/// Does something while what ends with the word to start it again is started again.
async fn beside<T>(pipeline: &mut Pipeline, work: impl Future<Output = T>) -> Result<T, Failure> {
    let (mut work, mut ticks) = (Box::pin(work), tokio::time::interval(TICK));
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            _ = ticks.tick() => pipeline.start_again()?.into_iter().for_each(say_started_again),
        }
    }
}

fn say_started_again(service: &str) {
    eprintln!("{service} ended with the word to start it again, and was");
}

fn summary(report: &Report, sinks: &[view::SinkLine], memory: &[(&str, u64)]) -> String {
    let mut text = format!("\nPostgres holds {} events\n", report.events);
    for sink in sinks {
        let found = compared_as(sink.name).and_then(|name| report.sink(name));
        let (held, verdict) = match found {
            None => (0, "not compared"),
            Some(found) if found.is_equal() => (found.compared, "equal"),
            Some(found) => (found.compared, "NOT EQUAL"),
        };
        let (p50, p99) = (seconds(sink.p50), seconds(sink.p99));
        text += &format!(
            "  {:<18} {held:>9} events  p50 <= {p50:<8} p99 <= {p99:<8} {verdict}\n",
            sink.name
        );
    }
    for (name, mebibytes) in memory {
        text += &format!("  {name:<18} {mebibytes:>9} MiB resident\n");
    }
    text + "  (redis counts per content; events without one are in no count)\n"
}

/// What the comparison calls a service's sink.
fn compared_as(service: &str) -> Option<Sink> {
    match service {
        "clickhouse-sink" => Some(Sink::Clickhouse),
        "redis-aggregator" => Some(Sink::Redis),
        "webhook-forwarder" => Some(Sink::Webhook),
        _ => None,
    }
}

/// Makes `dir` an empty directory of the demo. Only a directory that the demo itself made is emptied.
fn empty(dir: &Path) -> Result<(), Failure> {
    let trouble = |what: &str, e| {
        Failure::usage(format!("cannot {what} {}", dir.display()))
            .cause(e)
            .remedy("choose another directory with --dir")
    };
    let marker = dir.join(MARKER);
    if dir.exists() {
        if !marker.exists() {
            return Err(Failure::usage(format!(
                "{} exists and was not made by the demo; it would be emptied",
                dir.display()
            ))
            .remedy("choose another directory with --dir"));
        }
        std::fs::remove_dir_all(dir).map_err(|e| trouble("empty", e))?;
    }
    std::fs::create_dir_all(dir).map_err(|e| trouble("create", e))?;
    std::fs::write(&marker, "").map_err(|e| trouble("write to", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_equal_only_where_nothing_differs() {
        let report = |surplus: u64| -> Report {
            let text = format!(
                r#"{{"events":3,"elapsed_ms":1,"dead_letters":{{"topics":[],"events":[],"unreadable":0}},"sinks":[{{
                   "sink":"webhook","compared":3,"equal":1,"missing":0,"surplus":{surplus},"changed":0,"violations":0,
                   "differences":[],"notes":[],"behind":0,"elapsed_ms":1}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let sinks = [view::SinkLine {
            name: "webhook-forwarder",
            ready: Ok(()),
            events: 0,
            p50: None,
            p99: None,
        }];
        assert!(summary(&report(0), &sinks, &[]).contains(" equal"));
        assert!(summary(&report(1), &sinks, &[]).contains("NOT EQUAL"));
        assert!(summary(&Report::default(), &sinks, &[]).contains("not compared"));
    }

    #[test]
    fn a_directory_that_the_demo_did_not_make_is_never_emptied() {
        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("thesis.txt"), "years of work").unwrap();
        assert!(
            empty(foreign.path())
                .unwrap_err()
                .what()
                .contains("not made by the demo")
        );
        assert!(foreign.path().join("thesis.txt").exists());
        let own = foreign.path().join("demo");
        empty(&own).unwrap();
        std::fs::write(own.join("data"), "").unwrap();
        empty(&own).unwrap();
        assert!(!own.join("data").exists());
    }
}
