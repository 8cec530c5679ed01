//! `engagectl doctor`: everything that `check` looks at, and how the pipeline does now.
//!
//! Probes ask (`probe`), pure functions judge (`judge`), and `report` shows. Invariant: nothing is changed, joined, committed or
//! delivered, and a server that is away or silent hides nothing of the others.

mod args;
mod captured;
mod judge;
mod probe;
mod report;
mod targets;
mod watch;

use futures_util::future::join_all;
use platform::Component;
use service::Failure;
use tokio_util::sync::CancellationToken;

pub use args::{DoctorArgs, Retained};
use judge::webhook::Target;
use probe::{Notes, within};
use report::Diagnosis;

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;

/// A name to connect with; it is no group that anybody is in.
const NAME: &str = "engagectl-doctor";

/// Looks once and shows what it found, or watches until Ctrl-C or a loss.
///
/// # Errors
/// A file of endpoints that cannot be used (64).
pub(crate) async fn run(
    config: &Config,
    args: &DoctorArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    if args.watch {
        return Box::pin(watch::run(config, args, output, stop)).await;
    }
    let targets = targets::read(args)?;
    let looking = stop.run_until_cancelled(Box::pin(look(config, args, targets)));
    let Some(found) = looking.await else {
        return Err(Failure::try_again(
            "interrupted before everything was looked at",
        ));
    };
    crate::init::print(&match output {
        Output::Table => report::text(&found),
        Output::Json => format!("{:#}\n", report::json(&found)),
    });
    Ok(Outcome(report::exit(&found)))
}

/// What every probe needs.
#[derive(Clone)]
struct Asked {
    config: Config,
    settings: platform::Settings,
    retained: Retained,
    margin: std::time::Duration,
    /// Whether slot and connector are looked at.
    capture: bool,
}

async fn look(config: &Config, args: &DoctorArgs, targets: Vec<Target>) -> Vec<Diagnosis> {
    let skip: Vec<Component> = args.skip.iter().copied().map(Into::into).collect();
    let asked = Asked {
        settings: config.platform(&skip),
        config: config.clone(),
        retained: args.retained,
        margin: args.margin,
        capture: args.looks_at(Component::Connect),
    };
    let deadline = args.deadline;
    let (postgres, kafka, connect, clickhouse) =
        (asked.clone(), asked.clone(), asked.clone(), asked.clone());
    let (redis, webhooks) = (asked.config.redis.clone(), targets.into_iter());
    let servers = async {
        let (postgres, kafka, redis) = tokio::join!(
            within("postgres", deadline, move |notes| probe::postgres::look(
                postgres, notes
            )),
            within("kafka", deadline, move |notes| probe::kafka::look(
                kafka, notes
            )),
            within("redis", deadline, move |notes| probe::redis::look(
                redis, notes
            )),
        );
        [postgres, kafka, redis].concat()
    };
    let optional = async {
        let (connect, clickhouse) = tokio::join!(
            within_if(
                args.looks_at(Component::Connect),
                "connect",
                deadline,
                move |notes| { probe::connect::look(connect, notes) }
            ),
            within_if(
                args.looks_at(Component::ClickHouse),
                "clickhouse",
                deadline,
                move |notes| { probe::clickhouse::look(clickhouse, notes) }
            ),
        );
        [connect, clickhouse].concat()
    };
    let webhooks = join_all(webhooks.map(|target| {
        within("webhook", deadline, move |notes| {
            probe::webhook::look(target, notes)
        })
    }));
    let (servers, optional, webhooks) = tokio::join!(servers, optional, webhooks);
    [servers, optional, webhooks.concat()].concat()
}

async fn within_if<F: Future<Output = ()>>(
    is_wanted: bool,
    what: &'static str,
    deadline: std::time::Duration,
    probe: impl FnOnce(Notes) -> F + Send + 'static,
) -> Vec<Diagnosis> {
    if is_wanted {
        within(what, deadline, probe).await
    } else {
        Vec::new()
    }
}
