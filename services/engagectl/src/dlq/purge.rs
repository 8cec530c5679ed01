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
use stream::dead_letter::{Entry, Letter, TOPIC_PREFIX};
use stream::scan::{Scanner, Span};

use super::args::PurgeArgs;
use super::filter::{Wanted, known};
use super::redrive::Progress;
use super::topics::NAME;
use crate::cli::Output;
use crate::config::Config;
use crate::kafka;

/// Where to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    /// Before the first letter that failed at or after this time.
    Before(Micros),
    /// Below these offsets, by partition.
    Offsets(BTreeMap<i32, i64>),
}

impl Bound {
    fn goes(&self, letter: &Letter) -> bool {
        match self {
            Self::Before(before) => letter.failed_at() < *before,
            Self::Offsets(offsets) => {
                let below = offsets.get(&letter.at.partition);
                below.is_some_and(|below| letter.at.offset < *below)
            }
        }
    }
}

/// What goes of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cut {
    partition: i32,
    /// The first offset that stays.
    below: i64,
    letters: u64,
    /// Of those, never sent back.
    lost: u64,
    reasons: BTreeMap<String, u64>,
}

/// One partition, read from its beginning. Letters are counted, not kept: there may be any number of them.
#[derive(Debug, Default)]
struct Partition {
    /// Where it ended.
    end: i64,
    cut: Cut,
    /// The first letter.
    first: Option<i64>,
    /// A letter has stayed: so does all that is behind it.
    stays: bool,
    progress: Progress,
}

impl Partition {
    fn new(partition: i32, end: i64) -> Self {
        let cut = Cut {
            partition,
            ..Cut::default()
        };
        Self {
            end,
            cut,
            ..Self::default()
        }
    }

    /// The next record, written at this time.
    fn take(&mut self, entry: Entry, at_ms: i64, bound: &Bound) {
        match entry {
            Entry::Mark(mark) => self.progress.take(mark, at_ms),
            Entry::Letter(_) if self.stays => {}
            Entry::Letter(letter) => {
                self.stays = !bound.goes(&letter);
                let offset = letter.at.offset;
                // marks that follow the last letter stay: a run may have just begun
                self.cut.below = offset + i64::from(!self.stays);
                self.first = self.first.or(Some(offset));
                if !self.stays {
                    self.cut.letters += 1;
                    *self.cut.reasons.entry(letter.kind).or_insert(0) += 1;
                }
            }
        }
    }

    /// What goes, when all was read.
    fn cut(mut self, bound: &Bound) -> Cut {
        if let Bound::Offsets(offsets) = bound {
            self.cut.below = offsets.get(&self.cut.partition).copied().unwrap_or(0);
        }
        let gone =
            self.first.unwrap_or(self.cut.below)..self.cut.below.max(self.first.unwrap_or(0));
        let redriven = self.progress.done.range(gone).count() as u64;
        self.cut.lost = self.cut.letters.saturating_sub(redriven);
        self.cut
    }
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
    let bound = bound(args, service::clock::now())?;
    let topic = format!("{TOPIC_PREFIX}{service}");
    let partitions = read(&config.kafka, &topic, bound.clone()).await?;
    let cuts = cuts(partitions, &topic, &bound)?;
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

/// Counts what each partition of the topic holds.
async fn read(
    kafka: &KafkaSettings,
    topic: &str,
    bound: Bound,
) -> Result<BTreeMap<i32, Partition>, Failure> {
    let (settings, topic) = (kafka.clone(), topic.to_owned());
    kafka::ask(move || {
        let scanner = Scanner::open(&settings, NAME, &topic)?;
        let spans = scanner.spans()?;
        let new = |span: &Span| (span.partition, Partition::new(span.partition, span.to));
        let mut partitions: BTreeMap<i32, Partition> = spans.iter().map(new).collect();
        scanner.read(&spans, |record| {
            let at = record.timestamp_ms.unwrap_or(0);
            if let Some(partition) = partitions.get_mut(&record.partition) {
                partition.take(Entry::of(record), at, &bound);
            }
        })?;
        Ok(partitions)
    })
    .await
}

/// What goes of each partition that loses anything.
fn cuts(
    partitions: BTreeMap<i32, Partition>,
    topic: &str,
    bound: &Bound,
) -> Result<Vec<Cut>, Failure> {
    if let Bound::Offsets(offsets) = bound {
        for (partition, below) in offsets {
            may_be_cut(topic, *partition, *below, partitions.get(partition))?;
        }
    }
    let cuts = partitions.into_values().map(|found| found.cut(bound));
    Ok(cuts.filter(|cut| cut.letters > 0).collect())
}

/// Whether there is such an offset.
fn may_be_cut(
    topic: &str,
    partition: i32,
    below: i64,
    found: Option<&Partition>,
) -> Result<(), Failure> {
    let wrong = match found {
        Some(found) if below <= found.end => return Ok(()),
        Some(Partition { end, .. }) => {
            format!("partition {partition} of {topic} ends at {end}, {below} is behind it")
        }
        None => format!("topic {topic} has no partition {partition}"),
    };
    Err(Failure::usage(wrong)
        .remedy("give an offset that is there")
        .next("engagectl dlq ls"))
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
    use stream::dead_letter::RedriveMark;

    use super::*;
    use crate::dlq::testing::{LetterOf, letter};

    const TOPIC: &str = "engagement.dlq.enricher";

    /// Letters at offsets 1, 2 and 5 of partition 3, which failed in the seconds 1, 2 and 5; the first was sent back, which stands at
    /// offset 7; the partition ends at 9.
    fn cuts_of(bound: &Bound) -> Result<Vec<Cut>, Failure> {
        let mut found = Partition::new(3, 9);
        for offset in [1, 2, 5] {
            let mut letter = letter(&LetterOf::default());
            letter.at.offset = offset;
            letter.first_failed_at = Some(Micros(offset * 1_000_000));
            found.take(Entry::Letter(Box::new(letter)), 0, bound);
        }
        let done = RedriveMark::Done {
            run: "a".into(),
            letter: 1,
            sent_to: "cdc/3/500".parse().unwrap(),
        };
        found.take(Entry::Mark(Some(done)), 0, bound);
        let partitions = [(3, found), (4, Partition::new(4, 0))];
        cuts(partitions.into(), TOPIC, bound)
    }

    fn below(bound: &Bound) -> Vec<(i32, i64, u64, u64)> {
        let cuts = cuts_of(bound).unwrap();
        cuts.iter()
            .map(|cut| (cut.partition, cut.below, cut.letters, cut.lost))
            .collect()
    }

    #[test]
    fn a_time_cuts_before_the_first_letter_that_is_not_older() {
        assert_eq!(below(&Bound::Before(Micros(2_000_000))), [(3, 2, 1, 0)]);
        assert_eq!(below(&Bound::Before(Micros(1))), []);
        assert_eq!(below(&Bound::Before(Micros(99_000_000))), [(3, 6, 3, 2)]);
    }

    #[test]
    fn an_offset_cuts_there_and_one_behind_the_end_is_refused() {
        assert_eq!(below(&Bound::Offsets([(3, 5)].into())), [(3, 5, 2, 1)]);
        for offsets in [[(3, 10)], [(7, 1)]] {
            let refused = cuts_of(&Bound::Offsets(offsets.into()));
            assert_eq!(refused.unwrap_err().exit().code(), 64);
        }
    }

    #[test]
    fn what_was_never_redriven_is_said_before_it_is_gone() {
        let cuts = cuts_of(&Bound::Offsets([(3, 5)].into())).unwrap();
        let plan = text(TOPIC, &cuts, false);
        assert!(
            plan.contains("2 letters (malformed_json 2), 1 of them never redriven"),
            "{plan}"
        );
        assert!(plan.contains("--execute deletes 2 letters"));
        assert_eq!(value(TOPIC, &cuts, true)["partitions"][0]["below"], 5);
        assert!(text(TOPIC, &[], true).contains("nothing to delete"));
    }
}
