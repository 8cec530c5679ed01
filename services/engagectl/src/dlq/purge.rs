//! `engagectl dlq purge`: what would go, and with `--execute` its deletion.
//!
//! Invariant: Kafka deletes from the beginning of a partition, so everything below the bound goes; all of it is in the plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engagement::event::Micros;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use service::Failure;
use stream::KafkaSettings;
use stream::dead_letter::TOPIC_PREFIX;

use super::args::{FilterArgs, PurgeArgs};
use super::filter::{Filter, Wanted, known};
use super::redrive::Reader;
use super::topics::{self, Found, Summary};
use crate::cli::Output;
use crate::config::Config;

/// Where to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    /// Before the first letter that failed at or after this time.
    Before(Micros),
    /// Below these offsets, by partition.
    Offsets(BTreeMap<i32, i64>),
}

impl Bound {
    /// The first offset that stays of a partition with these letters; `None`: all of it stays.
    fn of(&self, partition: i32, letters: &[&Summary]) -> Option<i64> {
        match self {
            Self::Before(before) => {
                let stays = letters.iter().find(|letter| letter.failed_at >= *before);
                // marks that follow the last letter stay: a run may have just begun
                let last = letters.last().map(|letter| letter.at.offset + 1);
                stays.map(|letter| letter.at.offset).or(last)
            }
            Self::Offsets(offsets) => offsets.get(&partition).copied(),
        }
    }

    /// One that is asked for and not there.
    fn unknown_partition(&self, found: &Found, topic: &str) -> Option<i32> {
        let Self::Offsets(offsets) = self else {
            return None;
        };
        let is_there = |partition| found.ends.contains_key(&(topic.to_owned(), partition));
        offsets
            .keys()
            .copied()
            .find(|partition| !is_there(*partition))
    }
}

/// What goes of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    partition: i32,
    /// The first offset that stays.
    below: i64,
    letters: u64,
    /// Of those, never sent back.
    lost: u64,
    reasons: BTreeMap<String, u64>,
}

/// Plans, prints, and with `--execute` deletes.
///
/// # Errors
/// What is asked for cannot be (64); the broker does not answer or refuses (69).
pub(super) async fn run(config: &Config, args: &PurgeArgs, output: Output) -> Result<(), Failure> {
    let service = known(&args.service)?;
    if args.service != service {
        return Err(
            Failure::usage("the letters of one endpoint cannot be deleted alone")
                .remedy(format!("they share the topic of {service}; purge that")),
        );
    }
    let now = service::clock::now();
    let bound = bound(args, now)?;
    let filter = FilterArgs {
        service: vec![service.to_owned()],
        ..FilterArgs::default()
    };
    let filter = Filter::of(&filter, now)?;
    let found = topics::find(&config.kafka, &filter, Reader::of(config)).await?;
    if found.more > 0 {
        return Err(Failure::usage(format!(
            "there are {} letters more than are looked at",
            found.more
        ))
        .remedy("purge older ones first, with --to-offset"));
    }
    let topic = format!("{TOPIC_PREFIX}{service}");
    let cuts = cuts(&found, &topic, &bound)?;
    if args.execute && !cuts.is_empty() {
        delete(&config.kafka, &topic, &cuts).await?;
    }
    crate::cli::print(&match output {
        Output::Table => text(&topic, &cuts, args.execute),
        Output::Json => format!("{:#}\n", value(&topic, &cuts, args.execute)),
    });
    Ok(())
}

fn bound(args: &PurgeArgs, now: i64) -> Result<Bound, Failure> {
    if let Some(before) = args.before {
        return Ok(Bound::Before(before.micros(now)));
    }
    let short = |wanted: &Wanted| match wanted {
        Wanted::Short(partition, offset) => Ok((*partition, *offset)),
        Wanted::Whole(place) => Err(Failure::usage(format!("{place} is no PARTITION:OFFSET"))
            .remedy("give for example --to-offset 3:100")),
    };
    let offsets: Result<BTreeMap<i32, i64>, Failure> = args.to_offset.iter().map(short).collect();
    Ok(Bound::Offsets(offsets?))
}

/// What goes of each partition that loses anything.
fn cuts(found: &Found, topic: &str, bound: &Bound) -> Result<Vec<Cut>, Failure> {
    let mut cuts = Vec::new();
    let ends = found.ends.iter().filter(|((name, _), _)| name == topic);
    for ((_, partition), end) in ends {
        let letters: Vec<&Summary> = found
            .letters
            .iter()
            .filter(|letter| letter.at.partition == *partition)
            .collect();
        let Some(below) = bound.of(*partition, &letters) else {
            continue;
        };
        if below > *end {
            return Err(Failure::usage(format!(
                "partition {partition} of {topic} ends at {end}, {below} is behind it"
            ))
            .remedy("give an offset that is there: engagectl dlq ls"));
        }
        let cut = cut(found, *partition, below, &letters);
        if cut.letters > 0 {
            cuts.push(cut);
        }
    }
    if let Some(partition) = bound.unknown_partition(found, topic) {
        return Err(
            Failure::usage(format!("topic {topic} has no partition {partition}"))
                .remedy("give one that is there: engagectl dlq ls"),
        );
    }
    Ok(cuts)
}

fn cut(found: &Found, partition: i32, below: i64, letters: &[&Summary]) -> Cut {
    let mut cut = Cut {
        partition,
        below,
        letters: 0,
        lost: 0,
        reasons: BTreeMap::new(),
    };
    for letter in letters.iter().filter(|letter| letter.at.offset < below) {
        cut.letters += 1;
        cut.lost += u64::from(found.sent_to(letter).is_none());
        *cut.reasons.entry(letter.reason.clone()).or_insert(0) += 1;
    }
    cut
}

fn text(topic: &str, cuts: &[Cut], executed: bool) -> String {
    let mut text = String::new();
    for cut in cuts {
        let reasons: Vec<String> = cut
            .reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let _ = writeln!(
            text,
            "{topic}/{} below offset {}: {} letters ({}), {} of them never redriven",
            cut.partition,
            cut.below,
            cut.letters,
            reasons.join(", "),
            cut.lost
        );
    }
    let all: u64 = cuts.iter().map(|cut| cut.letters).sum();
    let _ = match (all, executed) {
        (0, _) => writeln!(text, "nothing to delete"),
        (all, true) => writeln!(text, "{all} letters deleted"),
        (all, false) => writeln!(
            text,
            "nothing was deleted; --execute deletes {all} letters, and their bytes are gone for good (engagectl dlq export keeps them)"
        ),
    };
    text
}

fn value(topic: &str, cuts: &[Cut], executed: bool) -> Value {
    let cuts: Vec<Value> = cuts
        .iter()
        .map(|cut| {
            json!({
                "partition": cut.partition, "below": cut.below, "letters": cut.letters,
                "never_redriven": cut.lost, "reasons": cut.reasons,
            })
        })
        .collect();
    json!({ "topic": topic, "partitions": cuts, "executed": executed })
}

async fn delete(kafka: &KafkaSettings, topic: &str, cuts: &[Cut]) -> Result<(), Failure> {
    let refused = |cause: String| {
        Failure::unavailable(format!("the broker does not delete records of {topic}"))
            .cause(cause)
            .remedy("grant the user of this tool what docs/dead-letters.md names")
            .next("engagectl check")
    };
    let admin: AdminClient<DefaultClientContext> = kafka
        .admin_config()
        .create()
        .map_err(|error| refused(error.to_string()))?;
    let mut list = TopicPartitionList::new();
    for cut in cuts {
        list.add_partition_offset(topic, cut.partition, Offset::Offset(cut.below))
            .map_err(|error| refused(error.to_string()))?;
    }
    let deleted = admin.delete_records(&list, &AdminOptions::new()).await;
    let deleted = deleted.map_err(|error| refused(error.to_string()))?;
    for element in deleted.elements() {
        element
            .error()
            .map_err(|error| refused(format!("partition {}: {error}", element.partition())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::list::tests::summary;

    const TOPIC: &str = "engagement.dlq.enricher";

    /// Letters at offsets 1, 2 and 5 of partition 3, which failed in the seconds 1, 2 and 5; the partition ends at 9.
    fn found() -> Found {
        let mut found = Found {
            letters: [1, 2, 5].map(|offset| summary(offset, "a")).to_vec(),
            ..Found::default()
        };
        found.ends.insert((TOPIC.into(), 3), 9);
        found.ends.insert((TOPIC.into(), 4), 0);
        found
    }

    fn below(bound: &Bound) -> Vec<(i32, i64, u64)> {
        let cuts = cuts(&found(), TOPIC, bound).unwrap();
        cuts.iter()
            .map(|cut| (cut.partition, cut.below, cut.letters))
            .collect()
    }

    #[test]
    fn a_time_cuts_before_the_first_letter_that_is_not_older() {
        assert_eq!(below(&Bound::Before(Micros(2_000_000))), [(3, 2, 1)]);
        assert_eq!(below(&Bound::Before(Micros(1))), []);
        assert_eq!(below(&Bound::Before(Micros(99_000_000))), [(3, 6, 3)]);
    }

    #[test]
    fn an_offset_cuts_there_and_one_behind_the_end_is_refused() {
        assert_eq!(below(&Bound::Offsets([(3, 5)].into())), [(3, 5, 2)]);
        for offsets in [[(3, 10)], [(7, 1)]] {
            let refused = cuts(&found(), TOPIC, &Bound::Offsets(offsets.into()));
            assert_eq!(refused.unwrap_err().exit().code(), 64);
        }
    }

    #[test]
    fn what_was_never_redriven_is_said_before_it_is_gone() {
        let cuts = cuts(&found(), TOPIC, &Bound::Offsets([(3, 5)].into())).unwrap();
        let plan = text(TOPIC, &cuts, false);
        assert!(
            plan.contains("2 letters (a 2), 2 of them never redriven"),
            "{plan}"
        );
        assert!(plan.contains("--execute deletes 2 letters"));
        assert_eq!(value(TOPIC, &cuts, true)["partitions"][0]["below"], 5);
        assert!(text(TOPIC, &[], true).contains("nothing to delete"));
    }
}
