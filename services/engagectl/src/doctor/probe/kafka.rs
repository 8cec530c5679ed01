//! Kafka: what `check` asks, then copies, keys and times of records, groups against retention, dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use engagement::envelope::{Input, Parser, Reject};
use platform::{Component, PlatformError};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use service::Exit;
use service::clock::now;
use stream::probe::Probe;
use stream::{KafkaSettings, Record};

use super::{Notes, checked, parser};
use crate::config::Config;
use crate::doctor::judge::group::{self, Standing};
use crate::doctor::judge::log::{self, Topic};
use crate::doctor::report::Diagnosis;
use crate::doctor::{Asked, NAME};
use crate::groups::{Group, Watched, first_after};

/// Longest time of one question.
const ASK: Duration = Duration::from_secs(10);

pub(in crate::doctor) async fn look(asked: Asked, notes: Notes) {
    let config = &asked.config;
    if checked(&asked, Component::Kafka, &notes).await.is_none() {
        return;
    }
    let topics = match topics(config) {
        Ok(topics) => topics,
        Err(error) => return notes.add([unanswered(&error.to_string())]),
    };
    let of = |name: &str| {
        topics.get(name).cloned().unwrap_or_else(|| Topic {
            name: name.to_owned(),
            ..Topic::default()
        })
    };
    let (cdc, enriched) = (of(&config.topics.cdc), of(&config.topics.enriched));
    notes.add([log::parity(&cdc, &enriched)]);
    notes.add(topics.values().filter_map(log::copies));
    let probe = Probe::new(&config.kafka, NAME);
    let newest = newest(&probe, &cdc).await;
    notes.add([keys(&parser(config), &cdc.name, &newest)]);
    notes.add(log::times(&cdc.name, ahead(&newest)));
    groups(config, &probe, &notes).await;
    match crate::dlq::open(config).await {
        Ok(open) => notes.add(group::letters(&open)),
        Err(failure) => notes.add([unanswered(&failure.to_string())]),
    }
}

fn unanswered(cause: &str) -> Diagnosis {
    Diagnosis::error("kafka", cause)
        .right("an answer")
        .next("look at the brokers; `engagectl access kafka` lists what this user needs")
        .exits(Exit::Unavailable)
}

/// Those of the pipeline that are there, by name. Blocks.
fn topics(config: &Config) -> KafkaResult<BTreeMap<String, Topic>> {
    let consumer: BaseConsumer = config.kafka.probe_config(NAME).create()?;
    let metadata = consumer.fetch_metadata(None, ASK)?;
    let wanted = config.topics.specs();
    let ours = |topic: &&MetadataTopic| {
        topic.error().is_none() && wanted.iter().any(|spec| spec.name == topic.name())
    };
    let found = metadata.topics().iter().filter(ours);
    Ok(found
        .map(|topic| (topic.name().to_owned(), described(topic)))
        .collect())
}

fn described(topic: &MetadataTopic) -> Topic {
    let partitions = topic.partitions().iter();
    let headless = partitions.clone().filter(|one| one.leader() < 0);
    let behind = partitions.filter(|one| one.isr().len() < one.replicas().len());
    Topic {
        name: topic.name().to_owned(),
        partitions: topic.partitions().len(),
        headless: headless.map(MetadataPartition::id).collect(),
        behind: behind.map(MetadataPartition::id).collect(),
    }
}

/// The newest record of each partition that has one.
async fn newest(probe: &Probe, topic: &Topic) -> Vec<Record> {
    let mut all = Vec::new();
    let count = i32::try_from(topic.partitions).unwrap_or(0);
    for partition in (0..count).filter(|partition| !topic.headless.contains(partition)) {
        let end = probe.tail(&topic.name, partition, 1, Vec::new()).await;
        all.extend(end.ok().and_then(|mut end| end.records.pop()));
    }
    all
}

fn keys(parser: &Parser, topic: &str, newest: &[Record]) -> Diagnosis {
    let read = |record: &Record| -> (i32, Result<(), Reject>) {
        let input = Input {
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
            moved: false,
        };
        (record.partition, parser.event(input).map(drop))
    };
    let read: Vec<_> = newest.iter().map(read).collect();
    log::keys(topic, &read)
}

/// Seconds by which the newest record is in the future.
fn ahead(newest: &[Record]) -> i64 {
    let newest = newest.iter().filter_map(|record| record.timestamp_ms).max();
    newest.map_or(i64::MIN, |at| (at - now() / 1000) / 1000)
}

async fn groups(config: &Config, probe: &Probe, notes: &Notes) {
    let groups = match Watched::of(config, NAME).look() {
        Ok(groups) => groups,
        Err(error) => return notes.add([unanswered(&error.to_string())]),
    };
    let mut kept = BTreeMap::new();
    for topic in [&config.topics.cdc, &config.topics.enriched] {
        match retention(&config.kafka, topic).await {
            Ok(retention) => drop(kept.insert(topic.clone(), retention)),
            // said already, as everything that `init` makes
            Err(PlatformError::Refused { .. }) if !has(&groups, topic) => {}
            Err(error) => notes.add([unanswered(&error.to_string())]),
        }
    }
    for group in groups {
        let kept = kept.get(&group.topic).copied().flatten();
        notes.add(group::judge(&standing(probe, &group).await, kept));
    }
}

/// Whether the topic of a group is there.
fn has(groups: &[Group], topic: &str) -> bool {
    let mut of_topic = groups.iter().filter(|group| group.topic == topic);
    of_topic.any(|group| !group.partitions.is_empty())
}

async fn standing(probe: &Probe, group: &Group) -> Standing {
    let mut standing = Standing {
        name: group.name.clone(),
        topic: group.topic.clone(),
        members: group.members.len(),
        ..Standing::default()
    };
    for (partition, place) in &group.partitions {
        standing.lag += place.lag();
        standing.has_begun |= place.committed.is_some();
        if place.committed.is_some_and(|offset| offset < place.start) {
            standing.overtaken.push(*partition);
        }
        if place.lag() > 0 {
            let first = first_after(probe, &group.topic, *partition, place.next()).await;
            let at = first.and_then(|record| record.timestamp_ms);
            let age = at.and_then(|at| u64::try_from(now() / 1000 - at).ok());
            let age = age.map(|age| (*partition, Duration::from_millis(age)));
            let both = standing.oldest.into_iter().chain(age);
            standing.oldest = both.max_by_key(|(_, age)| *age);
        }
    }
    standing
}

/// How long a topic keeps records; `None`: for ever, or as long as they are the newest of their key.
async fn retention(kafka: &KafkaSettings, topic: &str) -> Result<Option<Duration>, PlatformError> {
    let refused = |cause: String| PlatformError::Refused {
        component: Component::Kafka,
        step: format!("reading the settings of topic {topic}"),
        cause,
    };
    let admin: AdminClient<DefaultClientContext> = kafka
        .admin_config()
        .create()
        .map_err(|error| refused(error.to_string()))?;
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let described = admin
        .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(|error| refused(error.to_string()))?;
    let mut entries = Vec::new();
    for resource in described {
        entries.extend(resource.map_err(|code| refused(code.to_string()))?.entries);
    }
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name)?;
        entry.value.clone()
    };
    let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let kept = value("retention.ms").and_then(|ms| ms.parse::<u64>().ok());
    Ok(kept.filter(|_| deletes).map(Duration::from_millis))
}
