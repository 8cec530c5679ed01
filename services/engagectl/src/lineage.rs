//! `engagectl lineage show` and `engagectl lineage adopt`: what the logs and the groups say about each other, and how
//! a pipeline goes on after one of its topics was recreated.
//!
//! Invariant: `show` changes nothing; `adopt` writes only positions, only of groups without members, and only where
//! the service itself would refuse to go on.

mod adopt;
pub(crate) mod aggregates;
mod broker;
mod facts;
mod judge;
mod scan;
mod show;

use service::{Exit, Failure};

use crate::Outcome;
use crate::cli::{AdoptArgs, LineageCommand, Output, ShowArgs};
use crate::config::Config;
use aggregates::Aggregates;
use broker::Broker;
use facts::Partition;

/// Carries out one of the two.
///
/// # Errors
/// The servers cannot be asked (69), or what is asked for cannot be done (64, 75, 78).
pub(crate) async fn run(
    config: &Config,
    command: &LineageCommand,
    output: Output,
) -> Result<Outcome, Failure> {
    match command {
        LineageCommand::Show(args) => show(config, args, output).await,
        LineageCommand::Adopt(args) => adopt(config, args, output).await,
    }
}

async fn show(config: &Config, args: &ShowArgs, output: Output) -> Result<Outcome, Failure> {
    let broker = Broker::open(config, args.topic.as_deref()).await?;
    let aggregates = Aggregates::of(config);
    let mut shown = Vec::new();
    for number in broker.partitions(args.partition)? {
        let facts = Partition::read(&broker, aggregates.as_ref(), number).await?;
        let scan = match args.check {
            true => Some(scan::run(&broker, number, args.from, args.to).await?),
            false => None,
        };
        shown.push(show::Shown { facts, scan });
    }
    crate::cli::print(&match output {
        Output::Table => show::text(&broker, &shown),
        Output::Json => format!("{:#}\n", show::json(&broker, &shown)),
    });
    let violated = shown.iter().any(show::Shown::is_violated);
    Ok(Outcome(violated.then_some(Exit::Repair)))
}

async fn adopt(config: &Config, args: &AdoptArgs, output: Output) -> Result<Outcome, Failure> {
    let broker = Broker::open(config, None).await?;
    let aggregates = Aggregates::of(config);
    let mut plan = Vec::new();
    for number in broker.partitions(args.partition)? {
        let facts = Partition::read(&broker, aggregates.as_ref(), number).await?;
        plan.extend(adopt::decide(&broker, &facts, args).await?);
    }
    crate::cli::print(&match output {
        Output::Table => adopt::text(&plan, args.execute),
        Output::Json => format!("{:#}\n", adopt::json(&plan)),
    });
    if args.execute {
        adopt::execute(&broker, aggregates.as_ref(), &plan).await?;
    }
    Ok(Outcome(None))
}
