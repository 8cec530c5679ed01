//! The command line that every service has.
//! Invariant: bad usage exits 64, as the contract says, not with clap's 2.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::config::{COMMON_ENV, EnvKey};
use crate::{App, Exit};

/// What was asked for.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    /// TOML file with the configuration
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Sets one key, as in `--set log.format=pretty`; goes before file and environment
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The commands; `run` unless told otherwise.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service (the default)
    Run,
    /// Check configuration and live dependencies, and report all problems at once
    Check(Form),
    /// Ask the running service whether it is ready; exit 0 or 1
    Healthcheck {
        /// Ask whether it is alive instead
        #[arg(long)]
        live: bool,
    },
    /// The configuration in force
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every key with its value and where it comes from; secrets are hidden
    Show(Form),
}

/// How the result is printed.
#[derive(Debug, Args)]
pub(crate) struct Form {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person.
    Table,
    /// For a program.
    Json,
}

/// Reads the arguments of this process; otherwise how to exit (help, version, bad usage).
pub(crate) fn parse<A: App>() -> Result<Cli, ExitCode> {
    let command = Cli::command()
        .name(A::NAME)
        .about(A::ABOUT)
        // Once per process.
        .version(&*format!("{} ({})", crate::VERSION, crate::GIT_SHA).leak())
        .after_help(environment(A::ENV));
    let parsed = command
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let help = !error.use_stderr();
        // Nothing can be done about a closed terminal.
        let _ = error.print();
        if help {
            ExitCode::SUCCESS
        } else {
            Exit::Usage.into()
        }
    })
}

/// The variables of this service, for `--help`.
fn environment(keys: &[EnvKey]) -> String {
    let all = keys.iter().chain(COMMON_ENV);
    let width = all.clone().map(|key| key.name.len()).max().unwrap_or(0);
    let mut text = String::from("Environment (a value of `--set` goes before it):\n");
    for EnvKey { name, key, secret } in all {
        let note = if *secret {
            ", or the file that NAME_FILE names"
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<width$}  {key}{note}");
    }
    text
}
