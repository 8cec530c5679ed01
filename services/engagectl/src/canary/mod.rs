//! `engagectl canary`: a row written every few seconds and read back from each sink by value, for as long as it runs.
//!
//! What services say of themselves cannot tell whether a row that a user commits can be seen. This asks the stores, as a reader
//! would. Its rows refer to contents of their own and are marked, so that analyses can leave them out (docs/operations.md).
//!
//! Invariant: it writes rows of its own contents and nothing else, and a sink that is slow or away holds up neither the next
//! row nor another sink.

mod groups;
mod metrics;
mod row;
mod settings;
mod sinks;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service::config::EnvKey;
use service::metrics::Metric;
use service::{App, Condition, Context, Failure, Finding};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::cli::{CanaryArgs, Cli};
use crate::config::{Config, ENV};
pub use row::{CONTENTS, DEVICE};
use row::{Row, Writer};
pub use settings::CanarySettings;
use sinks::{Sink, Verdict};

/// Longest time for one row to be written.
const WRITE: Duration = Duration::from_secs(5);
/// Pause between two looks for one row.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time of one look.
const ANSWER: Duration = Duration::from_secs(5);

/// The long-running command as a process of its own: admin port, metrics, logs, signals.
#[derive(Debug)]
pub struct Canary;

impl App for Canary {
    const NAME: &str = "canary";
    const ABOUT: &str = "Writes a row every few seconds and reads it back from each sink";
    const ADMIN_PORT: u16 = 9107;
    const ENV: &'static [EnvKey] = ENV;
    const METRICS: &'static [&'static [Metric]] = &[metrics::OWN];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        let sinks = Sink::all(&config)?;
        sinks.iter().for_each(|sink| metrics::begin(sink.name()));
        let writer = Writer::new(&config.database, config.canary.contents.get());
        let database = ctx.health.condition("postgres");
        groups::watch(&config, &ctx);
        rounds(&config.canary, writer, &sinks, &database, &ctx).await;
        Ok(())
    }

    async fn check(_: &Config) -> Vec<Finding> {
        Vec::new()
    }
}

/// Runs it until it is told to stop.
#[must_use]
pub fn main(cli: &Cli, args: &CanaryArgs) -> ExitCode {
    service::serve::<Canary>(&Config::loader(cli).set(args.settings()))
}

async fn rounds(
    settings: &CanarySettings,
    mut writer: Writer,
    sinks: &[Arc<Sink>],
    database: &Condition,
    ctx: &Context,
) {
    let stop = ctx.lifecycle.soft();
    let mut ticks = interval(settings.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking = JoinSet::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        while looking.try_join_next().is_some() {}
        let writing = stop.run_until_cancelled(write(&mut writer));
        let Some(written) = writing.await else { return };
        match written {
            Ok(row) => {
                database.ready();
                for sink in sinks {
                    looking.spawn(follow(Arc::clone(sink), row.clone(), settings.within));
                }
            }
            Err(reason) => {
                metrics::failed("postgres", "refused");
                tracing::warn!(reason, "no canary row was written");
                database.not_ready(reason);
            }
        }
    }
}

async fn write(writer: &mut Writer) -> Result<Row, String> {
    match timeout(WRITE, writer.write()).await {
        Ok(Ok(row)) => {
            metrics::written();
            Ok(row)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            writer.disconnect();
            Err(format!("no answer within {} s", WRITE.as_secs()))
        }
    }
}

/// Looks for a row in one sink until it is there, or has been missing for too long.
async fn follow(sink: Arc<Sink>, row: Row, within: Duration) {
    let mut last = String::from("it is not there");
    let begun = Instant::now();
    while begun.elapsed() < within {
        match timeout(ANSWER, sink.look(&row)).await {
            Ok(Ok(Verdict::There)) => {
                metrics::seen(sink.name(), begun.elapsed());
                return;
            }
            Ok(Ok(Verdict::Wrong(what))) => {
                metrics::failed(sink.name(), "wrong");
                tracing::error!(
                    sink = sink.name(),
                    event_id = row.event_id,
                    what,
                    "the canary row is there and is not what was written"
                );
                return;
            }
            Ok(Ok(Verdict::Absent)) => {}
            Ok(Err(reason)) => last = reason,
            Err(_) => last = format!("no answer within {} s", ANSWER.as_secs()),
        }
        sleep(LOOK).await;
    }
    metrics::failed(sink.name(), "late");
    tracing::warn!(
        sink = sink.name(),
        event_id = row.event_id,
        within_s = within.as_secs(),
        last,
        "the canary row has not arrived"
    );
}
