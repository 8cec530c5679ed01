//! `engagectl`, the operator's tool: set up, check, generate, receive webhooks, run the demo.
//!
//! Invariant: results go to standard output, progress and errors to standard error, and every error ends with
//! what to do next.

mod access;
mod backfill;
pub mod canary;
mod check;
pub mod cli;
mod completions;
pub mod config;
mod confirm;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod erase;
mod expression;
pub mod freshness;
mod generate;
pub mod generator;
mod groups;
mod healthcheck;
mod init;
pub mod interrupt;
pub mod jaeger;
mod kafka;
mod lag;
mod lineage;
mod local;
pub mod moment;
pub mod pipeline;
mod rebuild;
pub mod receiver;
pub mod reference;
pub mod reset;
mod screen;
mod settings;
mod tail;
mod top;
mod trace;
pub mod verify;

use cli::{Cli, Command, ListenArgs, WebhookCommand};
use config::Config;
use receiver::{Receiver, ReceiverOptions};
use secrecy::SecretString;
use service::config::Loader;
use service::telemetry::Telemetry;
use service::{Exit, Failure};
use tokio_util::sync::CancellationToken;

/// Carries out one command line. `stop` is cancelled by Ctrl-C and SIGTERM.
///
/// # Errors
/// What was wrong, with the exit code.
pub async fn run(cli: Cli, stop: CancellationToken) -> Result<Outcome, Failure> {
    let again = cli.repeated();
    let first = cli.command.at_first_signal();
    let work = Box::pin(carry_out(cli, stop.clone()));
    let done = interrupt::obey(first, &stop, work).await;
    match again {
        Some(again) => done.map_err(|failure| failure.next_with("engagectl", &again)),
        None => done,
    }
}

async fn carry_out(cli: Cli, stop: CancellationToken) -> Result<Outcome, Failure> {
    let output = cli.output;
    let load = || Config::load(&cli);
    match &cli.command {
        Command::Init(args) => init::run(&load()?, args, output, &stop).await?,
        Command::Check(args) => return Ok(check::run(&load()?, args, output).await),
        Command::Doctor(args) => return Box::pin(doctor::run(&load()?, args, output, stop)).await,
        Command::Healthcheck(args) => return healthcheck::run(args, output).await,
        Command::Access(args) => cli::print(&access::text(&load()?, args.server, output)),
        Command::Gen(args) => generate::run(&load()?, args, output, stop).await?,
        Command::Verify(args) => {
            let again = cli.repeated();
            return Box::pin(verify::run(&load()?, args, output, again.as_deref())).await;
        }
        Command::Backfill(args) => {
            return Box::pin(backfill::run(&load()?, args, output, stop)).await;
        }
        Command::Trace(args) => Box::pin(trace::run(&load()?, args, output)).await?,
        Command::Tail(args) => Box::pin(tail::run(&load()?, args, output, stop)).await?,
        Command::Lag(args) => return Box::pin(lag::run(&load()?, args, output, stop)).await,
        Command::Top(args) => Box::pin(top::run(args, output, stop)).await?,
        Command::Config(command) => cli::print(&settings::text(&cli, command)?),
        Command::Completions(args) => cli::print(&completions::script(args)),
        Command::Webhook(WebhookCommand::Listen(args)) => listen(args, stop).await?,
        Command::Lineage(verb) => return Box::pin(lineage::run(&load()?, verb, output)).await,
        Command::Dlq(verb) => return Box::pin(dlq::run(&load()?, verb, output, stop)).await,
        Command::Rebuild(verb) => return Box::pin(rebuild::run(&load()?, verb, output)).await,
        Command::Erase(args) => Box::pin(erase::run(&load()?, args, output)).await?,
        Command::Reset(args) => return Box::pin(reset::run(&load()?, args, output)).await,
        // a process of its own, which `main` begins before there is a runtime
        Command::Canary(_) => {
            return Err(Failure::internal("the canary is not started from here"));
        }
        Command::Demo(args) => Box::pin(demo::run(args, stop)).await?,
        Command::Up(args) => Box::pin(local::up(args)).await?,
        Command::Down => off_the_runtime(local::down).await??,
        Command::Status => return local::status(output).await,
    }
    Ok(Outcome(None))
}

/// The end of a command that did what it was asked: 0, for `check` the code of the gravest problem found, for a question the
/// answer.
#[derive(Clone, Copy, Debug)]
pub struct Outcome(pub Option<Exit>);

/// The secrets given by option, and those of the file, separated by white space.
fn signing_secrets(args: &ListenArgs) -> Result<Vec<SecretString>, Failure> {
    let mut text = args.secrets.join(" ");
    if let Some(path) = &args.secret_file {
        let file = std::fs::read_to_string(path).map_err(|e| {
            Failure::usage(format!("cannot read {}", path.display()))
                .cause(e)
                .remedy("name a readable file with secrets (whsec_..) after --secret-file")
        })?;
        text = format!("{text} {file}");
    }
    Ok(text.split_whitespace().map(SecretString::from).collect())
}

async fn listen(args: &ListenArgs, stop: CancellationToken) -> Result<(), Failure> {
    let options = ReceiverOptions {
        addr: args.addr,
        secrets: signing_secrets(args)?,
        record: args.record.clone(),
        ..ReceiverOptions::default()
    };
    let receiver = Receiver::bind(&options)
        .await
        .map_err(|e| Failure::usage("the receiver cannot start").cause(e))?;
    eprintln!("listening on http://{}/", receiver.addr());
    let traces = off_the_runtime(start_traces).await??;
    let ran = receiver.run(stop).await;
    off_the_runtime(|| traces.shutdown()).await?;
    ran.map_err(|e| Failure::internal("the receiver stopped").cause(e))
}

/// The receiver's spans, if the environment says where they go (`OTEL_*`, as for the services).
fn start_traces() -> Result<Telemetry, Failure> {
    let settings = Loader::new(&[]).process_environment().common().telemetry;
    service::telemetry::traces_only("webhook-receiver", &settings)
}

/// What blocks.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::internal("a blocking step panicked").cause(e))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn secrets(arguments: &[&str]) -> Result<Vec<String>, Failure> {
        let line = ["engagectl", "webhook", "listen"].iter().chain(arguments);
        let cli = Cli::try_parse_from(line).map_err(|error| Failure::usage(error.to_string()))?;
        let Command::Webhook(WebhookCommand::Listen(args)) = cli.command else {
            panic!("another command");
        };
        let found = signing_secrets(&args)?;
        Ok(found.iter().map(|s| s.expose_secret().to_owned()).collect())
    }

    #[test]
    fn signing_secrets_come_from_options_or_from_a_file_that_must_be_readable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "whsec_b\nwhsec_c\n").unwrap();
        let path = file.path().to_str().unwrap();
        let found = secrets(&["--secret-file", path]).unwrap();
        assert_eq!(found, ["whsec_b", "whsec_c"]);
        let found = secrets(&["--secret", "whsec_a", "--secret", "whsec_b"]).unwrap();
        assert_eq!(found, ["whsec_a", "whsec_b"]);
        let both = ["--secret", "whsec_a", "--secret-file", path];
        for wrong in [&["--secret-file", "/nowhere/secret"][..], &both] {
            assert_eq!(secrets(wrong).unwrap_err().exit().code(), 64);
        }
    }
}
