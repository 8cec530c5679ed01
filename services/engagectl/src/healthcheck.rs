//! `engagectl healthcheck`: whether the canary or a receiver is well, for containers without curl.
//!
//! Invariant: it answers within its deadline, whatever is asked does; no configuration is read.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;
use service::{Exit, Failure, healthcheck};

use crate::cli::{self, Output};
use crate::{Outcome, off_the_runtime};

const NOTES: &str = "\
Exit codes: 0 it is well; 1 it is not, or does not answer within two seconds.

Examples:
  engagectl healthcheck                             the canary of this machine
  engagectl healthcheck --addr 127.0.0.1:5001 --path /health";

/// Options of `healthcheck`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct HealthcheckArgs {
    /// Where it listens; an unspecified address means this machine.
    #[arg(long, env = "ADMIN_ADDR", default_value = "127.0.0.1:9107")]
    pub addr: SocketAddr,
    /// What is asked for: `/readyz` or `/livez` of the canary and of a service, `/health` of a receiver.
    #[arg(long, default_value = "/readyz")]
    pub path: String,
}

/// Asks, and tells the answer.
pub(crate) async fn run(args: &HealthcheckArgs, output: Output) -> Result<Outcome, Failure> {
    let (addr, path) = (args.addr, args.path.clone());
    let answer = off_the_runtime(move || healthcheck::ask(addr, &path)).await?;
    cli::print(&match output {
        Output::Table => format!("{}\n", answer.text),
        Output::Json => format!("{:#}\n", json!({"ok": answer.ok, "text": answer.text})),
    });
    Ok(Outcome((!answer.ok).then_some(Exit::No)))
}
