//! What is asked of Kafka: ends, records, commits, members; and the one write, a commit.
//!
//! Invariant: nothing here joins a group. A commit of a group that has members is refused by the broker itself.

use std::collections::BTreeMap;
use std::time::Duration;

use engagement::envelope::{Parser, TableSchema};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use service::Failure;
use stream::election::once_elected;
use stream::probe::Probe;
use stream::tail::End;
use stream::{Committed, KafkaSettings, Record, Watermarks};

use crate::config::{Config, Groups};
use crate::groups::who;
use crate::kafka::unanswered;
use crate::off_the_runtime;

const ASK: Duration = Duration::from_secs(10);

/// The broker, with the names of what is looked at.
pub(super) struct Broker {
    settings: KafkaSettings,
    probe: Probe,
    /// The change topic.
    pub(super) cdc: String,
    /// The enriched topic.
    pub(super) enriched: String,
    /// The groups by configuration.
    pub(super) groups: Groups,
    /// Groups with a position on the enriched topic, beside that of the aggregates.
    pub(super) readers: BTreeMap<String, Commits>,
    /// The enricher's commits on the change topic.
    pub(super) enricher: Commits,
    /// Reads change records.
    pub(super) parser: Parser,
    count: i32,
}

/// Commits of a group by partition.
pub(super) type Commits = BTreeMap<i32, Committed>;

impl Broker {
    /// Connects, and finds the groups that read the enriched topic (or `topic` in its place).
    pub(super) async fn open(config: &Config, topic: Option<&str>) -> Result<Self, Failure> {
        let settings = config.kafka.clone();
        let enriched = topic.unwrap_or(&config.topics.enriched).to_owned();
        let schema = TableSchema {
            event_key: config.database.schema.event_key().into(),
            content_id: config.database.schema.content_key().into(),
            ..TableSchema::default()
        };
        let mut broker = Self {
            probe: Probe::new(&settings, "engagectl-lineage"),
            cdc: config.topics.cdc.clone(),
            groups: config.groups.clone(),
            readers: BTreeMap::new(),
            enricher: Commits::new(),
            parser: Parser::new(schema),
            count: 0,
            settings,
            enriched,
        };
        broker.count = broker.count_partitions().await?;
        broker.read_groups().await?;
        Ok(broker)
    }

    /// The partitions to look at.
    pub(super) fn partitions(&self, only: Option<i32>) -> Result<Vec<i32>, Failure> {
        match only {
            None => Ok((0..self.count).collect()),
            Some(partition) if (0..self.count).contains(&partition) => Ok(vec![partition]),
            Some(partition) => Err(Failure::usage(format!(
                "topic {} has no partition {partition}",
                self.enriched
            ))
            .remedy(format!("give one of 0 to {}", self.count - 1))),
        }
    }

    /// Start and end of a partition.
    pub(super) async fn ends(&self, topic: &str, partition: i32) -> Result<Watermarks, Failure> {
        let asked = self.probe.watermarks(topic, partition).await;
        asked.map_err(unanswered)
    }

    /// What counts of the last records of a partition of the enriched topic.
    pub(super) async fn end(&self, partition: i32, wanted: u32) -> Result<End, Failure> {
        let told = End::of(partition);
        let asked = self.probe.tail(&self.enriched, partition, wanted, told);
        Ok(asked.await.map_err(unanswered)?.records)
    }

    /// The records of a range that are there.
    pub(super) async fn range(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<Vec<Record>, Failure> {
        let asked = self.probe.read_range(topic, partition, from, to).await;
        asked.map_err(unanswered)
    }

    /// The last record below `next`; offsets may have gaps.
    pub(super) async fn before(
        &self,
        topic: &str,
        partition: i32,
        next: i64,
        low: i64,
    ) -> Result<Option<Record>, Failure> {
        let mut back = 1;
        loop {
            let from = next.saturating_sub(back).max(low);
            let found = self.range(topic, partition, from, next).await?.pop();
            if found.is_some() || from == low {
                return Ok(found);
            }
            back = back.saturating_mul(16);
        }
    }

    /// Names of the members of a group, as far as the broker lists them.
    pub(super) async fn members(&self, group: &str) -> Result<Vec<String>, Failure> {
        let name = group.to_owned();
        self.blocking(group, move |consumer| who(consumer, &name))
            .await
    }

    /// Writes one position of a group without members.
    pub(super) async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        to: &Committed,
    ) -> Result<(), Failure> {
        let (topic, to) = (topic.to_owned(), to.clone());
        self.blocking(group, move |consumer| {
            let mut list = TopicPartitionList::new();
            let mut element = list.add_partition(&topic, partition);
            element.set_offset(Offset::Offset(to.offset))?;
            element.set_metadata(&to.metadata);
            once_elected(ASK, || consumer.commit(&list, CommitMode::Sync))
        })
        .await
    }

    async fn count_partitions(&self) -> Result<i32, Failure> {
        let topic = self.enriched.clone();
        let found = self.blocking("engagectl-lineage", move |consumer| {
            let metadata = once_elected(ASK, || consumer.fetch_metadata(Some(&topic), ASK))?;
            Ok(metadata
                .topics()
                .iter()
                .map(|t| t.partitions().len())
                .sum::<usize>())
        });
        match found.await? {
            0 => Err(
                Failure::repair(format!("topic {} does not exist", self.enriched))
                    .remedy("create it, or correct KAFKA_ENRICHED_TOPIC")
                    .next("engagectl init"),
            ),
            count => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        }
    }

    async fn read_groups(&mut self) -> Result<(), Failure> {
        let groups = self.groups.clone();
        if !groups.enricher.is_empty() {
            self.enricher = self.commits(&groups.enricher, &self.cdc).await?;
        }
        let listed = self.blocking("engagectl-lineage", |consumer| {
            let list = once_elected(ASK, || consumer.fetch_group_list(None, ASK))?;
            Ok(list
                .groups()
                .iter()
                .map(|group| group.name().to_owned())
                .collect::<Vec<_>>())
        });
        for name in listed.await? {
            if name == groups.enricher || name == groups.redis {
                continue;
            }
            let commits = self.commits(&name, &self.enriched).await?;
            if !commits.is_empty() {
                self.readers.insert(name, commits);
            }
        }
        Ok(())
    }

    async fn commits(&self, group: &str, topic: &str) -> Result<Commits, Failure> {
        let (topic, count) = (topic.to_owned(), self.count);
        self.blocking(group, move |consumer| {
            let mut list = TopicPartitionList::new();
            for partition in 0..count {
                list.add_partition(&topic, partition);
            }
            let found = once_elected(ASK, || consumer.committed_offsets(list.clone(), ASK))?;
            let elements = found.elements();
            Ok(elements
                .iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((
                        element.partition(),
                        Committed {
                            offset,
                            metadata: element.metadata().to_owned(),
                        },
                    )),
                    _ => None,
                })
                .collect())
        })
        .await
    }

    /// A question to the broker in the name of a group, off the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        group: &str,
        ask: impl FnOnce(&BaseConsumer) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let config = self.settings.probe_config(group);
        let asked = off_the_runtime(move || ask(&config.create()?));
        asked.await?.map_err(|error| refused(group, &error))
    }
}

fn refused(group: &str, error: &KafkaError) -> Failure {
    use rdkafka::types::RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::StaleMemberEpoch
            | Code::RebalanceInProgress,
        ) => occupied(group, "the broker refuses a commit of a group with members"),
        _ => Failure::unavailable(format!("kafka, asked about group {group}: {error}"))
            .remedy("check KAFKA_BOOTSTRAP_SERVERS and that the broker runs")
            .next("engagectl check"),
    }
}

/// The group is at work.
pub(super) fn occupied(group: &str, who: &str) -> Failure {
    Failure::try_again(format!("group {group} has members: {who}"))
        .remedy(format!(
            "stop every process of {group} first (a member that died is listed until its session ends)"
        ))
        .next("engagectl lineage adopt --execute")
}
