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
use redrive::Reader;
use topics::Keep;

/// How many letters nobody has sent back, by service or endpoint.
///
/// # Errors
/// The broker does not answer (69).
pub(crate) async fn open(config: &Config) -> Result<BTreeMap<String, u64>, Failure> {
    let filter = Filter::of(&FilterArgs::default(), service::clock::now())?;
    let counts = topics::count(&config.kafka, &filter, Reader::of(config)).await?;
    Ok(counts.unsent())
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
    let keep = move |places: &mut Vec<Place>, letter: Letter| {
        if is_wanted(&letter) {
            places.push(letter.at);
        }
    };
    let mut places = topics::fold(kafka, &all, Vec::new(), keep).await?;
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
            let newest = Keep::Newest(args.limit);
            let found = topics::find(&config.kafka, &filter, newest, Reader::of(config)).await?;
            crate::cli::print(&list::letters(&found, output));
        }
        DlqCommand::Stats(args) => {
            let filter = Filter::of(&args.filter, now)?;
            let counts = topics::count(&config.kafka, &filter, Reader::of(config)).await?;
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
