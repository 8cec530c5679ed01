//! Lag of every group from outside: by its commits and the ends of the logs, whether or not a process has the partition.
//!
//! Invariant: no group is joined and nothing is committed; a broker that does not answer leaves the gauges as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use service::Context;
use stream::KafkaSettings;
use stream::probe::{Probe, SideConsumer, SideContext};
use tokio::time::{MissedTickBehavior, interval};

use super::metrics;
use crate::config::Config;

/// Longest time of one question.
const ASK: Duration = Duration::from_secs(5);
/// Offsets after a commit among which the first record is looked for; others hold none (markers, compaction).
const GAP: i64 = 64;
/// Groups of webhook endpoints begin like this.
const ENDPOINTS: &str = "webhook-forwarder.";

/// The groups, and the topic that each reads.
#[derive(Clone, Debug)]
struct Watched {
    kafka: KafkaSettings,
    cdc: String,
    enriched: String,
    enricher: String,
    readers: BTreeSet<String>,
}

/// A group, its topic, its members, and for each partition commit and end.
struct Found {
    group: String,
    topic: String,
    members: usize,
    partitions: BTreeMap<i32, (i64, i64)>,
}

/// Measures in the background.
pub(super) fn watch(config: &Config, ctx: &Context) {
    let readers = ["clickhouse-sink".to_owned(), config.groups.redis.clone()];
    let watched = Watched {
        kafka: config.kafka.clone(),
        cdc: config.topics.cdc.clone(),
        enriched: config.topics.enriched.clone(),
        enricher: config.groups.enricher.clone(),
        readers: readers
            .into_iter()
            .chain(config.canary.groups.iter().cloned())
            .filter(|group| !group.is_empty())
            .collect(),
    };
    let (every, stop) = (config.canary.groups_every, ctx.lifecycle.soft());
    let probe = Probe::new(&config.kafka, "engagectl-canary");
    ctx.lifecycle.spawn("groups", async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let measuring = measure(&watched, &probe);
            if stop.run_until_cancelled(measuring).await.is_none() {
                break;
            }
        }
        Ok(())
    });
}

async fn measure(watched: &Watched, probe: &Probe) {
    let asked = watched.clone();
    let found = tokio::task::spawn_blocking(move || asked.look()).await;
    match found {
        Ok(Ok(groups)) => {
            for group in &groups {
                show(group, probe).await;
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "the groups' lag cannot be measured"),
        Err(error) => tracing::warn!(%error, "measuring the groups' lag ended"),
    }
}

async fn show(found: &Found, probe: &Probe) {
    metrics::group_members(&found.group, found.members);
    for (partition, (commit, end)) in &found.partitions {
        let lag = (end - commit).max(0);
        let behind = match lag {
            0 => 0.0,
            _ => age_at(probe, &found.topic, *partition, *commit).await,
        };
        metrics::group_partition(&found.group, &found.topic, *partition, lag, behind);
    }
}

/// The age of the first record after an offset, in seconds; 0 where there is none.
async fn age_at(probe: &Probe, topic: &str, partition: i32, offset: i64) -> f64 {
    let range = probe.read_range(topic, partition, offset, offset + GAP);
    let first = range.await.ok().and_then(|records| {
        let first = records.into_iter().next()?;
        first.timestamp_ms
    });
    let age = first.map_or(0, |at| service::clock::now() / 1000 - at);
    Duration::from_millis(u64::try_from(age).unwrap_or(0)).as_secs_f64()
}

impl Watched {
    /// Blocking.
    fn look(&self) -> KafkaResult<Vec<Found>> {
        let asking = consumer(&self.kafka, "engagectl-canary")?;
        let list = asking.fetch_group_list(None, ASK)?;
        let members: BTreeMap<String, usize> = list
            .groups()
            .iter()
            .map(|group| (group.name().to_owned(), group.members().len()))
            .collect();
        let ends = |topic: &str| ends(&asking, topic);
        let (cdc, enriched) = (ends(&self.cdc)?, ends(&self.enriched)?);
        let endpoints = members.keys().filter(|name| name.starts_with(ENDPOINTS));
        let readers: BTreeSet<&String> = self.readers.iter().chain(endpoints).collect();
        let readers = readers
            .into_iter()
            .map(|group| (group, &self.enriched, &enriched));
        let enricher = std::iter::once((&self.enricher, &self.cdc, &cdc));
        let mut all = Vec::new();
        for (group, topic, ends) in enricher
            .filter(|(name, ..)| !name.is_empty())
            .chain(readers)
        {
            all.push(Found {
                group: group.clone(),
                topic: topic.clone(),
                members: members.get(group).copied().unwrap_or(0),
                partitions: commits(&self.kafka, group, topic, ends)?,
            });
        }
        Ok(all)
    }
}

fn consumer(kafka: &KafkaSettings, group: &str) -> KafkaResult<SideConsumer> {
    kafka.probe_config(group).create_with_context(SideContext)
}

/// Start and end of each partition.
fn ends(asking: &SideConsumer, topic: &str) -> KafkaResult<BTreeMap<i32, (i64, i64)>> {
    let metadata = asking.fetch_metadata(Some(topic), ASK)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let mut ends = BTreeMap::new();
    for partition in found.map_or(&[][..], MetadataTopic::partitions) {
        let log = asking.fetch_watermarks(topic, partition.id(), ASK)?;
        ends.insert(partition.id(), log);
    }
    Ok(ends)
}

/// Commit and end of each partition; a group without a commit has the whole log before it.
fn commits(
    kafka: &KafkaSettings,
    group: &str,
    topic: &str,
    ends: &BTreeMap<i32, (i64, i64)>,
) -> KafkaResult<BTreeMap<i32, (i64, i64)>> {
    let mut list = TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition(topic, *partition);
    }
    let committed = consumer(kafka, group)?.committed_offsets(list, ASK)?;
    let commit = |partition: i32, start: i64| {
        let element = committed.find_partition(topic, partition);
        match element.as_ref().map(TopicPartitionListElem::offset) {
            Some(Offset::Offset(offset)) => offset.max(start),
            _ => start,
        }
    };
    Ok(ends
        .iter()
        .map(|(partition, (start, end))| (*partition, (commit(*partition, *start), *end)))
        .collect())
}
