//! Who will read what is sent: the services and endpoints whose group has a position.
//!
//! Invariant: no group is joined, and nothing is committed.

use std::collections::BTreeSet;

use rdkafka::consumer::{BaseConsumer, Consumer};
use service::Failure;
use stream::election::once_elected;
use stream::scan::Scanner;
use stream::{KafkaSettings, LaneError};

use crate::config::Config;
use crate::dlq::topics::NAME;
use crate::kafka;

const ASK: std::time::Duration = std::time::Duration::from_secs(10);

/// Names as in the letters: `enricher`, `clickhouse-sink`, `webhook-forwarder.<endpoint>`.
pub(super) async fn with_a_position(config: &Config) -> Result<BTreeSet<String>, Failure> {
    let (kafka, topics, groups) = (
        config.kafka.clone(),
        config.topics.clone(),
        config.groups.clone(),
    );
    kafka::ask(move || {
        let mut readers = BTreeSet::new();
        let mut note = |name: String, group: &str, topic: &str| -> Result<(), LaneError> {
            if !group.is_empty() && has_position(&kafka, group, topic)? {
                readers.insert(name);
            }
            Ok(())
        };
        note("enricher".to_owned(), &groups.enricher, &topics.cdc)?;
        note(
            "clickhouse-sink".to_owned(),
            &groups.clickhouse,
            &topics.enriched,
        )?;
        let prefix = format!("{}.", groups.webhooks);
        for group in all_groups(&kafka)? {
            if let Some(endpoint) = group.strip_prefix(&prefix) {
                let name = format!("webhook-forwarder.{endpoint}");
                note(name, &group, &topics.enriched)?;
            }
        }
        Ok(readers)
    })
    .await
}

fn has_position(kafka: &KafkaSettings, group: &str, topic: &str) -> Result<bool, LaneError> {
    let scanner = Scanner::open(kafka, group, topic)?;
    let partitions: Vec<i32> = scanner.spans()?.iter().map(|span| span.partition).collect();
    Ok(!partitions.is_empty() && !scanner.committed(&partitions)?.is_empty())
}

fn all_groups(kafka: &KafkaSettings) -> Result<Vec<String>, LaneError> {
    let consumer: BaseConsumer = kafka.probe_config(NAME).create()?;
    let list = once_elected(ASK, || consumer.fetch_group_list(None, ASK))?;
    Ok(list
        .groups()
        .iter()
        .map(|group| group.name().to_owned())
        .collect())
}
