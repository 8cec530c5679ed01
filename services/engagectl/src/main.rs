//! The process around [`engagectl::interrupt::run`]: command line and exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use engagectl::cli::{Cli, Command};
use service::Exit;

/// How long the end waits for what still runs beside it.
const AT_THE_END: Duration = Duration::from_secs(1);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The only error is that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Err(error) = faults::arm() {
        eprintln!("engagectl: {error}");
        return Exit::Usage.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return engagectl::cli::unread(&error),
    };
    if let Command::Canary(args) = &cli.command {
        return engagectl::canary::main(&cli, args);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("engagectl: no runtime: {error}");
            return Exit::Internal.into();
        }
    };
    let output = cli.output;
    let ended = runtime.block_on(engagectl::interrupt::run(cli));
    // a question that a server or a person has not answered holds nothing up
    runtime.shutdown_timeout(AT_THE_END);
    match ended {
        Ok(engagectl::Outcome(code)) => code.map_or(ExitCode::SUCCESS, ExitCode::from),
        Err(failure) => {
            eprintln!("{}", output.failure(&failure));
            failure.exit().into()
        }
    }
}
