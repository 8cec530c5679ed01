//! The command line: every word a user can type, with its help.

pub(crate) mod examples;
mod generate;
mod lineage;
mod output;
mod repeated;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::backfill::BackfillArgs;
pub use crate::completions::CompletionsArgs;
pub use crate::dlq::DlqCommand;
pub use crate::doctor::DoctorArgs;
pub use crate::erase::EraseArgs;
use crate::generator::Rate;
pub use crate::healthcheck::HealthcheckArgs;
pub use crate::lag::LagArgs;
pub use crate::rebuild::{RebuildClickhouseArgs, RebuildCommand, RebuildRedisArgs};
pub use crate::reset::ResetArgs;
pub use crate::settings::ConfigCommand;
pub use crate::tail::TailArgs;
pub use crate::top::TopArgs;
pub use crate::verify::VerifyArgs;
pub use generate::GenArgs;
pub use lineage::{AdoptArgs, Adopted, LineageCommand, ShowArgs};
pub(crate) use output::print;
pub use output::{Output, unread};

/// One tool for operators of Engage.
#[derive(Debug, Parser)]
#[command(
    name = "engagectl",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Configuration file (TOML); the environment and `--set` override it.
    #[arg(long, global = true, value_name = "FILE", env = "ENGAGE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Override one setting, for example `--set database.url=postgres://..`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plan, then create what is missing: tables, role, publication, topics, connector, ClickHouse table and views.
    Init(InitArgs),
    /// Check the configuration and every dependency; all problems at once.
    Check(CheckArgs),
    /// Everything of `check`, and how the pipeline does now: what was found, where, what would be right, the next command.
    Doctor(DoctorArgs),
    /// Print the least that each service needs in a server: ACLs, roles, grants. Asks nobody.
    Access(AccessArgs),
    /// Write a realistic stream of interactions into Postgres.
    Gen(GenArgs),
    /// Compare what every sink holds with what Postgres holds; reads only. Exit 0: equal.
    Verify(VerifyArgs),
    /// Bring rows of Postgres into the sinks again; the live stream goes first. Plan, ask, write, compare.
    Backfill(BackfillArgs),
    /// Follow one event: its commit, its way through the log, and into every sink; reads only.
    Trace(TraceArgs),
    /// Follow enriched events, changes or dead letters as they come; reads only, joins no group.
    Tail(TailArgs),
    /// How far each group is behind, in records and seconds, and when it will have caught up. Exit 1 above a maximum.
    Lag(LagArgs),
    /// All services on one screen: rates, freshness, lag, breakers, readiness, errors; lines in a pipe.
    Top(TopArgs),
    /// The configuration in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes commands and options in a shell.
    Completions(CompletionsArgs),
    /// Webhooks: a receiver to try deliveries with.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Positions, chains and epochs: whether the logs and every group agree.
    #[command(subcommand)]
    Lineage(LineageCommand),
    /// Dead letters: what services gave up, and its way back.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// A store that was lost, made anew: the aggregates in Redis, the table in ClickHouse.
    #[command(subcommand)]
    Rebuild(RebuildCommand),
    /// A person out of every store: look, and with --execute erase, and sign a receipt.
    Erase(EraseArgs),
    /// Where a consumer group goes on: print old and new offsets, and with --execute write them.
    Reset(ResetArgs),
    /// Write a marked row every few seconds and read it back from each sink; metrics on port 9107 (or ADMIN_ADDR).
    Canary(CanaryArgs),
    /// Ask the canary, or a receiver, whether it is well; for containers. Exit 1: it is not.
    Healthcheck(HealthcheckArgs),
    /// The whole pipeline on this machine, with a live view.
    Demo(DemoArgs),
    /// Start whatever of the pipeline is not running, in the background.
    Up(UpArgs),
    /// Stop what `up` started.
    #[command(after_help = examples::DOWN)]
    Down,
    /// Show what is running.
    #[command(after_help = examples::STATUS)]
    Status,
}

/// Options of `init`.
#[derive(Debug, Args)]
#[command(after_help = examples::INIT)]
pub struct InitArgs {
    /// Apply the plan without asking.
    #[arg(short, long)]
    pub yes: bool,
    /// Only show the plan.
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Leave a component out, because it is managed elsewhere or not used; may be repeated.
    #[arg(long, value_enum, value_name = "COMPONENT")]
    pub skip: Vec<Skip>,
}

/// What `init` and `check` can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Skip {
    /// The Debezium connector.
    Connect,
    /// The ClickHouse table and views.
    Clickhouse,
}

impl From<Skip> for platform::Component {
    fn from(skip: Skip) -> Self {
        match skip {
            Skip::Connect => Self::Connect,
            Skip::Clickhouse => Self::ClickHouse,
        }
    }
}

/// Options of `access`.
#[derive(Debug, Args)]
#[command(after_help = examples::ACCESS)]
pub struct AccessArgs {
    /// In which server.
    #[arg(value_enum)]
    pub server: Guarded,
}

/// The servers that know users and rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guarded {
    /// Commands for kafka-acls.sh; with `-o json` the rules themselves.
    Kafka,
    /// SQL for the owner of the tables.
    Postgres,
    /// Lines of an ACL file.
    Redis,
    /// SQL for an administrator.
    Clickhouse,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = examples::CHECK)]
pub struct CheckArgs {
    /// Leave a component out; may be repeated.
    #[arg(long, value_enum, value_name = "COMPONENT")]
    pub skip: Vec<Skip>,
}

/// Options of `trace`.
#[derive(Debug, Args)]
#[command(after_help = examples::TRACE)]
pub struct TraceArgs {
    /// The key of the event in `engagement_events`.
    #[arg(value_name = "EVENT-ID")]
    pub event_id: String,
    /// How far back the log is searched for an event that ClickHouse does not know.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1h")]
    pub since: Duration,
    /// A receiver that answers `GET /events` as `webhook listen` does: shows when it got the event.
    #[arg(long, value_name = "URL")]
    pub receiver: Option<url::Url>,
}

/// Verbs of `webhook`.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Receive deliveries, verify their signatures and show them at `/`.
    Listen(ListenArgs),
}

/// Options of `webhook listen`.
#[derive(Debug, Args)]
#[command(after_help = examples::LISTEN)]
pub struct ListenArgs {
    /// Where to listen.
    #[arg(long, env = "HTTP_ADDR", default_value = "127.0.0.1:5001")]
    pub addr: SocketAddr,
    /// A secret (`whsec_..`) that signatures are checked against; may be repeated. Without one, none is checked.
    #[arg(
        long = "secret",
        value_name = "WHSEC",
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub secrets: Vec<String>,
    /// A file with such secrets, separated by white space.
    #[arg(
        long,
        value_name = "FILE",
        env = "WEBHOOK_SECRET_FILE",
        conflicts_with = "secrets"
    )]
    pub secret_file: Option<PathBuf>,
    /// Add every delivery to this file before it is answered, and begin with what it holds, so that a restart
    /// forgets nothing.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Options of `canary`; each is also a key of `[canary]` and, where named, an environment variable.
#[derive(Debug, Args)]
#[command(after_help = examples::CANARY)]
pub struct CanaryArgs {
    /// Pause between two rows (environment: CANARY_EVERY; 5s).
    #[arg(long, value_parser = humantime::parse_duration)]
    pub every: Option<Duration>,
    /// A row that a sink does not show after this time is a failure (environment: CANARY_WITHIN; 60s).
    #[arg(long, value_parser = humantime::parse_duration)]
    pub within: Option<Duration>,
    /// Also read deliveries back from this receiver, as `webhook listen` shows them (environment: CANARY_RECEIVER).
    #[arg(long, value_name = "URL")]
    pub receiver: Option<url::Url>,
}

impl CanaryArgs {
    /// What was given, as `--set` takes it.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        let duration = |value: Duration| humantime::format_duration(value).to_string();
        let given = [
            ("every", self.every.map(duration)),
            ("within", self.within.map(duration)),
            ("receiver", self.receiver.as_ref().map(ToString::to_string)),
        ];
        given
            .into_iter()
            .filter_map(|(key, value)| Some(format!("canary.{key}={}", value?)))
            .collect()
    }
}

/// Options of `demo`.
#[derive(Debug, Args)]
#[command(after_help = examples::DEMO)]
pub struct DemoArgs {
    /// End by itself after this time, compare every sink with Postgres, and exit 0 only if all are equal.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Rows a second.
    #[arg(long, default_value = "100/s")]
    pub rate: Rate,
    /// Where servers and services keep their data; it is emptied at the start.
    #[arg(long, default_value = ".devstack/demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// Also start Jaeger and trace events; at the end, at least one trace must have reached every sink.
    #[arg(long)]
    pub tracing: bool,
}

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = examples::UP)]
pub struct UpArgs {
    /// Also generate rows at this rate; without it nothing is written.
    #[arg(long)]
    pub rate: Option<Rate>,
    /// Also start Jaeger and trace events. Services that run already are not started anew.
    #[arg(long)]
    pub tracing: bool,
}

/// Where `up`, `down` and `status` keep data, logs and process numbers.
pub const UP_DIR: &str = ".devstack/up";

#[cfg(test)]
mod named;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
