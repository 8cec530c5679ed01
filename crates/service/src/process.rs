//! From `main` to the exit code: what each command does.
//! Invariant: every failure ends in one block on standard error and one ERROR line in the log, and in its exit code.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use crate::allocator;
use crate::cli::{self, Cli, Command, ConfigCommand, Output};
use crate::config::{CommonConfig, Loaded, Loader, ServiceConfig, render};
use crate::telemetry::{self, LogTo};
use crate::{App, Exit, Failure, Finding, finding, healthcheck, run};

/// `check` as a whole; each look has its own, shorter limit.
const CHECK_DEADLINE: Duration = Duration::from_secs(60);

/// Runs the service as a process: the whole of its `main`.
#[must_use]
pub fn main<A: App>() -> ExitCode {
    allocator::keep_one_arena();
    // One provider for all TLS in the process; an Err means that somebody installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Err(error) = faults::arm() {
        return end::<A>(Err(Failure::usage(error.to_string())));
    }
    let cli = match cli::parse::<A>() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let loader = loader::<A>(&cli);
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => serve::<A>(&loader),
        Command::Check(form) => check::<A>(&loader, form.output),
        Command::Healthcheck { live } => health::<A>(&loader, live),
        Command::Config(ConfigCommand::Show(form)) => show::<A>(&loader, form.output),
    }
}

fn loader<A: App>(cli: &Cli) -> Loader {
    Loader::new(A::ENV)
        .file(cli.config.as_deref())
        .process_environment()
        .set(cli.set.iter().cloned())
}

/// Where the admin port of this service is.
fn admin_addr<A: App>(common: &CommonConfig) -> SocketAddr {
    common
        .admin
        .addr
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, A::ADMIN_PORT).into())
}

/// Runs the service with what this loader finds, to the exit code. For a tool with a command line of its own; a service calls
/// [`main`].
#[must_use]
pub fn serve<A: App>(loader: &Loader) -> ExitCode {
    let (common, loaded) = match loader.load_service::<A::Config>() {
        Ok(loaded) => (loaded.config.common.clone(), Ok(loaded)),
        Err(error) => (loader.common(), Err(error.into_failure(A::NAME))),
    };
    let telemetry = match telemetry::init(A::NAME, &common, LogTo::Stdout) {
        Ok(telemetry) => telemetry,
        Err(failure) => return end::<A>(Err(failure)),
    };
    let result = loaded.and_then(|loaded| {
        loaded
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let addr = admin_addr::<A>(&common);
        run::to_the_end::<A>(loaded.config.app, addr, common.lifecycle.drain_deadline)
    });
    telemetry.shutdown();
    end::<A>(result)
}

/// The last thing a process does.
fn end<A: App>(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    tracing::error!(
        error = failure.what(),
        causes = failure.causes().join(": "),
        remedy = failure.remedy_text(),
        next = failure.next_command(),
        exit = failure.exit().code(),
        "stopped"
    );
    eprint!("{}", failure.render(A::NAME));
    failure.exit().into()
}

fn check<A: App>(loader: &Loader, output: Output) -> ExitCode {
    let findings = match loader.load_service::<A::Config>() {
        Err(error) => error.to_findings(),
        Ok(loaded) => {
            say(&loaded.warnings);
            live_findings::<A>(&loaded)
        }
    };
    let text = match output {
        Output::Table => finding::render(&findings),
        Output::Json => format!("{:#}\n", finding::render_json(&findings)),
    };
    print(&text);
    finding::exit(&findings).map_or(ExitCode::SUCCESS, ExitCode::from)
}

fn live_findings<A: App>(loaded: &Loaded<ServiceConfig<A::Config>>) -> Vec<Finding> {
    let set = loaded
        .entries
        .iter()
        .filter(|entry| entry.value.is_some())
        .count();
    let mut findings = vec![Finding::ok(
        "configuration",
        format!("{set} values set, the rest by default"),
    )];
    // What a library logs while it fails is in the findings too; a missing log is no reason not to check.
    let _telemetry = telemetry::init(A::NAME, &quiet(&loaded.config.common), LogTo::Stderr).ok();
    let looked = runtime::<A>().map(|runtime| {
        let looked = runtime.block_on(async {
            tokio::time::timeout(CHECK_DEADLINE, Box::pin(A::check(&loaded.config.app))).await
        });
        runtime.shutdown_background();
        looked
    });
    match looked {
        Ok(Ok(more)) => findings.extend(more),
        Ok(Err(_)) => findings.push(Finding::problem(
            "check",
            Exit::Unavailable,
            format!("not done after {} s", CHECK_DEADLINE.as_secs()),
            "a dependency accepts connections but does not answer; look at its log",
        )),
        Err(failure) => findings.push(Finding::problem(
            "check",
            failure.exit(),
            failure.causes().join(": "),
            failure.what(),
        )),
    }
    findings
}

/// No traces, and only errors, unless asked for otherwise.
fn quiet(common: &CommonConfig) -> CommonConfig {
    let mut quiet = common.clone();
    quiet.telemetry.disabled = true;
    if quiet.log == crate::config::LogConfig::default() {
        quiet.log = crate::config::LogConfig::quiet();
    }
    quiet
}

fn health<A: App>(loader: &Loader, live: bool) -> ExitCode {
    let path = if live { "/livez" } else { "/readyz" };
    let answer = healthcheck::ask(admin_addr::<A>(&loader.common()), path);
    print(&format!("{}\n", answer.text));
    if answer.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show<A: App>(loader: &Loader, output: Output) -> ExitCode {
    let loaded = match loader.load_service::<A::Config>() {
        Ok(loaded) => loaded,
        Err(error) => {
            let failure = error.into_failure(A::NAME);
            eprint!("{}", failure.render(A::NAME));
            return failure.exit().into();
        }
    };
    say(&loaded.warnings);
    match output {
        Output::Table => print(&render(&loaded.entries)),
        Output::Json => print(&format!("{:#}\n", serde_json::json!(loaded.entries))),
    }
    ExitCode::SUCCESS
}

fn say(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// The runtime of a process.
pub(crate) fn runtime<A: App>() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(A::NAME)
        .build();
    built.map_err(|error| Failure::internal("cannot start the async runtime").cause(error))
}

/// Writes a command's result; a reader that has gone away (`| head`) is no error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
