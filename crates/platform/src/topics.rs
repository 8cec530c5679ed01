//! The topics: their names, partition counts, retention and size limits.
//!
//! Invariant: the CDC topic of events, the enriched topic, that of backfills and the dead letters of their readers have the same
//! partition count, and size limits rise along the way (CDC < enriched < dead letters), so that whatever
//! entered can also leave.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;
use serde::{Deserialize, Serialize};
use stream::settings::KafkaSettings;
use stream::{contact, dead_letter};

use crate::plan::{Action, Component, Plan};
use crate::{PlatformError, Settings};

const DAY_MS: i64 = 86_400_000;
/// From "created" to known by every broker; a moment, unless the cluster is in trouble.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Names and sizes of the topics.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// Change events of `engagement_events`, as Debezium names them.
    pub cdc: String,
    /// Change events of `content`.
    pub content: String,
    /// What the enricher writes and every sink reads.
    pub enriched: String,
    /// What a backfill writes and sinks read beside the enriched topic.
    pub backfill: String,
    /// Plans and progress of backfills; one partition.
    pub backfill_runs: String,
    /// Whose data `engagectl erase` removes, for readers that are not ours; one partition.
    pub erasures: String,
    /// Partitions of all of them. It cannot be changed later without a migration.
    pub partitions: i32,
    /// Copies of each partition; 3 on a cluster.
    pub replication: i32,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            cdc: "cdc.public.engagement_events".into(),
            content: "cdc.public.content".into(),
            enriched: "engagement.enriched.v1".into(),
            backfill: "engagement.backfill.v1".into(),
            backfill_runs: "engagement.backfill.runs".into(),
            erasures: "engagement.erasures.v1".into(),
            partitions: 16,
            replication: 1,
        }
    }
}

/// One topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Its partition count.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// Topic settings that differ from the broker's.
    pub config: Vec<(&'static str, String)>,
}

impl TopicSettings {
    /// All topics of the pipeline.
    #[must_use]
    pub fn specs(&self) -> Vec<TopicSpec> {
        let mut specs = vec![
            self.deleting(&self.cdc, 7, 12 * MIB),
            self.compacted(&self.content, self.partitions, 12 * MIB),
            self.compacted("__debezium-heartbeat.cdc", 1, MIB),
            self.deleting(&self.enriched, 7, 16 * MIB),
            self.deleting(&self.backfill, 3, 16 * MIB),
            self.compacted(&self.backfill_runs, 1, MIB),
            // as long as what is erased may still be read in the enriched topic
            TopicSpec {
                partitions: 1,
                ..self.deleting(&self.erasures, 7, MIB)
            },
        ];
        for service in [
            "enricher",
            "clickhouse-sink",
            "redis-aggregator",
            "webhook-forwarder",
        ] {
            specs.push(self.deleting(&dead_letter::topic(service), 14, 24 * MIB));
        }
        specs
    }

    fn deleting(&self, name: &str, days: i64, max_bytes: u64) -> TopicSpec {
        let retention = ("retention.ms", (days * DAY_MS).to_string());
        self.spec(
            name,
            self.partitions,
            vec![("cleanup.policy", "delete".into()), retention],
            max_bytes,
        )
    }

    fn compacted(&self, name: &str, partitions: i32, max_bytes: u64) -> TopicSpec {
        self.spec(
            name,
            partitions,
            vec![("cleanup.policy", "compact".into())],
            max_bytes,
        )
    }

    fn spec(
        &self,
        name: &str,
        partitions: i32,
        mut config: Vec<(&'static str, String)>,
        max_bytes: u64,
    ) -> TopicSpec {
        config.push(("max.message.bytes", max_bytes.to_string()));
        TopicSpec {
            name: name.into(),
            partitions,
            replication: self.replication,
            config,
        }
    }
}

pub(crate) async fn plan(settings: &Settings) -> Result<Plan, PlatformError> {
    let mut plan = Plan::default();
    let metadata = fetch_metadata(&settings.kafka).await?;
    for spec in settings.topics.specs() {
        let what = format!("topic {} ({} partitions)", spec.name, spec.partitions);
        match partitions_of(&metadata, &spec.name) {
            None => plan.change(Component::Kafka, what, Action::Topic(spec)),
            Some(found) if found == spec.partitions => {
                let weaker = weaker(&settings.kafka, &spec).await?;
                if weaker.is_empty() {
                    plan.have(Component::Kafka, what);
                }
                for (what, remedy) in weaker {
                    plan.problem(Component::Kafka, what, remedy);
                }
            }
            Some(found) => plan.problem(
                Component::Kafka,
                format!("topic {} has {found} partitions, {} are configured", spec.name, spec.partitions),
                format!("set topics.partitions = {found} if every topic has that many, or recreate the topic while it is empty"),
            ),
        }
    }
    Ok(plan)
}

/// Settings of an existing topic that promise less than is relied on: text and remedy of each.
async fn weaker(
    kafka: &KafkaSettings,
    spec: &TopicSpec,
) -> Result<Vec<(String, String)>, PlatformError> {
    let step = format!("reading the settings of topic {}", spec.name);
    let refused = |error: &dyn std::fmt::Display| {
        PlatformError::refused(Component::Kafka, step.as_str(), error.to_string())
    };
    let admin: AdminClient<DefaultClientContext> = kafka
        .admin_config()
        .create()
        .map_err(|error| refused(&error))?;
    let topic = [ResourceSpecifier::Topic(&spec.name)];
    let described = admin.describe_configs(&topic, &AdminOptions::new()).await;
    let mut found = std::collections::HashMap::new();
    for resource in described.map_err(|error| refused(&error))? {
        let entries = resource.map_err(|error| refused(&error))?.entries;
        found.extend(entries.into_iter().filter_map(|e| Some((e.name, e.value?))));
    }
    let weaker = spec.config.iter().filter_map(|(key, wanted)| {
        let found = found.get(*key)?;
        is_weaker(key, found, wanted).then(|| {
            let what = format!("topic {} has {key} = {found}, {wanted} is needed", spec.name);
            let remedy = format!(
                "kafka-configs.sh --bootstrap-server {} --alter --topic {} --add-config {key}={wanted}",
                kafka.bootstrap_servers, spec.name
            );
            (what, remedy)
        })
    });
    Ok(weaker.collect())
}

/// Longer and larger is no harm; another policy always is: compaction takes events of one content for versions of one.
fn is_weaker(key: &str, found: &str, wanted: &str) -> bool {
    match (key, found.parse::<i64>(), wanted.parse::<i64>()) {
        ("retention.ms", Ok(-1), _) => false,
        ("retention.ms" | "max.message.bytes", Ok(found), Ok(wanted)) => found < wanted,
        _ => found != wanted,
    }
}

pub(crate) async fn create(kafka: &KafkaSettings, spec: &TopicSpec) -> Result<(), PlatformError> {
    let step = format!("creating topic {}", spec.name);
    let admin: AdminClient<DefaultClientContext> = kafka
        .admin_config()
        .create()
        .map_err(|e| PlatformError::refused(Component::Kafka, step.as_str(), e))?;
    let mut topic = NewTopic::new(
        &spec.name,
        spec.partitions,
        TopicReplication::Fixed(spec.replication),
    );
    for (key, value) in &spec.config {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let results = admin
        .create_topics([&topic], &options)
        .await
        .map_err(|e| PlatformError::refused(Component::Kafka, step.as_str(), e))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(PlatformError::refused(Component::Kafka, step, code)),
        }
    }
    Ok(())
}

/// Waits until the broker also knows what it has said to be created: until then it calls a topic missing.
pub(crate) async fn until_known(
    kafka: &KafkaSettings,
    created: &[&TopicSpec],
) -> Result<(), PlatformError> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    while !created.is_empty() {
        let metadata = fetch_metadata(kafka).await?;
        let mut unknown = created
            .iter()
            .filter(|spec| partitions_of(&metadata, &spec.name).is_none());
        let Some(spec) = unknown.next() else { break };
        if Instant::now() >= deadline {
            let step = format!("creating topic {}", spec.name);
            let cause = format!("created, but not known after {} s", KNOWN_WITHIN.as_secs());
            return Err(PlatformError::refused(Component::Kafka, step, cause));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn fetch_metadata(kafka: &KafkaSettings) -> Result<Metadata, PlatformError> {
    let settings = kafka.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let admin: AdminClient<DefaultClientContext> = settings.admin_config().create()?;
        admin.inner().fetch_metadata(None, Duration::from_secs(10))
    });
    let answer = asked
        .await
        .map_err(|e| PlatformError::refused(Component::Kafka, "reading the topics", e))?;
    match answer {
        Ok(metadata) => Ok(metadata),
        Err(error) => Err(unreachable(kafka, error.to_string()).await),
    }
}

/// An admin client does not say why it cannot connect; another one that is asked for any topic does.
async fn unreachable(kafka: &KafkaSettings, error: String) -> PlatformError {
    let patience = Duration::from_secs(3);
    let why = contact::partitions(kafka, "engagectl", &["engagement.enriched.v1"], patience).await;
    PlatformError::Unreachable {
        component: Component::Kafka,
        address: kafka.bootstrap_servers.clone(),
        cause: why.map_or_else(|why| why.to_string(), |_| error),
        setting: "KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_* and KAFKA_SSL_CA_LOCATION",
    }
}

fn partitions_of(metadata: &Metadata, topic: &str) -> Option<i32> {
    let found = metadata
        .topics()
        .iter()
        .find(|t| t.name() == topic && t.error().is_none())?;
    i32::try_from(found.partitions().len())
        .ok()
        .filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(spec: &TopicSpec) -> u64 {
        spec.config
            .iter()
            .find(|(key, _)| *key == "max.message.bytes")
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    #[test]
    fn size_limits_rise_from_cdc_over_enriched_to_dead_letters() {
        let specs = TopicSettings::default().specs();
        let of = |name: &str| limit(specs.iter().find(|s| s.name == name).unwrap());
        assert!(of("cdc.public.engagement_events") < of("engagement.enriched.v1"));
        assert!(of("engagement.enriched.v1") < of("engagement.dlq.clickhouse-sink"));
    }

    #[test]
    fn shorter_smaller_and_another_policy_are_weaker_and_longer_and_larger_are_not() {
        for (key, found, wanted, weaker) in [
            ("retention.ms", "3600000", "604800000", true),
            ("retention.ms", "604800001", "604800000", false),
            ("retention.ms", "-1", "604800000", false),
            ("max.message.bytes", "1048588", "16777216", true),
            ("max.message.bytes", "33554432", "16777216", false),
            ("cleanup.policy", "compact", "delete", true),
            ("cleanup.policy", "compact,delete", "delete", true),
            ("cleanup.policy", "delete", "delete", false),
        ] {
            assert_eq!(
                is_weaker(key, found, wanted),
                weaker,
                "{key} {found} {wanted}"
            );
        }
    }

    #[test]
    fn every_topic_states_its_policy_and_dead_letters_live_two_weeks() {
        for spec in TopicSettings::default().specs() {
            assert!(
                spec.config.iter().any(|(key, _)| *key == "cleanup.policy"),
                "{}",
                spec.name
            );
            if spec.name.starts_with("engagement.dlq.") {
                assert!(
                    spec.config.contains(&("retention.ms", "1209600000".into())),
                    "{}",
                    spec.name
                );
            }
        }
    }
}
