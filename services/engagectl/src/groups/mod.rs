//! Consumer groups seen from outside: commits, ends of the logs, members, and which of them has which partition.
//!
//! Invariant: no group is joined and nothing is committed. A group without a commit has the whole log before it.

mod assignment;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::groups::{GroupInfo, GroupMemberInfo};
use rdkafka::{Offset, TopicPartitionList};
use stream::election::once_elected;
use stream::probe::{Probe, SideConsumer, SideContext};
use stream::scan::partitions_of;
use stream::{KafkaSettings, Record};

use crate::config::Config;

/// Longest time of one question.
const ASK: Duration = Duration::from_secs(5);
/// Offsets after a commit among which the first record is looked for; others hold none (markers, compaction).
const GAP: i64 = 64;
/// How the second group of a webhook endpoint ends, which reads what backfills bring.
const BACKFILL: &str = ".backfill";

/// The groups of the pipeline, and the topic that each reads.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    kafka: KafkaSettings,
    /// A name to connect with; it is no group that anybody is in.
    name: &'static str,
    cdc: String,
    enriched: String,
    backfill: String,
    enricher: String,
    /// What the groups of webhook endpoints begin with.
    endpoints: String,
    readers: BTreeSet<String>,
}

/// A group, its topic, its members, and where it stands in each partition.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) members: Vec<Member>,
    pub(crate) partitions: BTreeMap<i32, Place>,
}

/// A process in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) host: String,
    partitions: BTreeSet<(String, i32)>,
}

/// Where a group stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its commit, if it has one.
    pub(crate) committed: Option<i64>,
    /// The log: its first offset, and the one after its last.
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Place {
    /// The offset that it reads next.
    pub(crate) fn next(&self) -> i64 {
        self.committed
            .map_or(self.start, |offset| offset.max(self.start))
    }

    /// Offsets that it has before it.
    pub(crate) fn lag(&self) -> i64 {
        (self.end - self.next()).max(0)
    }
}

impl Group {
    /// Who has a partition.
    pub(crate) fn owner(&self, partition: i32) -> Option<&Member> {
        let place = (self.topic.clone(), partition);
        self.members
            .iter()
            .find(|member| member.partitions.contains(&place))
    }
}

impl Watched {
    /// The groups of a configuration; `name` is only shown to the broker.
    pub(crate) fn of(config: &Config, name: &'static str) -> Self {
        let readers = [&config.groups.clickhouse, &config.groups.redis].map(String::clone);
        Self {
            kafka: config.kafka.clone(),
            name,
            cdc: config.topics.cdc.clone(),
            enriched: config.topics.enriched.clone(),
            backfill: config.topics.backfill.clone(),
            enricher: config.groups.enricher.clone(),
            endpoints: format!("{}.", config.groups.webhooks),
            readers: readers
                .into_iter()
                .chain(config.canary.groups.iter().cloned())
                .filter(|group| !group.is_empty())
                .collect(),
        }
    }

    /// Also these, which read the enriched topic.
    pub(crate) fn and(mut self, readers: impl IntoIterator<Item = String>) -> Self {
        self.readers.extend(readers);
        self.readers.remove(&self.enricher);
        self
    }

    /// What there is to know of each group now, with those of all webhook endpoints. Blocks.
    pub(crate) fn look(&self) -> KafkaResult<Vec<Group>> {
        let asking = consumer(&self.kafka, self.name)?;
        let list = once_elected(ASK, || asking.fetch_group_list(None, ASK))?;
        let members: BTreeMap<String, Vec<Member>> = list
            .groups()
            .iter()
            .map(|group| (group.name().to_owned(), members(group)))
            .collect();
        let mut logs = BTreeMap::new();
        for topic in [&self.cdc, &self.enriched, &self.backfill] {
            logs.insert(topic, ends(&asking, topic)?);
        }
        let exists = |name: &&String| !logs[self.topic_of(name)].is_empty();
        let endpoints = members.keys().filter(|name| {
            let endpoint = name.strip_prefix(&self.endpoints);
            // nobody has made a backfill yet, or the topic may not be seen
            endpoint.is_some_and(|endpoint| !is_of_backfills(endpoint) || exists(name))
        });
        let readers: BTreeSet<&String> = self.readers.iter().chain(endpoints).collect();
        let enricher = Some(&self.enricher).filter(|name| !name.is_empty());
        let all = enricher.into_iter().chain(readers);
        all.map(|group| {
            let topic = self.topic_of(group);
            Ok(Group {
                name: group.clone(),
                topic: topic.clone(),
                members: members.get(group).cloned().unwrap_or_default(),
                partitions: places(&self.kafka, group, topic, &logs[topic])?,
            })
        })
        .collect()
    }

    /// What a group reads: one that is none of ours, the enriched topic.
    pub(crate) fn topic_of(&self, group: &str) -> &String {
        let endpoint = group.strip_prefix(&self.endpoints);
        match endpoint {
            Some(name) if is_of_backfills(name) => &self.backfill,
            _ if group == self.enricher => &self.cdc,
            _ => &self.enriched,
        }
    }
}

/// Whether a group of an endpoint, without what all of them begin with, is its second one, which reads what backfills bring.
pub(crate) fn is_of_backfills(endpoint: &str) -> bool {
    endpoint.ends_with(BACKFILL)
}

/// The first record that a group has not done, if there is one.
pub(crate) async fn first_after(
    probe: &Probe,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Option<Record> {
    let range = probe.read_range(topic, partition, offset, offset + GAP);
    range.await.ok()?.into_iter().next()
}

/// Who is in a group now, as a person reads it; blocks.
pub(crate) fn who<C: ConsumerContext>(
    asking: &BaseConsumer<C>,
    group: &str,
) -> KafkaResult<Vec<String>> {
    let list = once_elected(ASK, || asking.fetch_group_list(Some(group), ASK))?;
    let members = list.groups().iter().flat_map(members);
    Ok(members
        .map(|member| format!("{} at {}", member.client, member.host))
        .collect())
}

fn consumer(kafka: &KafkaSettings, group: &str) -> KafkaResult<SideConsumer> {
    kafka.probe_config(group).create_with_context(SideContext)
}

fn members(group: &GroupInfo) -> Vec<Member> {
    let member = |member: &GroupMemberInfo| Member {
        id: member.id().to_owned(),
        client: member.client_id().to_owned(),
        host: member.client_host().trim_start_matches('/').to_owned(),
        partitions: assignment::read(member.assignment().unwrap_or_default()),
    };
    group.members().iter().map(member).collect()
}

/// Start and end of each partition; empty where there is no such topic.
fn ends(asking: &SideConsumer, topic: &str) -> KafkaResult<BTreeMap<i32, (i64, i64)>> {
    let ask = || partitions_of(&asking.fetch_metadata(Some(topic), ASK)?, topic);
    let partitions = once_elected(ASK, ask)?.into_iter();
    let log = |partition| {
        let ask = || asking.fetch_watermarks(topic, partition, ASK);
        Ok((partition, once_elected(ASK, ask)?))
    };
    partitions.map(log).collect()
}

fn places(
    kafka: &KafkaSettings,
    group: &str,
    topic: &str,
    ends: &BTreeMap<i32, (i64, i64)>,
) -> KafkaResult<BTreeMap<i32, Place>> {
    let mut list = TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition(topic, *partition);
    }
    let asking = consumer(kafka, group)?;
    let commits = once_elected(ASK, || asking.committed_offsets(list.clone(), ASK))?;
    let committed = |partition: i32| match commits.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    let places = ends.iter().map(|(partition, (start, end))| {
        let place = Place {
            committed: committed(*partition),
            start: *start,
            end: *end,
        };
        (*partition, place)
    });
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_a_commit_has_the_whole_log_before_it() {
        let place = |committed, start, end| Place {
            committed,
            start,
            end,
        };
        assert_eq!(place(None, 5, 25).lag(), 20);
        assert_eq!(place(Some(10), 5, 25).lag(), 15);
        assert_eq!(place(Some(2), 5, 25).lag(), 20, "retention overtook it");
        assert_eq!(place(Some(30), 5, 25).lag(), 0, "the topic was made anew");
    }

    #[test]
    fn the_owner_is_the_member_that_has_the_partition_of_this_topic() {
        let member = |client: &str, topic: &str, partition| Member {
            id: format!("{client}-1"),
            client: client.into(),
            host: "127.0.0.1".into(),
            partitions: [(topic.to_owned(), partition)].into(),
        };
        let group = Group {
            name: "g".into(),
            topic: "t".into(),
            members: vec![member("other", "u", 1), member("mine", "t", 1)],
            partitions: BTreeMap::new(),
        };
        assert_eq!(
            group.owner(1).map(|member| member.client.as_str()),
            Some("mine")
        );
        assert_eq!(group.owner(2), None);
    }

    #[test]
    fn the_enricher_is_watched_on_the_topic_that_it_reads_even_if_named_again() {
        let watched = Watched::of(&Config::default(), "x").and(["mine".into(), "enricher".into()]);
        let readers: Vec<&str> = watched.readers.iter().map(String::as_str).collect();
        assert_eq!(readers, ["clickhouse-sink", "mine", "redis-aggregator"]);
    }

    #[test]
    fn each_group_is_watched_on_the_topic_that_it_reads() {
        let watched = Watched::of(&Config::default(), "x");
        for (group, topic) in [
            ("enricher", "cdc.public.engagement_events"),
            ("clickhouse-sink", "engagement.enriched.v1"),
            ("webhook-forwarder.crm", "engagement.enriched.v1"),
            ("webhook-forwarder.crm.backfill", "engagement.backfill.v1"),
            ("webhook-forwarder.backfill", "engagement.enriched.v1"),
        ] {
            assert_eq!(watched.topic_of(group), topic, "{group}");
        }
    }
}
