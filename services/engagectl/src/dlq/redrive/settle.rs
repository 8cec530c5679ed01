//! What became of the letters that were sent: passed by the one they were for, given up again, or dropped.
//!
//! Invariant: it only reads; a letter counts as taken only when its reader has passed it and did not give it up again, and one of
//! the enricher only when the output holds what was made of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use engagement::event::{Lane, Micros, Position};
use serde_json::{Value, json};
use service::Failure;
use stream::dead_letter::{Letter, Place};
use stream::resume::source_position;
use stream::scan::{Scanner, Span};
use tokio_util::sync::CancellationToken;

use super::Sent;
use crate::config::Config;
use crate::dlq::args::FilterArgs;
use crate::dlq::filter::Filter;
use crate::dlq::topics::{Known, Marks, NAME, fold};
use crate::kafka;
use crate::moment::Moment;

/// So far may clocks of services be behind, microseconds.
const CLOCKS: i64 = 600_000_000;
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// A copy, and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SentCopy {
    /// `enricher`, `clickhouse-sink`, `webhook-forwarder.<endpoint>`.
    pub(super) consumer: String,
    pub(super) at: Place,
}

/// Offsets by consumer and partition.
type Commits = BTreeMap<(String, i32), i64>;

/// What became of all copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Passed, and not given up again.
    pub(super) taken: u64,
    /// Letters again.
    pub(super) returned: u64,
    /// Passed by the enricher without anything being made of them.
    pub(super) dropped: u64,
    /// Not passed yet.
    pub(super) waiting: u64,
}

impl Settled {
    pub(super) const fn is_good(&self) -> bool {
        self.returned + self.dropped == 0
    }

    pub(super) fn text(&self) -> String {
        let Self {
            taken,
            returned,
            dropped,
            waiting,
        } = self;
        let mut parts = vec![format!("{taken} taken")];
        if *returned > 0 {
            parts.push(format!(
                "{returned} given up again (engagectl dlq ls --since -10m)"
            ));
        }
        if *dropped > 0 {
            parts.push(format!(
                "{dropped} dropped by the enricher as a re-send: one of an older version runs; update it, then send them with --again"
            ));
        }
        if *waiting > 0 {
            parts.push(format!("{waiting} not read yet"));
        }
        parts.join(", ")
    }

    pub(super) fn value(&self) -> Value {
        json!({
            "taken": self.taken, "returned": self.returned, "dropped": self.dropped, "waiting": self.waiting,
        })
    }
}

/// Waits until all copies are passed that were sent or found since `begun`, at most so long, and looks.
///
/// # Errors
/// The broker does not answer.
pub(super) async fn settle(
    config: &Config,
    sent: &Sent,
    begun: Micros,
    wait: Duration,
    stop: &CancellationToken,
) -> Result<Settled, Failure> {
    let copies = &sent.copies;
    if copies.is_empty() {
        return Ok(Settled::default());
    }
    let waiting = Instant::now();
    let commits = loop {
        let commits = commits(config, copies).await?;
        let is_over =
            waiting.elapsed() >= wait || copies.iter().all(|copy| is_passed(copy, &commits));
        let pause = tokio::time::sleep(PAUSE);
        if is_over || stop.run_until_cancelled(pause).await.is_none() {
            break commits;
        }
    };
    let since = sent.earliest.map_or(begun, |earliest| earliest.min(begun));
    let returned = returned(config, copies, Micros(since.0 - CLOCKS)).await?;
    let made = made(config, &sent.output_from).await?;
    Ok(sort(copies, &commits, &returned, &made))
}

fn is_passed(copy: &SentCopy, commits: &Commits) -> bool {
    let at = commits.get(&(copy.consumer.clone(), copy.at.partition));
    at.is_some_and(|at| *at > copy.at.offset)
}

fn sort(
    copies: &[SentCopy],
    commits: &Commits,
    returned: &HashSet<Place>,
    made: &HashSet<(i32, i64)>,
) -> Settled {
    let mut settled = Settled::default();
    for copy in copies {
        let place = (copy.at.partition, copy.at.offset);
        let count = if returned.contains(&copy.at) {
            &mut settled.returned
        } else if !is_passed(copy, commits) {
            &mut settled.waiting
        } else if copy.consumer == "enricher" && !made.contains(&place) {
            &mut settled.dropped
        } else {
            &mut settled.taken
        };
        *count += 1;
    }
    settled
}

async fn commits(config: &Config, copies: &[SentCopy]) -> Result<Commits, Failure> {
    let mut asked: BTreeMap<(String, String), BTreeSet<i32>> = BTreeMap::new();
    for copy in copies {
        let key = (copy.consumer.clone(), copy.at.topic.clone());
        asked.entry(key).or_default().insert(copy.at.partition);
    }
    let (settings, groups) = (config.kafka.clone(), config.groups.clone());
    kafka::ask(move || {
        let mut commits = Commits::new();
        for ((consumer, topic), partitions) in asked {
            let group = match consumer.split_once('.') {
                Some((_, endpoint)) => format!("{}.{endpoint}", groups.webhooks),
                None if consumer == "enricher" => groups.enricher.clone(),
                None => groups.clickhouse.clone(),
            };
            let scanner = Scanner::open(&settings, &group, &topic)?;
            let partitions: Vec<i32> = partitions.into_iter().collect();
            for (partition, offset) in scanner.committed(&partitions)? {
                commits.insert((consumer.clone(), partition), offset);
            }
        }
        Ok(commits)
    })
    .await
}

/// Places of copies that are letters again, of those that failed since.
async fn returned(
    config: &Config,
    copies: &[SentCopy],
    since: Micros,
) -> Result<HashSet<Place>, Failure> {
    let services: BTreeSet<String> = copies.iter().map(|copy| copy.consumer.clone()).collect();
    let filter = FilterArgs {
        service: services.into_iter().collect(),
        since: Some(Moment::At(since)),
        ..FilterArgs::default()
    };
    let filter = Filter::of(&filter, service::clock::now())?;
    let keep = |origins: &mut HashSet<Place>, _: &Known, letter: Letter| {
        origins.extend(letter.origin);
    };
    let folded = fold(&config.kafka, &filter, Marks::Along, HashSet::new(), keep);
    folded.await.map(|(origins, _)| origins)
}

/// Where in the change topic the redriven records stood that the output has got since.
async fn made(config: &Config, from: &BTreeMap<i32, i64>) -> Result<HashSet<(i32, i64)>, Failure> {
    if from.is_empty() {
        return Ok(HashSet::new());
    }
    let (settings, topic, from) = (
        config.kafka.clone(),
        config.topics.enriched.clone(),
        from.clone(),
    );
    kafka::ask(move || {
        let scanner = Scanner::open(&settings, NAME, &topic)?;
        let spans: Vec<Span> = scanner
            .spans()?
            .into_iter()
            .filter_map(|span| {
                let from = from.get(&span.partition)?;
                Some(Span {
                    from: span.from.max(*from),
                    ..span
                })
            })
            .collect();
        let mut made = HashSet::new();
        scanner.read(&spans, |record| {
            if let Some(Position {
                lane: Lane::Redrive,
                partition,
                offset,
                ..
            }) = source_position(&record)
            {
                made.insert((partition, offset));
            }
        })?;
        Ok(made)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(consumer: &str, place: &str) -> SentCopy {
        SentCopy {
            consumer: consumer.into(),
            at: place.parse().unwrap(),
        }
    }

    #[test]
    fn a_copy_is_taken_only_when_it_was_passed_and_left_a_trace() {
        let copies = [
            copy("enricher", "cdc/3/10"),
            copy("enricher", "cdc/3/11"),
            copy("enricher", "cdc/3/12"),
            copy("webhook-forwarder.crm", "enriched/3/5"),
            copy("webhook-forwarder.crm", "enriched/3/6"),
        ];
        let commits = Commits::from([
            (("enricher".to_owned(), 3), 13),
            (("webhook-forwarder.crm".to_owned(), 3), 6),
        ]);
        let returned = HashSet::from(["cdc/3/11".parse().unwrap()]);
        let settled = sort(&copies, &commits, &returned, &HashSet::from([(3, 10)]));
        let expected = Settled {
            taken: 2,
            returned: 1,
            dropped: 1,
            waiting: 1,
        };
        assert_eq!(settled, expected);
        assert!(!settled.is_good());
        let text = settled.text();
        assert!(
            text.contains("older version") && text.contains("1 not read yet"),
            "{text}"
        );
    }
}
