//! `engagectl backfill`: rows of Postgres into the sinks again, by a lane of their own.
//!
//! Invariant: nothing is written before the plan was shown and agreed to; whatever ends it, `--resume` goes on.

mod args;
mod copy;
mod emitter;
mod fence;
mod gauge;
mod ledger;
mod log;
mod misfit;
mod notes;
mod pace;
mod plan;
mod range;
mod readers;
mod route;
mod rows;
mod session;
mod source;
mod throttle;
mod view;
mod whole;

use std::time::Duration;

use ::verify::{Options, Sink};
use service::{Exit, Failure};
use stream::backfill::Addressee;
use tokio_util::sync::CancellationToken;

pub use args::BackfillArgs;
pub(crate) use whole::{Whole, whole};

use crate::Outcome;
use crate::cli::Output;
use crate::cli::print;
use crate::config::Config;
use crate::confirm;
use log::Log;
use plan::{Plan, resume_command};
use range::Range;
use session::Session;

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
    let agreed = Box::pin(agreed(config, args, log, output, &stop));
    let Some(agreed) = stop.run_until_cancelled(agreed).await else {
        let interrupted = Failure::try_again("interrupted; nothing was written");
        return Err(match args.resume {
            Some(id) => interrupted.next(resume_command(id)),
            None => interrupted,
        });
    };
    let Some(plan) = agreed? else {
        return Ok(Outcome(None));
    };
    let notes = plan.begin().await?;
    let spec = plan.run.spec.clone();
    let carried_out = async {
        let session = Session::open(config, args, plan, notes, stop.clone()).await?;
        session.carry_out().await
    };
    let carried_out = carried_out.await;
    let left_out = carried_out.map_err(|failure| failure.next(resume_command(spec.run)))?;
    let mut outcome = Outcome(None);
    if spec.sinks.contains(&Addressee::Clickhouse) {
        let compared = stop.run_until_cancelled(compare(config, spec.range, output));
        outcome = compared
            .await
            .unwrap_or_else(|| Err(not_compared(spec.range)))?;
    }
    Ok(Outcome(outcome.0.or(incomplete(&spec.sinks, left_out))))
}

/// Webhooks are not compared: rows that were left out are missing there, and nothing else says so.
fn incomplete(sinks: &[Addressee], left_out: u64) -> Option<Exit> {
    (left_out > 0 && sinks.contains(&Addressee::Webhook)).then_some(Exit::Repair)
}

fn not_compared(range: Range) -> Failure {
    let Range { start, end } = range;
    Failure::try_again("interrupted: everything is written, and not compared").next(format!(
        "engagectl verify --sinks clickhouse --from {start} --to {end} --within 60s"
    ))
}

/// Looks, plans, shows, asks, and takes the lock. `None`: nothing is to be written.
async fn agreed(
    config: &Config,
    args: &BackfillArgs,
    log: Log,
    output: Output,
    stop: &CancellationToken,
) -> Result<Option<Plan>, Failure> {
    let mut plan = Plan::make(config, args, log).await?;
    print(&view::plan(&plan.run, &plan.readers, plan.size, output));
    if plan.run.spec.sinks.contains(&Addressee::Clickhouse) {
        may_be_compared(config).await?;
    }
    let left = plan.size.rows.saturating_sub(plan.run.rows());
    if args.dry_run || !(args.yes || confirmed(left, stop).await?) {
        return Ok(None);
    }
    plan.lock().await?;
    Ok(Some(plan))
}

/// What is written for ClickHouse is compared at the end. Who may not read the table is told before anything is written.
async fn may_be_compared(config: &Config) -> Result<(), Failure> {
    let database = config.clickhouse.database.replace('`', "");
    let sql = format!("SELECT 1 FROM `{database}`.events_enriched LIMIT 0");
    let step = "looking whether its table can be compared";
    let asked = platform::run_in_clickhouse(&config.clickhouse, step, &sql).await;
    asked.map(drop).map_err(|error| {
        let said = error.to_string();
        match ::verify::clickhouse_remedy(&said) {
            Some(remedy) => Failure::usage(said).remedy(remedy),
            None => crate::init::failure(error),
        }
    })
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
            .remedy("read the plan above, then give the same command with --yes"));
    }
    confirm::confirmed(&format!("write these {rows} rows?"), stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_webhooks_did_not_get_are_no_success() {
        let (clickhouse, webhook) = (Addressee::Clickhouse, Addressee::Webhook);
        assert_eq!(incomplete(&[webhook], 0), None);
        assert_eq!(incomplete(&[webhook], 1), Some(Exit::Repair));
        assert_eq!(incomplete(&[clickhouse, webhook], 1), Some(Exit::Repair));
        // the comparison says whether it has them
        assert_eq!(incomplete(&[clickhouse], 1), None);
    }
}
