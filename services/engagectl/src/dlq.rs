//! `engagectl dlq`: what services gave up, and its way back.
//!
//! Invariant: `redrive` and `purge` change nothing without `--execute`; everything else only reads.

mod args;
mod export;
mod filter;
mod list;
mod purge;
mod redrive;
mod show;
mod stats;
mod summary;
#[cfg(test)]
mod testing;
mod topics;

use std::collections::BTreeMap;

use service::Failure;
use stream::KafkaSettings;
use stream::dead_letter::{Letter, Place};
use tokio_util::sync::CancellationToken;

pub use args::{
    DlqCommand, ExportArgs, FilterArgs, LsArgs, PurgeArgs, RedriveArgs, ShowArgs, StatsArgs,
};
pub use filter::{Origin, Wanted};

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use filter::Filter;
use list::Newest;
use stats::Counts;
use summary::Summary;
use topics::{Known, Marks, fold};

/// How many letters nobody has sent back, by service or endpoint.
///
/// # Errors
/// The broker does not answer (69).
pub(crate) async fn open(config: &Config) -> Result<BTreeMap<String, u64>, Failure> {
    let filter = Filter::of(&FilterArgs::default(), service::clock::now())?;
    Ok(count(config, &filter).await?.unsent())
}

async fn count(config: &Config, filter: &Filter) -> Result<Counts, Failure> {
    let add = |counts: &mut Counts, known: &Known, letter: Letter| {
        let sent_to = known.sent_to(&letter.at).cloned();
        counts.add(Summary::of(letter), sent_to);
    };
    let counted = fold(&config.kafka, filter, Marks::First, Counts::default(), add);
    counted.await.map(|(counts, _)| counts)
}

/// Where the letters of all services stand that are wanted, in that order; reads only.
///
/// # Errors
/// The broker does not answer (69).
pub(crate) async fn places(
    kafka: &KafkaSettings,
    is_wanted: impl Fn(&Letter) -> bool + Send + 'static,
) -> Result<Vec<Place>, Failure> {
    let all = Filter::of(&FilterArgs::default(), service::clock::now())?;
    let keep = move |places: &mut Vec<Place>, _: &Known, letter: Letter| {
        if is_wanted(&letter) {
            places.push(letter.at);
        }
    };
    let (mut places, _) = fold(kafka, &all, Marks::Along, Vec::new(), keep).await?;
    places.sort();
    Ok(places)
}

/// Carries out one of the verbs. `stop` ends a redrive after the letter under way.
///
/// # Errors
/// What was asked for cannot be (64), the broker does not answer (69), or a redrive has not come to its end (75, 78).
pub(crate) async fn run(
    config: &Config,
    command: &DlqCommand,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    let now = service::clock::now();
    match command {
        DlqCommand::Ls(args) => {
            let filter = Filter::of(&args.filter, now)?;
            let newest = Newest::new(args.limit);
            let add = |newest: &mut Newest, _: &Known, letter: Letter| {
                newest.add(Summary::of(letter));
            };
            let listed = fold(&config.kafka, &filter, Marks::Along, newest, add);
            let (newest, known) = listed.await?;
            crate::cli::print(&newest.shown(&known, output));
        }
        DlqCommand::Stats(args) => {
            let filter = Filter::of(&args.filter, now)?;
            let counts = count(config, &filter).await?;
            crate::cli::print(&counts.shown(output));
        }
        DlqCommand::Show(args) => show::run(config, args, output).await?,
        DlqCommand::Export(args) => {
            let filter = Filter::of(&args.filter, now)?;
            export::run(&config.kafka, &filter).await?;
        }
        DlqCommand::Redrive(args) => return redrive::run(config, args, output, stop).await,
        DlqCommand::Purge(args) => purge::run(config, args, output).await?,
    }
    Ok(Outcome(None))
}
