//! `chaos`: faults by seed for as long as wanted, then the proof. `make chaos MINUTES=60 SEED=..` builds and runs it.
//!
//! Invariant: exits 0 only if every sink equals Postgres and no promise was found broken.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chaos::Patience;
use chaos::faults::{self, Class};
use chaos::ledger::{self, Entry};
use chaos::load::Bursts;
use chaos::run::{RunOptions, run};
use clap::Parser;
use engagectl::pipeline::{SERVICES, SINKS};
use tokio_util::sync::CancellationToken;

/// In a run of so many minutes what the full compiler of a JVM costs comes back.
const LONG_MINUTES: f64 = 10.0;

/// Injects faults into a private pipeline under mixed load, drains it, and compares every sink with Postgres.
#[derive(Debug, Parser)]
struct Cli {
    /// The seed of all chance; without one, a new one.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are injected.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The shortest time from one fault to the next; the longest is half as much again. With 20s and more, what was
    /// held up flows in between, so that many events pass.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Only these classes, or all of a module (`kafka`), separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All but these classes or modules.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// How often every fault point is visited first.
    #[arg(long, default_value_t = 1)]
    point_rounds: usize,
    /// Then kill each service so often, alone, to measure how long it takes to work again.
    #[arg(long, default_value_t = 5)]
    recovery_rounds: usize,
    /// Then take each sink's server away for so long, one after the other, and measure how the backlog drains.
    #[arg(long, value_parser = humantime::parse_duration)]
    outage: Option<Duration>,
    /// These services do not run: a load that is more than one delivery an event allows wants no webhook-forwarder.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(SINKS))]
    leave_out: Vec<String>,
    /// Rows a second.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// So many rows at once besides, by one COPY every `--burst-every`.
    #[arg(long)]
    burst: Option<usize>,
    /// From one burst to the next.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    burst_every: Duration,
    /// Replicas of each service.
    #[arg(long, default_value_t = 2)]
    replicas: usize,
    /// Whether the JVMs of Kafka and Connect compile fully, which pays off after minutes; without it they do in runs of ten
    /// minutes or more.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    full_compiler: Option<bool>,
    /// No fault freezes a process for longer.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    longest_freeze: Duration,
    /// Every service breaks this rule: the run must not be good then.
    #[arg(long, conflicts_with = "ledger")]
    break_rule: Option<::faults::Rule>,
    /// Where logs and the report go.
    #[arg(long, default_value = "target/chaos-runs")]
    dir: PathBuf,
    /// Append the run to `chaos-ledger.jsonl` and `.md` in this directory.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Show the classes and end.
    #[arg(long)]
    list: bool,
}

#[tokio::main(worker_threads = 4)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Box::pin(carry_out(&Cli::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(70)
        }
    }
}

async fn carry_out(cli: &Cli) -> anyhow::Result<bool> {
    let classes = chosen(cli)?;
    if cli.list {
        for class in classes {
            eprintln!("{:<28} {}", class.name, class.about);
        }
        return Ok(true);
    }
    let options = options(cli, classes)?;
    let outcome = tokio::select! {
        outcome = Box::pin(run(&options)) => outcome?,
        () = at_ctrl_c(options.enough.clone()) => anyhow::bail!("ended before the verdict"),
    };
    eprintln!("{outcome}");
    if let Some(docs) = &cli.ledger {
        ledger::append(docs, &Entry::of(&outcome))?;
    }
    if !outcome.is_good() {
        eprintln!("logs and outcome.json are in {}", options.dir.display());
    }
    Ok(outcome.is_good())
}

/// The first Ctrl-C ends the faults and brings the verdict; this returns at the second one.
async fn at_ctrl_c(enough: CancellationToken) {
    // Without a handler for the signal the run goes on to its end.
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    eprintln!("no further faults; the verdict follows (Ctrl-C again: none)");
    enough.cancel();
    let _ = tokio::signal::ctrl_c().await;
}

fn chosen(cli: &Cli) -> anyhow::Result<Vec<&'static Class>> {
    for name in cli.only.iter().chain(&cli.without) {
        anyhow::ensure!(
            faults::all().any(|class| is_in(class, name)),
            "there is no class or module {name:?}; next: chaos --list"
        );
    }
    let wanted = |class: &&Class| {
        (cli.only.is_empty() || cli.only.iter().any(|name| is_in(class, name)))
            && !cli.without.iter().any(|name| is_in(class, name))
    };
    Ok(faults::all().filter(wanted).collect())
}

fn full_compiler(cli: &Cli) -> bool {
    cli.full_compiler.unwrap_or(cli.minutes >= LONG_MINUTES)
}

fn running(left_out: &[String]) -> Vec<&'static str> {
    let runs = |service: &&str| !left_out.iter().any(|name| name == service);
    SERVICES.into_iter().filter(runs).collect()
}

fn is_in(class: &Class, name: &str) -> bool {
    class.name == name || class.name.split('.').next() == Some(name)
}

fn options(cli: &Cli, classes: Vec<&'static Class>) -> anyhow::Result<RunOptions> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let seed = cli.seed.unwrap_or_else(rand::random);
    let again = command(cli, seed, &program);
    Ok(RunOptions {
        seed,
        duration: Duration::from_secs_f64(cli.minutes * 60.0),
        every: cli.every,
        classes,
        point_rounds: cli.point_rounds,
        recovery_rounds: cli.recovery_rounds,
        outage: cli.outage,
        rate: cli.rate,
        bursts: cli.burst.map(|rows| Bursts {
            rows,
            every: cli.burst_every,
        }),
        services: running(&cli.leave_out),
        replicas: cli.replicas,
        full_compiler: full_compiler(cli),
        longest_freeze: cli.longest_freeze,
        patience: Patience::default(),
        broken: cli.break_rule,
        enough: CancellationToken::new(),
        dir: std::path::absolute(cli.dir.join(seed.to_string()))?,
        bin: program.parent().unwrap_or(Path::new("/")).to_owned(),
        again,
    })
}

/// The command that repeats a run.
fn command(cli: &Cli, seed: u64, program: &Path) -> String {
    let mut again = format!(
        "{} --seed {seed} --minutes {} --every {} --rate {} --point-rounds {}",
        program.display(),
        cli.minutes,
        humantime::format_duration(cli.every),
        cli.rate,
        cli.point_rounds
    );
    let lists = [
        ("--only", &cli.only),
        ("--without", &cli.without),
        ("--leave-out", &cli.leave_out),
    ];
    if let Some(wanted) = cli.full_compiler {
        again = format!("{again} --full-compiler {wanted}");
    }
    if let Some(rows) = cli.burst {
        again = format!(
            "{again} --burst {rows} --burst-every {}",
            humantime::format_duration(cli.burst_every)
        );
    }
    for (flag, names) in lists {
        if !names.is_empty() {
            again = format!("{again} {flag} {}", names.join(","));
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_ten_minutes_compiles_fully_unless_told_otherwise() {
        let of = |arguments: &[&str]| {
            let line = ["chaos"].iter().chain(arguments);
            full_compiler(&Cli::try_parse_from(line).unwrap())
        };
        assert!(of(&["--minutes", "10"]) && !of(&["--minutes", "9.5"]));
        assert!(of(&["--minutes", "1", "--full-compiler"]));
        assert!(!of(&["--minutes", "60", "--full-compiler", "false"]));
    }
}
