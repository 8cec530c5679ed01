//! `engagectl verify`: does every sink hold what Postgres holds?
//!
//! Invariant: it changes nothing anywhere, and it ends with 0 only if nothing differs.

mod args;
mod progress;

use ::verify::{
    Error, KafkaSource, Lacking, Options, PostgresSource, ReceiverSource, RedisSource, Report,
    Sink, Sources,
};
use serde_json::Value;
use service::{Exit, Failure};
use stream::settings::KafkaSettings;

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use crate::pipeline::Addresses;

pub use args::VerifyArgs;
use progress::Line;

/// Compares and prints, and says what brings back what is lacking. `again`: options that the next command needs, too.
///
/// # Errors
/// A range without events (64). A store that cannot be read (69), is not what it should be (78), or refuses what is asked of it (70).
pub(crate) async fn run(
    config: &Config,
    args: &VerifyArgs,
    output: Output,
    again: Option<&str>,
) -> Result<Outcome, Failure> {
    let wanted = args.options(service::clock::now())?;
    let sources = sources(config, args);
    let line = Line::open();
    let options = Options {
        progress: Some(line.speaker()),
        ..wanted
    };
    let found = match args.within {
        Some(within) => ::verify::settle_with(&sources, &options, within).await,
        None => ::verify::run(&sources, &options).await,
    };
    line.close();
    let report = found.map_err(failure)?;
    if let (Output::Table, Some(to)) = (output, options.to) {
        crate::cli::print(&format!("events before {to} (--to now: all of them)\n"));
    }
    crate::cli::print(&rendered(&report, output, next(&report, again).as_deref()));
    Ok(Outcome(exit(&report)))
}

/// The backfill that brings ClickHouse what it lacks; not while its sink is behind, for it may be on its way.
fn next(report: &Report, again: Option<&str>) -> Option<String> {
    let sink = report.sink(Sink::Clickhouse)?;
    let Lacking { from, to } = sink.lacking.filter(|_| sink.behind == 0)?;
    let again = again.map_or_else(String::new, |again| format!(" {again}"));
    Some(format!(
        "engagectl backfill --start {from} --end {to} --sinks clickhouse{again}"
    ))
}

/// The report as it is printed.
pub(crate) fn render(report: &Report, output: Output) -> String {
    rendered(report, output, None)
}

fn rendered(report: &Report, output: Output, next: Option<&str>) -> String {
    match (output, next) {
        (Output::Table, None) => report.to_string(),
        (Output::Table, Some(next)) => format!("{report}next: {next}\n"),
        (Output::Json, _) => format!("{:#}\n", json(report, next)),
    }
}

/// 78 where somebody must look; 75 where a sink is still busy, so that it may be equal later.
pub(crate) fn exit(report: &Report) -> Option<Exit> {
    match (report.is_equal(), report.is_behind()) {
        (true, _) => None,
        (false, true) => Some(Exit::TryAgain),
        (false, false) => Some(Exit::Repair),
    }
}

fn json(report: &Report, next: Option<&str>) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["equal"] = report.is_equal().into();
    value["next"] = next.into();
    value
}

pub(crate) fn failure(error: Error) -> Failure {
    if let Some(remedy) = error.remedy() {
        let failure = Failure::usage("the stores cannot be compared").cause(error);
        return failure.remedy(remedy).next("engagectl check");
    }
    let is_unreachable = error.is_unreachable();
    let failure = if matches!(error, Error::Tls(_)) {
        Failure::usage("the stores cannot be compared")
    } else if is_unreachable {
        Failure::unavailable("the stores cannot be compared")
    } else if matches!(error, Error::Unexpected { .. }) {
        Failure::repair("the stores cannot be compared")
    } else {
        Failure::internal("the stores cannot be compared")
    };
    failure.cause(error).next("engagectl check")
}

fn sources(config: &Config, args: &VerifyArgs) -> Sources {
    let mut sources = stores(config);
    sources.postgres.statement_timeout = args.statement_timeout;
    sources.receiver = args.receiver(service::clock::now());
    sources
}

/// Every store of the configuration.
pub(crate) fn stores(config: &Config) -> Sources {
    let postgres = PostgresSource::new(config.database.url.clone(), config.database.schema);
    let mut kafka = KafkaSource::new(config.kafka.clone());
    kafka.cdc_topic.clone_from(&config.topics.cdc);
    kafka.enriched_topic.clone_from(&config.topics.enriched);
    kafka.backfill_topic.clone_from(&config.topics.backfill);
    kafka.runs_topic.clone_from(&config.topics.backfill_runs);
    Sources {
        postgres,
        kafka,
        clickhouse: Some(config.clickhouse.clone()),
        redis: Some(config.redis.source()),
        receiver: None,
    }
}

impl From<&Addresses> for Sources {
    /// A local pipeline: every sink, and the receiver with its one endpoint.
    fn from(addresses: &Addresses) -> Self {
        let url = |text: &str| text.parse().expect("a local pipeline's addresses are URLs");
        let settings = KafkaSettings {
            bootstrap_servers: addresses.kafka.clone(),
            ..KafkaSettings::default()
        };
        let receiver = url(&format!("http://{}", addresses.receiver));
        Self {
            postgres: PostgresSource::new(addresses.postgres_url.as_str(), addresses.schema),
            kafka: KafkaSource::new(settings),
            clickhouse: addresses.platform_settings().clickhouse,
            redis: Some(RedisSource::new(url(&addresses.redis_url))),
            receiver: Some(ReceiverSource::new(receiver, "demo", true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::Micros;

    use super::*;

    fn report(missing: u64, behind: u64) -> Report {
        let text = format!(
            r#"{{"events":1,"elapsed_ms":1,"dead_letters":{{"topics":[],"events":[],"unreadable":0}},"sinks":[{{
               "sink":"redis","compared":1,"equal":1,"missing":{missing},"surplus":0,"changed":0,"violations":0,
               "differences":[],"notes":[],"behind":{behind},"elapsed_ms":1}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn equal_ends_with_0_a_difference_with_78_and_one_that_may_go_away_with_75() {
        assert_eq!(exit(&report(0, 0)), None);
        assert_eq!(exit(&report(0, 5)), None);
        assert_eq!(exit(&report(1, 0)), Some(Exit::Repair));
        assert_eq!(exit(&report(1, 5)), Some(Exit::TryAgain));
    }

    #[test]
    fn the_json_says_in_one_field_whether_all_is_equal() {
        let value = json(&report(1, 0), None);
        assert_eq!(value["equal"], false);
        assert_eq!(value["sinks"][0]["sink"], "redis");
        assert!(value["next"].is_null());
    }

    #[test]
    fn the_report_ends_with_the_backfill_that_brings_what_clickhouse_lacks() {
        let mut report = report(1, 0);
        assert_eq!(next(&report, None), None, "Redis has no backfill");
        report.sinks[0].sink = Sink::Clickhouse;
        report.sinks[0].lacking = Some(Lacking {
            from: Micros(60_000_000),
            to: Micros(120_500_000),
        });
        let command = next(&report, Some("--config a.toml")).unwrap();
        assert_eq!(
            command,
            "engagectl backfill --start 1970-01-01T00:01:00Z --end 1970-01-01T00:02:00.500Z --sinks clickhouse --config a.toml"
        );
        let text = rendered(&report, Output::Table, Some(&command));
        assert!(text.ends_with(&format!("\nnext: {command}\n")), "{text}");
        assert_eq!(json(&report, Some(&command))["next"], command);
        report.sinks[0].behind = 1;
        assert_eq!(next(&report, None), None, "it may be on its way");
    }
}
