//! `engagectl rebuild`: the aggregates in Redis, and the table in ClickHouse, made anew after they were lost.
//!
//! Invariant: nothing is written without `--execute`, nor while the services that own the store are at work; a rebuild that is killed
//! anywhere is carried out by running it again.

mod args;
mod clickhouse;
mod cut;
mod log;
mod place;
mod redis;
mod refill;
mod sums;
mod table;
mod view;
mod works;

use service::Failure;

pub use args::{RebuildClickhouseArgs, RebuildCommand, RebuildRedisArgs};

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;

/// Carries out one of the two.
///
/// # Errors
/// A server cannot be asked (69), the services are at work (75), or what is there must be repaired first (78).
pub(crate) async fn run(
    config: &Config,
    command: &RebuildCommand,
    output: Output,
) -> Result<Outcome, Failure> {
    match command {
        RebuildCommand::Redis(args) => redis::run(config, args, output).await?,
        RebuildCommand::Clickhouse(args) => clickhouse::run(config, args, output).await?,
    }
    Ok(Outcome(None))
}

/// Nobody is to be in a group of which something is written.
fn idle(group: &str, members: &[String], next: &str) -> Result<(), Failure> {
    if members.is_empty() {
        return Ok(());
    }
    Err(
        Failure::try_again(format!("group {group} has members: {}", members.join(", ")))
            .remedy(format!(
                "stop every process of {group} first (a member that died is listed until its session ends)"
            ))
            .next(next),
    )
}
