//! A group as the broker knows it: members, commits; and the one write.
//!
//! Invariant: the group is never joined; a commit counts only when it is read back.

use std::collections::BTreeMap;

use engagement::event::Micros;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use service::Failure;
use stream::election::once_elected;
use stream::probe::Probe;
use stream::scan::{Scanner, Span};
use stream::{Committed, KafkaSettings, LaneError, Record, Watermarks};

use super::ASK;
use super::args::Target;
use super::plan::{Fact, Move};
use crate::groups::who;
use crate::kafka::{self, unanswered};
use crate::off_the_runtime;

/// Records before the new offset among which the highest position is looked for.
const LOOK_BACK: i64 = 256;

/// One group on one topic.
pub(crate) struct Group {
    settings: KafkaSettings,
    probe: Probe,
    name: String,
    topic: String,
}

impl Group {
    pub(crate) fn new(settings: &KafkaSettings, name: &str, topic: &str) -> Self {
        Self {
            settings: settings.clone(),
            probe: Probe::new(settings, "engagectl-reset"),
            name: name.to_owned(),
            topic: topic.to_owned(),
        }
    }

    /// Who is in it now.
    pub(crate) async fn members(&self) -> Result<Vec<String>, Failure> {
        let name = self.name.clone();
        self.ask(move |consumer| who(consumer, &name)).await
    }

    /// Where each partition stands, and where it is to go on.
    pub(crate) async fn facts(
        &self,
        only: Option<i32>,
        target: Target,
    ) -> Result<Vec<Fact>, Failure> {
        let (settings, topic) = (self.settings.clone(), self.topic.clone());
        let spans = kafka::ask(move || spans(&settings, &topic, target)).await?;
        if spans.is_empty() {
            return Err(
                Failure::usage(format!("topic {} does not exist", self.topic))
                    .remedy("name the topic that the group reads: --topic"),
            );
        }
        if let Some(partition) =
            only.filter(|partition| !spans.iter().any(|(span, _)| span.partition == *partition))
        {
            return Err(Failure::usage(format!(
                "topic {} has no partition {partition}",
                self.topic
            ))
            .remedy(format!("give one of 0 to {}", spans.len() - 1)));
        }
        let committed = self.committed().await?;
        let wanted = spans
            .into_iter()
            .filter(|(span, _)| only.is_none_or(|partition| partition == span.partition));
        Ok(wanted
            .map(|(span, to)| Fact {
                partition: span.partition,
                log: Watermarks {
                    low: span.from,
                    high: span.to,
                },
                committed: committed.get(&span.partition).cloned(),
                to,
            })
            .collect())
    }

    /// The last records below the new offset.
    pub(crate) async fn before(&self, fact: &Fact) -> Result<Vec<Record>, Failure> {
        let mut back = LOOK_BACK;
        loop {
            let from = fact.to.saturating_sub(back).max(fact.log.low);
            let read = self
                .probe
                .read_range(&self.topic, fact.partition, from, fact.to);
            let records = read.await.map_err(unanswered)?;
            if !records.is_empty() || from == fact.log.low {
                return Ok(records);
            }
            back = back.saturating_mul(16);
        }
    }

    /// Writes, and reads back: the answer to a commit does not tell of every partition.
    pub(crate) async fn commit(&self, moves: &[Move]) -> Result<(), Failure> {
        if moves.is_empty() {
            return Ok(());
        }
        let (topic, wanted) = (self.topic.clone(), moves.to_vec());
        self.ask(move |consumer| {
            let mut list = TopicPartitionList::new();
            for Move { partition, to, .. } in &wanted {
                let mut element = list.add_partition(&topic, *partition);
                element.set_offset(Offset::Offset(to.offset))?;
                element.set_metadata(&to.metadata);
            }
            once_elected(ASK, || consumer.commit(&list, CommitMode::Sync))
        })
        .await?;
        let found = self.committed().await?;
        match moves
            .iter()
            .find(|change| found.get(&change.partition) != Some(&change.to))
        {
            None => Ok(()),
            Some(change) => Err(Failure::try_again(format!(
                "partition {} of group {} is at {:?} after the commit of {}",
                change.partition,
                self.name,
                found.get(&change.partition).map(|commit| commit.offset),
                change.to.offset
            ))
            .remedy("somebody else commits for this group: stop every process of it")
            .next("engagectl reset --execute")),
        }
    }

    /// Whether it has a commit.
    pub(crate) async fn is_known(&self) -> Result<bool, Failure> {
        Ok(!self.committed().await?.is_empty())
    }

    async fn committed(&self) -> Result<BTreeMap<i32, Committed>, Failure> {
        let topic = self.topic.clone();
        self.ask(move |consumer| {
            let metadata = once_elected(ASK, || consumer.fetch_metadata(Some(&topic), ASK))?;
            let mut list = TopicPartitionList::new();
            let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            for partition in partitions {
                list.add_partition(&topic, partition.id());
            }
            let found = once_elected(ASK, || consumer.committed_offsets(list.clone(), ASK))?;
            let commits = found.elements().into_iter().filter_map(|element| {
                let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
                let metadata = element.metadata().to_owned();
                Some((element.partition(), Committed { offset, metadata }))
            });
            Ok(commits.collect())
        })
        .await
    }

    /// A question in the name of the group, off the runtime.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let config = self.settings.probe_config(&self.name);
        let asked = off_the_runtime(move || question(&config.create()?));
        asked.await?.map_err(unanswered)
    }
}

/// What each partition retains, and the offset that is aimed at.
fn spans(
    settings: &KafkaSettings,
    topic: &str,
    target: Target,
) -> Result<Vec<(Span, i64)>, LaneError> {
    let scanner = Scanner::open(settings, "engagectl-reset", topic)?;
    let spans = scanner.spans()?;
    let to: Vec<i64> = match target {
        Target::Earliest => spans.iter().map(|span| span.from).collect(),
        Target::Latest => spans.iter().map(|span| span.to).collect(),
        Target::Offset(offset) => spans.iter().map(|_| offset).collect(),
        Target::Time(Micros(at)) => {
            let since = scanner.since(&spans, at.div_euclid(1000))?;
            since.iter().map(|span| span.from).collect()
        }
    };
    Ok(spans.into_iter().zip(to).collect())
}
