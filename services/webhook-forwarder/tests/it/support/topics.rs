//! Topics of one test.

use std::collections::BTreeMap;

use bytes::Bytes;
use engagement::event::EnrichedEvent;
use engagement::wire::{Format, encode};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use stream::KafkaSettings;
use stream::election::once_elected;
use stream::probe::Probe;

use super::{PATIENCE, eventually};

/// An enriched topic and a dead-letter topic.
pub(crate) struct Topics {
    pub(crate) settings: KafkaSettings,
    pub(crate) enriched: String,
    pub(crate) letters: String,
    pub(crate) backfill: String,
    pub(crate) partitions: i32,
    producer: FutureProducer,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) payload: Option<Bytes>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Topics {
    /// Two topics whose names start with `name`.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        let stack = devstack::shared_for_tests(devstack::Needs::none().kafka());
        let settings = KafkaSettings {
            bootstrap_servers: stack.kafka().bootstrap.clone(),
            ..KafkaSettings::default()
        };
        let topics = Self {
            enriched: format!("{name}.enriched"),
            letters: format!("{name}.dlq"),
            backfill: format!("{name}.backfill"),
            partitions,
            producer: settings.producer_config().create().unwrap(),
            settings,
        };
        topics.create().await;
        topics
    }

    async fn create(&self) {
        let admin: AdminClient<DefaultClientContext> =
            self.settings.admin_config().create().unwrap();
        let specs = [&self.enriched, &self.letters, &self.backfill]
            .map(|name| NewTopic::new(name, self.partitions, TopicReplication::Fixed(1)));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for created in admin.create_topics(&specs, &options).await.unwrap() {
            created.unwrap();
        }
    }

    /// Writes events as the enricher does, each to the partition of its source.
    pub(crate) async fn write(&self, events: &[EnrichedEvent]) {
        for event in events {
            let key = event.content_id.clone();
            let payload = encode(event, Format::Protobuf);
            let position = event.source.position().to_string();
            let headers = [
                ("content-type", Format::Protobuf.content_type()),
                ("engagement-source", &position),
            ];
            self.write_raw(event.source.partition, key, Some(&payload), &headers)
                .await;
        }
    }

    /// Writes what a backfill brings for these sinks.
    pub(crate) async fn bring(&self, events: &[EnrichedEvent], sinks: &str) {
        let ticket = format!("run=7 range=0 after=0 lsn=0 for={sinks}");
        for event in events {
            let payload = encode(event, Format::Protobuf);
            let position = event.source.position().to_string();
            let headers = [
                ("content-type", Format::Protobuf.content_type()),
                ("engagement-source", &position),
                ("engage-backfill", &ticket),
            ];
            let key = event.content_id.clone();
            self.write_into(
                &self.backfill,
                event.source.partition,
                key,
                Some(&payload),
                &headers,
            )
            .await;
        }
    }

    /// Writes any record.
    pub(crate) async fn write_raw(
        &self,
        partition: i32,
        key: Option<String>,
        payload: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        self.write_into(&self.enriched, partition, key, payload, headers)
            .await;
    }

    async fn write_into(
        &self,
        topic: &str,
        partition: i32,
        key: Option<String>,
        payload: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic)
            .partition(partition)
            .headers(owned);
        if let Some(key) = &key {
            record = record.key(key.as_bytes());
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        self.producer.send(record, PATIENCE).await.unwrap();
    }

    /// All dead letters so far.
    pub(crate) async fn letters(&self) -> Vec<Letter> {
        let probe = Probe::new(&self.settings, "letters");
        let mut letters = Vec::new();
        for partition in 0..self.partitions {
            let records = eventually("the letters of a partition", async || {
                let read = probe.read_range(&self.letters, partition, 0, i64::MAX);
                read.await.map_err(|error| error.to_string())
            })
            .await;
            letters.extend(records.into_iter().map(|record| {
                let text = |value: Option<Bytes>| {
                    String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
                };
                Letter {
                    payload: record.payload,
                    headers: record
                        .headers
                        .into_iter()
                        .map(|(k, v)| (k, text(v)))
                        .collect(),
                }
            }));
        }
        letters
    }

    /// Committed offset per partition.
    pub(crate) fn committed(&self, group: &str) -> Vec<Option<i64>> {
        let consumer: BaseConsumer = self.settings.probe_config(group).create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.enriched, partition);
        }
        let ask = || consumer.committed_offsets(list.clone(), PATIENCE);
        let committed = once_elected(PATIENCE, ask).unwrap();
        (0..self.partitions)
            .map(|partition| {
                match committed
                    .find_partition(&self.enriched, partition)?
                    .offset()
                {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                }
            })
            .collect()
    }

    /// Deletes a group once its members are gone, as kafka-consumer-groups.sh does.
    pub(crate) async fn delete_group(&self, group: &str) {
        let admin: AdminClient<DefaultClientContext> =
            self.settings.admin_config().create().unwrap();
        eventually("the group is deleted", async || {
            let deleted = admin.delete_groups(&[group], &AdminOptions::new()).await;
            match deleted.map_err(|error| error.to_string())?.remove(0) {
                Ok(_) => Ok(()),
                Err((_, code)) => Err(code.to_string()),
            }
        })
        .await;
    }

    /// Commits one partition for a group that is not running.
    pub(crate) fn commit(&self, group: &str, partition: i32, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = self.settings.probe_config(group).create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.enriched, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        let commit = || consumer.commit(&list, rdkafka::consumer::CommitMode::Sync);
        once_elected(PATIENCE, commit).unwrap();
    }
}
