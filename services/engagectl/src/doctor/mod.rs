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

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join_all};
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
    crate::cli::print(&match output {
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
    margin: Duration,
    deadline: Duration,
    /// Whether slot and connector are looked at.
    capture: bool,
}

/// A probe under way.
type Probing = LocalBoxFuture<'static, Vec<Diagnosis>>;

impl Asked {
    fn of(config: &Config, args: &DoctorArgs) -> Self {
        let skip: Vec<Component> = args.skip.iter().copied().map(Into::into).collect();
        Self {
            settings: config.platform(&skip),
            config: config.clone(),
            retained: args.retained,
            margin: args.margin,
            deadline: args.deadline,
            capture: args.looks_at(Component::Connect),
        }
    }

    fn probe<F: Future<Output = ()> + 'static>(
        &self,
        what: &'static str,
        look: impl FnOnce(Self, Notes) -> F + Send + 'static,
    ) -> Probing {
        let asked = self.clone();
        within(what, self.deadline, move |notes| look(asked, notes)).boxed_local()
    }
}

/// Asks all of them side by side.
async fn look(config: &Config, args: &DoctorArgs, targets: Vec<Target>) -> Vec<Diagnosis> {
    let asked = Asked::of(config, args);
    let mut probes = vec![
        asked.probe("postgres", probe::postgres::look),
        asked.probe("kafka", probe::kafka::look),
        asked.probe("redis", probe::redis::look),
    ];
    if asked.capture {
        probes.push(asked.probe("connect", probe::connect::look));
    }
    if args.looks_at(Component::ClickHouse) {
        probes.push(asked.probe("clickhouse", probe::clickhouse::look));
    }
    for target in targets {
        probes.push(asked.probe("webhook", move |_, notes| {
            probe::webhook::look(target, notes)
        }));
    }
    join_all(probes).await.concat()
}
