//! `engagectl`, the operator's tool: set up, check, generate, receive webhooks, run the demo.
//!
//! Invariant: results go to standard output, progress and errors to standard error, and every error ends with
//! what to do next.

pub mod canary;
mod check;
pub mod cli;
pub mod config;
pub mod demo;
mod generate;
pub mod generator;
mod init;
mod lineage;
mod local;
pub mod pipeline;
pub mod receiver;
pub mod verify;

use cli::{Cli, Command, ListenArgs, Output, WebhookCommand};
use config::Config;
use receiver::{Receiver, ReceiverOptions};
use secrecy::SecretString;
use service::{Exit, Failure};
use tokio_util::sync::CancellationToken;

/// Carries out one command line. `stop` is cancelled by Ctrl-C and SIGTERM.
///
/// # Errors
/// What was wrong, with the exit code.
pub async fn run(cli: Cli, stop: CancellationToken) -> Result<Outcome, Failure> {
    match &cli.command {
        Command::Init(args) => {
            let skip: Vec<_> = args.skip.iter().copied().map(Into::into).collect();
            init::run(&Config::load(&cli)?.platform(&skip), args, cli.output).await?;
        }
        Command::Check(args) => {
            let skip: Vec<_> = args.skip.iter().copied().map(Into::into).collect();
            return Ok(report(
                &check::run(&Config::load(&cli)?, &skip).await,
                cli.output,
            ));
        }
        Command::Gen(args) => generate::run(&Config::load(&cli)?, args, stop).await?,
        Command::Verify(args) => {
            return Box::pin(verify::run(&Config::load(&cli)?, args, cli.output)).await;
        }
        Command::Webhook(WebhookCommand::Listen(args)) => listen(args, stop).await?,
        Command::Lineage(command) => {
            return Box::pin(lineage::run(&Config::load(&cli)?, command, cli.output)).await;
        }
        // a process of its own, which `main` begins before there is a runtime
        Command::Canary(_) => {
            return Err(Failure::internal("the canary is not started from here"));
        }
        Command::Demo(args) => Box::pin(demo::run(args, stop)).await?,
        Command::Up(args) => Box::pin(local::up(args)).await?,
        Command::Down => local::down()?,
        Command::Status => local::status(cli.output).await?,
    }
    Ok(Outcome(None))
}

/// The end of a command that did what it was asked: 0, or for `check` the code of the gravest problem found.
#[derive(Clone, Copy, Debug)]
pub struct Outcome(pub Option<Exit>);

fn report(findings: &[service::Finding], output: Output) -> Outcome {
    init::print(&match output {
        Output::Table => service::finding::render(findings),
        Output::Json => format!("{:#}\n", service::finding::render_json(findings)),
    });
    Outcome(service::finding::exit(findings))
}

async fn listen(args: &ListenArgs, stop: CancellationToken) -> Result<(), Failure> {
    let options = ReceiverOptions {
        addr: args.addr,
        secrets: args
            .secrets
            .iter()
            .map(|secret| SecretString::from(secret.as_str()))
            .collect(),
        record: args.record.clone(),
        ..ReceiverOptions::default()
    };
    let receiver = Receiver::bind(&options)
        .await
        .map_err(|e| Failure::usage("the receiver cannot start").cause(e))?;
    eprintln!("listening on http://{}/", receiver.addr());
    receiver
        .run(stop)
        .await
        .map_err(|e| Failure::internal("the receiver stopped").cause(e))
}
