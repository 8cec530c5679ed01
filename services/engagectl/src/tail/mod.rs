//! `engagectl tail`: enriched events, changes or dead letters as they come.
//!
//! Invariant: it joins no group and commits nothing; memory is bounded, however much there is to read.

mod args;
mod fields;
mod follow;
mod show;

use std::io::Write as _;
use std::ops::ControlFlow;

use engagement::event::Micros;
use serde_json::Value;
use service::Failure;
use stream::dead_letter::{self, is_mark};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use args::Stream;
pub use args::TailArgs;
use follow::{Handed, Source, Start};

use crate::cli::Output;
use crate::config::Config;
use crate::expression::Expression;
use crate::kafka::unanswered;
use crate::pipeline::SERVICES;

/// Records on their way from the readers to the output.
const BETWEEN: usize = 1000;

/// Prints records until the end, the limit, or Ctrl-C.
///
/// # Errors
/// A condition names a field that there is not (64), Kafka cannot be asked (69), or there is no such topic (78).
pub(crate) async fn run(
    config: &Config,
    args: &TailArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<(), Failure> {
    check(args)?;
    let now = Micros(service::clock::now());
    let topics = topics(config, args);
    let (to, mut records) = mpsc::channel::<Handed>(BETWEEN);
    let mut readers = JoinSet::new();
    for topic in &topics {
        let (to, source) = (to.clone(), source(config, args, topic, now));
        readers.spawn_blocking(move || source.read(&to));
    }
    drop(to);
    let mut printer = Printer::new(args, output, now);
    let mut ended = Ok(());
    while let Some(Some(handed)) = stop.run_until_cancelled(records.recv()).await {
        match handed {
            Err(error) => ended = Err(unanswered(error)),
            // what a redrive wrote down is no letter
            Ok(record) if args.stream == Stream::Dlq && is_mark(&record) => continue,
            Ok(record) => {
                let fields = fields::of(&record, args.stream, args.payload);
                if printer.take(&fields).is_continue() {
                    continue;
                }
            }
        }
        break;
    }
    drop(records);
    let found = readers.join_all().await;
    printer.end();
    match found.iter().any(|found| *found) {
        true => ended,
        false => Err(no_topic(&topics)),
    }
}

fn topics(config: &Config, args: &TailArgs) -> Vec<String> {
    match (&args.topic, args.stream) {
        (Some(topic), _) => vec![topic.clone()],
        (None, Stream::Enriched) => vec![config.topics.enriched.clone()],
        (None, Stream::Cdc) => vec![config.topics.cdc.clone()],
        (None, Stream::Dlq) if args.service.is_empty() => SERVICES.map(dead_letter::topic).into(),
        (None, Stream::Dlq) => args
            .service
            .iter()
            .map(|service| dead_letter::topic(service))
            .collect(),
    }
}

fn source(config: &Config, args: &TailArgs, topic: &str, now: Micros) -> Source {
    let start = match (args.since, args.stream, args.no_follow) {
        // letters keep the time of their record, which says nothing of when it failed
        (Some(_), Stream::Dlq, _) | (None, _, true) => Start::Beginning,
        (Some(since), ..) => Start::At(since.moment(now)),
        (None, _, false) => Start::End,
    };
    Source {
        settings: config.kafka.clone(),
        topic: topic.to_owned(),
        start,
        to_the_end: args.no_follow,
    }
}

/// A field that no record has is a mistake, where the fields are known; so is an option for another stream.
fn check(args: &TailArgs) -> Result<(), Failure> {
    if !args.service.is_empty() && (args.stream != Stream::Dlq || args.topic.is_some()) {
        return Err(
            Failure::usage("--service goes with the dead letters of the services only")
                .remedy("leave it out, or read `dlq` without --topic")
                .next("engagectl tail dlq --service enricher"),
        );
    }
    let known = match args.stream {
        Stream::Enriched => fields::ENRICHED,
        Stream::Dlq => fields::LETTER,
        // the columns of a table
        Stream::Cdc => &[],
    };
    let named = args.condition.iter().flat_map(Expression::fields);
    for name in named {
        let first = name.split('.').next().unwrap_or_default();
        if !known.is_empty() && !known.contains(&first) {
            return Err(Failure::usage(format!(
                "--where names the field {name}, which no record has"
            ))
            .remedy(format!("name one of: {}", known.join(", ")))
            .next("engagectl tail --help"));
        }
        let is_personal =
            first == "raw_payload" || (first == "value" && args.stream == Stream::Dlq);
        if is_personal && !args.payload {
            return Err(Failure::usage(format!(
                "--where names {first}, which may hold personal data and is not read"
            ))
            .remedy("add --payload"));
        }
    }
    Ok(())
}

/// Chooses and prints.
struct Printer<'a> {
    args: &'a TailArgs,
    output: Output,
    /// Letters that failed before are passed over.
    failed_since: Option<Micros>,
    shown: u64,
    unreadable: u64,
}

impl<'a> Printer<'a> {
    fn new(args: &'a TailArgs, output: Output, now: Micros) -> Self {
        let since = args.since.filter(|_| args.stream == Stream::Dlq);
        Self {
            args,
            output,
            failed_since: since.map(|since| since.moment(now)),
            shown: 0,
            unreadable: 0,
        }
    }

    /// Breaks at the limit, and where nobody reads the output any more (`| head`).
    fn take(&mut self, fields: &Value) -> ControlFlow<()> {
        self.unreadable += u64::from(fields.get(fields::UNREADABLE).is_some());
        if !self.wants(fields) {
            return ControlFlow::Continue(());
        }
        let mut text = match self.output {
            Output::Json => show::json(fields),
            Output::Table => show::row(self.args.stream, fields),
        };
        if self.output == Output::Table && self.shown == 0 {
            text = show::heading(self.args.stream) + &text;
        }
        self.shown += 1;
        let written = std::io::stdout().write_all(text.as_bytes());
        let limit = self
            .args
            .limit
            .is_some_and(|limit| self.shown >= limit.get());
        match written.is_err() || limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn wants(&self, fields: &Value) -> bool {
        let recent = |since: &Micros| {
            let failed = fields["failed_at"]
                .as_str()
                .and_then(|text| text.parse::<Micros>().ok());
            failed.is_none_or(|at| at >= *since)
        };
        self.failed_since.as_ref().is_none_or(recent)
            && self
                .args
                .content_id
                .as_deref()
                .is_none_or(|id| fields::content_of(fields) == Some(id))
            && self
                .args
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds(fields))
    }

    fn end(&self) {
        if self.unreadable > 0 {
            eprintln!("{} records could not be read", self.unreadable);
        }
    }
}

fn no_topic(topics: &[String]) -> Failure {
    Failure::repair(format!("there is no topic {}", topics.join(", ")))
        .remedy("create the topics, or name the right one by --topic")
        .next("engagectl init")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TailArgs,
    }

    fn args(words: &[&str]) -> TailArgs {
        Line::try_parse_from([&["tail"], words].concat())
            .unwrap()
            .args
    }

    #[test]
    fn a_field_that_no_record_has_is_refused_with_those_there_are() {
        let refused = |words: &[&str]| check(&args(words)).unwrap_err().render("engagectl");
        let said = refused(&["enriched", "--where", "engagment_percent > 50"]);
        assert!(
            said.contains("engagment_percent") && said.contains("engagement_percent"),
            "{said}"
        );
        assert!(refused(&["dlq", "--where", "raeson = x"]).contains("reason"));
        assert!(refused(&["enriched", "--where", "raw_payload ~ x"]).contains("--payload"));
        assert!(refused(&["cdc", "--where", "raw_payload ~ x"]).contains("--payload"));
        assert!(refused(&["cdc", "--service", "enricher"]).contains("--service"));
        for right in [
            &["cdc", "--where", "any_column = 1 and value = 2"][..],
            &["enriched", "--where", "unreadable != null"],
            &[
                "enriched",
                "--where",
                "source.offset > 1 and record.partition = 3 and key = x",
            ],
            &[
                "dlq",
                "--payload",
                "--where",
                "value ~ x or origin.offset = 1",
            ],
        ] {
            check(&args(right)).unwrap();
        }
    }

    #[test]
    fn a_condition_that_is_none_is_bad_usage_and_names_the_place() {
        let wrong = ["tail", "enriched", "--where", "engagement_percent >> 50"];
        let said = Line::try_parse_from(wrong).unwrap_err().to_string();
        assert!(said.contains("at character 21"), "{said}");
    }

    #[test]
    fn reading_begins_now_or_at_the_beginning_or_when_asked() {
        let start = |words: &[&str]| {
            source(&Config::default(), &args(words), "t", Micros(10_000_000)).start
        };
        assert_eq!(start(&["enriched"]), Start::End);
        assert_eq!(start(&["enriched", "--no-follow"]), Start::Beginning);
        assert_eq!(
            start(&["cdc", "--since", "2s"]),
            Start::At(Micros(8_000_000))
        );
        assert_eq!(start(&["dlq", "--since", "2s"]), Start::Beginning);
    }

    #[test]
    fn dead_letters_are_those_of_every_service_or_of_the_ones_named() {
        let topics = |words: &[&str]| topics(&Config::default(), &args(words));
        assert_eq!(topics(&["dlq"]).len(), SERVICES.len());
        assert_eq!(
            topics(&["dlq", "--service", "enricher"]),
            ["engagement.dlq.enricher"]
        );
        assert_eq!(topics(&["cdc", "--topic", "x"]), ["x"]);
    }

    #[test]
    fn a_letter_is_chosen_by_when_it_failed_and_by_its_content() {
        let words = [
            "dlq",
            "--since",
            "1970-01-01T00:00:05Z",
            "--content-id",
            "c",
        ];
        let args = args(&words);
        let printer = Printer::new(&args, Output::Json, Micros(0));
        let letter = |at: &str, key: &str| json!({"failed_at": at, "key": key});
        assert!(printer.wants(&letter("1970-01-01T00:00:05Z", "c")));
        assert!(!printer.wants(&letter("1970-01-01T00:00:04Z", "c")));
        assert!(!printer.wants(&letter("1970-01-01T00:00:05Z", "d")));
        assert!(
            printer.wants(&json!({"key": "c"})),
            "unknown times are not hidden"
        );
    }
}
