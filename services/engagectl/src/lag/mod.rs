//! `engagectl lag`: how far each group is behind, in records and in seconds, and when it will have caught up.
//!
//! Invariant: it joins no group and commits nothing.

mod args;
mod measure;
mod show;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use engagement::envelope::{CdcRecord, Input, Parser, TableSchema};
use engagement::event::Micros;
use service::{Exit, Failure};
use stream::probe::Probe;
use stream::resume::source_position;
use stream::{Record, tail};
use tokio_util::sync::CancellationToken;

pub use args::LagArgs;
use measure::{Look, Standing};

use crate::Outcome;
use crate::cli::Output;
use crate::config::Config;
use crate::groups::{Group, Watched, first_after};
use crate::kafka::unanswered;
use crate::off_the_runtime;

const NAME: &str = "engagectl-lag";
/// Moves the cursor home and clears the screen (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the groups once, or until Ctrl-C.
///
/// # Errors
/// Kafka does not answer (69), a topic does not exist (78), or a group is not known (64).
pub(crate) async fn run(
    config: &Config,
    args: &LagArgs,
    output: Output,
    stop: CancellationToken,
) -> Result<Outcome, Failure> {
    let looking = Looking::new(config, args);
    let mut before: Option<Vec<Look>> = None;
    loop {
        let Some(looked) = stop.run_until_cancelled(looking.look()).await else {
            return Ok(Outcome(None));
        };
        let now = looked?;
        let is_behind = now
            .iter()
            .any(|look| look.group.partitions.values().any(|place| place.lag() > 0));
        // a rate takes two looks; without a lag nobody needs one
        if args.watch || before.is_some() || !is_behind {
            let exceeded = print(&now, before.as_deref(), args, output);
            if exceeded {
                return Ok(Outcome(Some(Exit::No)));
            }
            if !args.watch {
                return Ok(Outcome(None));
            }
        }
        before = Some(now);
        if stop
            .run_until_cancelled(tokio::time::sleep(args.every))
            .await
            .is_none()
        {
            return Ok(Outcome(None));
        }
    }
}

/// Whether a maximum is exceeded.
fn print(now: &[Look], before: Option<&[Look]>, args: &LagArgs, output: Output) -> bool {
    let of = |look: &Look| {
        let before =
            before.and_then(|all| all.iter().find(|one| one.group.name == look.group.name));
        Standing::of(look, before)
    };
    let standings: Vec<Standing> = now.iter().map(of).collect();
    let exceeded: Vec<String> = standings
        .iter()
        .flat_map(|one| one.exceeds(args.max_lag, args.max_behind))
        .collect();
    let at = Micros(service::clock::now()).to_string();
    let text = match (output, args.watch) {
        (Output::Json, true) => format!("{}\n", show::json(&standings, &exceeded, &at)),
        (Output::Json, false) => format!("{:#}\n", show::json(&standings, &exceeded, &at)),
        (Output::Table, false) => show::text(&standings, args.partitions),
        (Output::Table, true) if std::io::stdout().is_terminal() => {
            format!("{CLEAR}{at}\n{}", show::text(&standings, args.partitions))
        }
        (Output::Table, true) => format!("{at}\n{}\n", show::text(&standings, args.partitions)),
    };
    crate::cli::print(&text);
    for what in &exceeded {
        eprintln!("{what}");
    }
    if !exceeded.is_empty() {
        eprintln!("  next:   engagectl top");
    }
    !exceeded.is_empty()
}

/// What looking takes.
struct Looking {
    watched: Watched,
    only: Vec<String>,
    probe: Probe,
    parser: Parser,
    cdc: String,
    begun: Instant,
}

impl Looking {
    fn new(config: &Config, args: &LagArgs) -> Self {
        let schema = TableSchema {
            event_key: config.database.schema.event_key().into(),
            content_id: config.database.schema.content_key().into(),
            ..TableSchema::default()
        };
        Self {
            watched: Watched::of(config, NAME).and(args.group.iter().cloned()),
            only: args.group.clone(),
            probe: Probe::new(&config.kafka, NAME),
            parser: Parser::new(schema),
            cdc: config.topics.cdc.clone(),
            begun: Instant::now(),
        }
    }

    async fn look(&self) -> Result<Vec<Look>, Failure> {
        let watched = self.watched.clone();
        let mut groups = off_the_runtime(move || watched.look())
            .await?
            .map_err(unanswered)?;
        let at = self.begun.elapsed();
        let wanted = |group: &Group| self.only.is_empty() || self.only.contains(&group.name);
        let without = groups
            .iter()
            .find(|group| wanted(group) && group.partitions.is_empty());
        if let Some(group) = without {
            return Err(no_topic(group));
        }
        self.known(&groups)?;
        groups.retain(wanted);
        let mut looks = Vec::new();
        for group in groups {
            looks.push(Look {
                at,
                ages: self.ages(&group).await,
                group,
            });
        }
        Ok(looks)
    }

    /// A group that has neither a commit nor a member, and is named by hand, is a mistake.
    fn known(&self, groups: &[Group]) -> Result<(), Failure> {
        let is_known = |group: &Group| {
            !group.members.is_empty()
                || group
                    .partitions
                    .values()
                    .any(|place| place.committed.is_some())
        };
        let unknown = groups
            .iter()
            .find(|group| self.only.contains(&group.name) && !is_known(group));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let names = groups
            .iter()
            .filter(|group| is_known(group))
            .map(|group| group.name.as_str());
        let names: Vec<_> = names.collect();
        Err(Failure::usage(format!(
            "group {} has neither a commit on {} nor a member",
            unknown.name, unknown.topic
        ))
        .remedy(format!("name one of: {}", names.join(", ")))
        .next("engagectl lag"))
    }

    async fn ages(&self, group: &Group) -> Vec<(i32, Duration)> {
        let mut ages = Vec::new();
        for (partition, place) in &group.partitions {
            if place.lag() == 0 {
                continue;
            }
            let first = first_after(&self.probe, &group.topic, *partition, place.next()).await;
            let at = first.and_then(|record| self.committed_at(&record));
            ages.extend(at.map(|at| {
                let age = u64::try_from(service::clock::now() - at.0).unwrap_or(0);
                (*partition, Duration::from_micros(age))
            }));
        }
        ages
    }

    /// When the change was committed in Postgres; of a record that is not understood, when it was written to Kafka.
    fn committed_at(&self, record: &Record) -> Option<Micros> {
        let in_body = if *record.topic == *self.cdc {
            self.change_committed_at(record)
        } else {
            let position = source_position(record);
            let event = position.and_then(|position| tail::read(record, position).ok());
            event.map(|event| event.source.committed_at)
        };
        in_body.or_else(|| record.timestamp_ms.map(Micros::from_millis))
    }

    fn change_committed_at(&self, record: &Record) -> Option<Micros> {
        let input = Input {
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
            moved: false,
        };
        match self.parser.event(input) {
            Ok(CdcRecord::Change(change)) => change.meta.committed_at,
            _ => None,
        }
    }
}

fn no_topic(group: &Group) -> Failure {
    Failure::repair(format!(
        "there is no topic {}, which {} reads",
        group.topic, group.name
    ))
    .remedy("create the topics, or name the right ones by KAFKA_CDC_TOPIC and KAFKA_ENRICHED_TOPIC")
    .next("engagectl init")
}
