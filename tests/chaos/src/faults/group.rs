//! The committed offsets of a consumer group, read and changed from outside.
//!
//! Invariant: nothing is changed while the group has members; the broker refuses it, and so it is tried again.

mod checkpoint;

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use checkpoint::{SourceBefore, metadata, source_of};

use super::kafka::{ASK, Quiet, SideConsumer, ends, patiently, side_consumer};
use crate::{Arena, wait};

/// A static member that has left stays one until its session ends: 6 s, and 45 s, the broker's, for one of a KIP-848 storm.
const EMPTY_WITHIN: Duration = Duration::from_secs(90);

/// The services that continue where their group's commit says.
pub(super) const COMMIT_READERS: [&str; 2] = ["clickhouse-sink", DELIVERS];
/// The service whose effect cannot be compared with what is there already: it repeats.
pub(super) const DELIVERS: &str = "webhook-forwarder";

/// The group of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The service.
    pub(super) service: &'static str,
    /// The group's name.
    pub(super) name: &'static str,
    /// The topic that it reads.
    pub(super) topic: &'static str,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) metadata: String,
}

const ENRICHED: &str = "engagement.enriched.v1";

impl Group {
    /// Every group that a service of the pipeline may have.
    const ALL: [Self; 4] = [
        Self {
            service: "enricher",
            name: "enricher",
            topic: "cdc.public.engagement_events",
        },
        Self {
            service: "clickhouse-sink",
            name: "clickhouse-sink",
            topic: ENRICHED,
        },
        Self {
            service: "redis-aggregator",
            name: "redis-aggregator",
            topic: ENRICHED,
        },
        Self {
            service: "webhook-forwarder",
            name: "webhook-forwarder.demo",
            topic: ENRICHED,
        },
    ];

    /// The groups of the services that run.
    pub(super) fn all(arena: &Arena) -> Vec<Self> {
        let runs = |group: &Self| arena.fleet.runs(group.service);
        Self::ALL.into_iter().filter(runs).collect()
    }

    /// The group of a service.
    pub(super) fn of(service: &str) -> Self {
        let found = Self::ALL.into_iter().find(|group| group.service == service);
        found.unwrap_or(Self::ALL[0])
    }

    pub(super) fn trusts_its_commit(&self) -> bool {
        COMMIT_READERS.contains(&self.service)
    }

    pub(super) fn delivers(&self) -> bool {
        self.service == DELIVERS
    }

    /// What is committed; partitions without a commit are left out.
    pub(super) async fn committed(self, arena: &Arena) -> anyhow::Result<Vec<Commit>> {
        self.ask(arena, move |consumer| {
            let mut list = TopicPartitionList::new();
            for (partition, _) in ends(consumer, self.topic)? {
                list.add_partition(self.topic, partition);
            }
            let answer = consumer.committed_offsets(list, ASK)?;
            let commits = answer.elements().into_iter().filter_map(|element| {
                let Offset::Offset(offset) = element.offset() else {
                    return None;
                };
                Some(Commit {
                    partition: element.partition(),
                    offset,
                    metadata: element.metadata().to_owned(),
                })
            });
            Ok(commits.collect())
        })
        .await
    }

    /// What is done and what there is, in offsets over all partitions; one without a commit has done nothing.
    pub(super) async fn progress(self, arena: &Arena) -> anyhow::Result<(i64, i64)> {
        self.ask(arena, move |consumer| {
            let ends = ends(consumer, self.topic)?;
            let mut list = TopicPartitionList::new();
            for (partition, _) in &ends {
                list.add_partition(self.topic, *partition);
            }
            let committed = consumer.committed_offsets(list, ASK)?;
            let (mut done, mut end) = (0, 0);
            for (partition, (low, high)) in ends {
                let element = committed.find_partition(self.topic, partition);
                done += match element.map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => low,
                };
                end += high;
            }
            Ok((done, end))
        })
        .await
    }

    pub(super) async fn low(self, arena: &Arena, partition: i32) -> anyhow::Result<i64> {
        Ok(self.ends(arena, partition).await?.0)
    }

    pub(super) async fn high(self, arena: &Arena, partition: i32) -> anyhow::Result<i64> {
        Ok(self.ends(arena, partition).await?.1)
    }

    async fn ends(self, arena: &Arena, partition: i32) -> anyhow::Result<(i64, i64)> {
        self.ask(arena, move |consumer| {
            Ok(consumer.fetch_watermarks(self.topic, partition, ASK)?)
        })
        .await
    }

    /// The commit that the service makes when everything before this offset is done.
    pub(super) async fn commit_at(
        self,
        arena: &Arena,
        partition: i32,
        offset: i64,
    ) -> anyhow::Result<Commit> {
        let found = self.source_before(arena, partition, offset).await?;
        let metadata = metadata(found.as_ref());
        Ok(Commit {
            partition,
            offset,
            metadata,
        })
    }

    /// The last record before an offset that carries a position. Those that a service could not read carry none, and change
    /// records neither.
    async fn source_before(
        self,
        arena: &Arena,
        partition: i32,
        offset: i64,
    ) -> anyhow::Result<Option<SourceBefore>> {
        self.ask(arena, move |consumer| {
            let (low, _) = consumer.fetch_watermarks(self.topic, partition, ASK)?;
            if self.topic != ENRICHED {
                return Ok(None);
            }
            for before in (low..offset).rev() {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(self.topic, partition, Offset::Offset(before))?;
                consumer.assign(&list)?;
                let record = consumer.poll(ASK).context("no record came")??;
                let source = source_of(&record);
                drop(record);
                consumer.unassign()?;
                if let Some(source) = source {
                    let is_right_before = before + 1 == offset;
                    return Ok(Some(SourceBefore {
                        source,
                        is_right_before,
                    }));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Sets offsets, as soon as the group has no members.
    pub(super) async fn commit(self, arena: &Arena, commits: Vec<Commit>) -> anyhow::Result<()> {
        let what = format!("group {} takes other offsets", self.name);
        wait::until(&what, EMPTY_WITHIN, || async {
            let list = self.list(&commits).map_err(|error| error.to_string())?;
            let set = self.ask_once(arena, move |consumer| {
                Ok(consumer.commit(&list, CommitMode::Sync)?)
            });
            let outcome = set.await;
            // The broker decides for each partition; what counts is what is there afterwards.
            let now = self
                .committed(arena)
                .await
                .map_err(|error| format!("{error:#}"))?;
            match commits.iter().all(|commit| now.contains(commit)) {
                true => Ok(()),
                false => Err(format!("{outcome:?}")),
            }
        })
        .await
    }

    fn list(self, commits: &[Commit]) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for commit in commits {
            let mut element = list.add_partition(self.topic, commit.partition);
            element.set_offset(Offset::Offset(commit.offset))?;
            element.set_metadata(&commit.metadata);
        }
        Ok(list)
    }

    /// Deletes the group, as soon as it has no members.
    pub(super) async fn delete(self, arena: &Arena) -> anyhow::Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &arena.addresses.kafka);
        let admin = AdminClient::from_config_and_context(&config, Quiet)?;
        let what = format!("group {} is deleted", self.name);
        wait::until(&what, EMPTY_WITHIN, || async {
            let deleted = admin
                .delete_groups(&[self.name], &AdminOptions::new())
                .await;
            let results = deleted.map_err(|error| error.to_string())?;
            match results.into_iter().next() {
                Some(Err((_, code))) => Err(code.to_string()),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        self,
        arena: &Arena,
        question: impl Fn(&SideConsumer) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.ask_once(arena, move |consumer| patiently(|| question(consumer)))
            .await
    }

    async fn ask_once<T: Send + 'static>(
        self,
        arena: &Arena,
        question: impl FnOnce(&SideConsumer) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let consumer = side_consumer(arena, self.name)?;
        tokio::task::spawn_blocking(move || question(&consumer)).await?
    }
}
