//! `engagectl gen`: options from the command line and the environment, progress while it writes, the rate at its end.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret;
use service::Failure;
use tokio_util::sync::CancellationToken;

use crate::cli::{GenArgs, Output};
use crate::config::Config;
use crate::generator::{self, Changes, Mix, Options, Progress, Rate};

const DEFAULT_RATE: &str = "100/s";

/// Writes until the duration is over or `stop` is cancelled.
///
/// # Errors
/// A variable that cannot be used (64); a database that cannot be reached or refuses (69).
pub(crate) async fn run(
    config: &Config,
    args: &GenArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let options = options(config, args, |name| std::env::var(name).ok())?;
    let progress = Progress::default();
    let url = config.database.url.expose_secret().to_owned();
    let ended = CancellationToken::new();
    let watching = tokio::spawn(watch(progress.clone(), options, ended.clone()));
    let outcome = generator::run(url, options, progress.clone(), stop).await;
    ended.cancel();
    let _ = watching.await;
    outcome.map_err(|e| {
        Failure::unavailable(format!(
            "cannot write to Postgres, after {} rows",
            progress.inserted()
        ))
        .cause(e)
        .remedy("correct DATABASE_URL, or create the tables")
        .next("engagectl init")
    })?;
    let counts = progress.counts();
    crate::cli::print(&match output {
        Output::Table => generator::report_text(&counts, options.rate),
        Output::Json => format!("{:#}\n", generator::report_value(&counts, options.rate)),
    });
    Ok(())
}

fn options(
    config: &Config,
    args: &GenArgs,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Options, Failure> {
    Ok(Options {
        rate: args.rate.map_or_else(|| rate_from(&variable), Ok)?,
        burst: args.burst.map_or_else(|| burst_from(&variable), Ok)?,
        duration: args.duration,
        seed: args.seed,
        mix: Mix {
            skew: args.skew,
            hot_key: args.hot_key,
            null_ratio: args.null_ratio,
            late_ratio: args.late_ratio,
            disorder_ratio: args.disorder_ratio,
            poison_ratio: args.poison_ratio,
        },
        changes: Changes {
            update_ratio: args.update_ratio,
            delete_ratio: args.delete_ratio,
            content_churn: args.content_churn,
        },
        contents: args.contents,
        schema: config.database.schema,
        start_at: args
            .start_at
            .map(|moment| moment.micros(service::clock::now()).0),
    })
}

/// `GENERATION_RATE` counts rows a minute, as in earlier generators.
fn rate_from(variable: &impl Fn(&str) -> Option<String>) -> Result<Rate, Failure> {
    let text = variable("GENERATION_RATE").map_or_else(
        || DEFAULT_RATE.to_owned(),
        |per_minute| format!("{per_minute}/min"),
    );
    text.parse().map_err(|e: String| {
        Failure::usage(format!("GENERATION_RATE: {e}"))
            .remedy("a number of rows a minute, for example 600")
    })
}

fn burst_from(variable: &impl Fn(&str) -> Option<String>) -> Result<u64, Failure> {
    if !variable("BURST_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("true") || mode == "1")
    {
        return Ok(0);
    }
    let count = variable("BURST_COUNT").unwrap_or_else(|| "1000".to_owned());
    count.parse().map_err(|_| {
        Failure::usage(format!("BURST_COUNT = {count:?} is no number of rows"))
            .remedy("for example BURST_COUNT=100000")
    })
}

/// A bar on a terminal; without one, a line every five seconds.
async fn watch(progress: Progress, options: Options, ended: CancellationToken) {
    let bar = std::io::stderr().is_terminal().then(|| bar(options));
    let mut ticks = tokio::time::interval(Duration::from_millis(if bar.is_some() {
        100
    } else {
        5000
    }));
    ticks.tick().await;
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            _ = ticks.tick() => match &bar {
                Some(bar) => bar.set_position(progress.inserted()),
                None => eprintln!("{} rows inserted", progress.inserted()),
            },
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar(options: Options) -> ProgressBar {
    let Some(duration) = options.duration else {
        return ProgressBar::new_spinner().with_style(style("{spinner} {pos} rows, {per_sec}"));
    };
    let bar = ProgressBar::new(options.burst + options.rate.due(duration));
    bar.with_style(style("{wide_bar} {pos}/{len} rows, {per_sec}, {eta} left"))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a literal of this file")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Options, Failure> {
        let cli = Cli::parse_from([&["engagectl", "gen"], arguments].concat());
        let Command::Gen(args) = cli.command else {
            panic!("gen")
        };
        options(&Config::default(), &args, |name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_environment_counts_rows_a_minute_and_the_option_wins() {
        assert_eq!(
            parse(&[], &[("GENERATION_RATE", "600")])
                .unwrap()
                .rate
                .per_second(),
            10.0
        );
        assert_eq!(
            parse(&["--rate", "7/s"], &[("GENERATION_RATE", "600")])
                .unwrap()
                .rate
                .per_second(),
            7.0
        );
    }

    #[test]
    fn what_happens_to_rows_and_contents_is_asked_for_by_option() {
        let none = parse(&[], &[]).unwrap();
        assert!(!none.changes.touch_rows() && none.changes.content_churn == 0.0);
        assert!(none.mix.poison_ratio == 0.0 && none.start_at.is_none());
        let all = [
            "--delete-ratio",
            "0.1",
            "--content-churn",
            "0.2",
            "--poison-ratio",
            "0.3",
            "--start-at",
            "2026-01-08T00:00:00Z",
        ];
        let all = parse(&all, &[]).unwrap();
        assert_eq!(
            (all.changes.delete_ratio, all.changes.content_churn),
            (0.1, 0.2)
        );
        assert_eq!(all.mix.poison_ratio, 0.3);
        assert_eq!(all.start_at, Some(1_767_830_400_000_000));
    }

    #[test]
    fn burst_count_needs_burst_mode() {
        assert_eq!(parse(&[], &[("BURST_COUNT", "50")]).unwrap().burst, 0);
        assert_eq!(
            parse(&[], &[("BURST_MODE", "true"), ("BURST_COUNT", "50")])
                .unwrap()
                .burst,
            50
        );
    }

    #[test]
    fn a_rate_that_is_no_number_names_its_variable() {
        assert!(
            parse(&[], &[("GENERATION_RATE", "fast")])
                .unwrap_err()
                .what()
                .contains("GENERATION_RATE")
        );
    }
}
