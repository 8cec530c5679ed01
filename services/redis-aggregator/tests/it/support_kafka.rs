//! Topics, records, and a running aggregator.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use devstack::next_message;
use engagement::event::EnrichedEvent;
use engagement::wire::{Format, encode};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use redis_aggregator::config::Config;
use service::{Context, Failure, Health, Lifecycle};
use stream::settings::KafkaSettings;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, eventually};

pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Points the configuration at the broker and makes its topics.
pub(crate) async fn with_topics(mut config: Config, bootstrap: &str, partitions: i32) -> Config {
    config.kafka = KafkaSettings {
        bootstrap_servers: bootstrap.into(),
        ..KafkaSettings::default()
    };
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().unwrap();
    let topics = [
        &config.input.enriched_topic,
        &config.input.dead_letter_topic,
    ];
    let topics: Vec<_> = topics
        .iter()
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
        .collect();
    for made in admin
        .create_topics(&topics, &AdminOptions::new())
        .await
        .unwrap()
    {
        made.unwrap();
    }
    config
}

/// What a record carries.
pub(crate) struct Raw<'a> {
    pub(crate) partition: i32,
    pub(crate) payload: &'a [u8],
    pub(crate) source: Option<String>,
}

pub(crate) async fn produce_raw(config: &Config, records: &[Raw<'_>]) {
    let producer: FutureProducer = client(&config.kafka.bootstrap_servers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .create()
        .unwrap();
    let mut sent = Vec::new();
    for record in records {
        let mut headers = OwnedHeaders::new();
        headers = headers.insert(Header {
            key: "content-type",
            value: Some("application/x-protobuf"),
        });
        if let Some(source) = &record.source {
            headers = headers.insert(Header {
                key: "engagement-source",
                value: Some(source),
            });
        }
        let out: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&config.input.enriched_topic)
            .partition(record.partition)
            .payload(record.payload)
            .headers(headers);
        sent.push(
            producer
                .send_result(out)
                .unwrap_or_else(|(error, _)| panic!("{error}")),
        );
    }
    for delivery in sent {
        delivery.await.unwrap().unwrap();
    }
}

pub(crate) async fn produce(config: &Config, events: &[EnrichedEvent]) {
    let payloads: Vec<Vec<u8>> = events
        .iter()
        .map(|event| encode(event, Format::Protobuf))
        .collect();
    let records: Vec<Raw<'_>> = std::iter::zip(events, &payloads)
        .map(|(event, payload)| Raw {
            partition: event.source.partition,
            payload,
            source: Some(event.source.position().to_string()),
        })
        .collect();
    for some in records.chunks(500) {
        produce_raw(config, some).await;
    }
}

/// Deletes the group once its members are gone, as kafka-consumer-groups.sh does.
pub(crate) async fn delete_group(config: &Config) {
    let admin: AdminClient<DefaultClientContext> =
        client(&config.kafka.bootstrap_servers).create().unwrap();
    let (admin, group) = (&admin, config.input.group_id.as_str());
    eventually("the group is deleted", || async move {
        let deleted = admin.delete_groups(&[group], &AdminOptions::new()).await;
        match deleted.map_err(|error| error.to_string())?.remove(0) {
            Ok(_) => Ok(()),
            Err((_, code)) => Err(code.to_string()),
        }
    })
    .await;
}

/// A running aggregator in this process.
pub(crate) struct Running {
    pub(crate) health: Health,
    lifecycle: Lifecycle,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) fn start(config: &Config) -> Self {
        let context = Context {
            lifecycle: Lifecycle::default(),
            health: Health::default(),
        };
        let (health, lifecycle) = (context.health.clone(), context.lifecycle.clone());
        let task = tokio::spawn(redis_aggregator::serve(config.clone(), context));
        Self {
            health,
            lifecycle,
            task,
        }
    }

    /// As SIGTERM.
    pub(crate) async fn stop(self) {
        self.lifecycle.soft().cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Without a drain: whatever is between two statements stays there.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for the end that nobody asked for.
    pub(crate) async fn failure(self) -> Failure {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended
            .expect("the service should end by itself")
            .unwrap()
            .unwrap_err()
    }

    pub(crate) fn not_ready(&self) -> String {
        let report = self.health.ready();
        report
            .conditions
            .into_iter()
            .filter_map(|condition| condition.reason)
            .collect::<Vec<_>>()
            .join("; ")
    }

    pub(crate) async fn is_ready(&self) {
        eventually("ready", || async {
            let report = self.health.ready();
            let known = report.conditions.len() > 1;
            if report.ok && known {
                Ok(())
            } else {
                Err(self.not_ready())
            }
        })
        .await;
    }

    /// Waits until readiness names all of these.
    pub(crate) async fn says(&self, words: &[&str]) {
        eventually(&format!("not ready because of {words:?}"), || async {
            let reason = self.not_ready();
            if words.iter().all(|word| reason.contains(word)) {
                Ok(())
            } else {
                Err(reason)
            }
        })
        .await;
    }
}

/// Everything in the dead-letter topic: payload and the kind of error.
pub(crate) async fn dead_letters(config: &Config, expected: usize) -> Vec<(Bytes, String)> {
    let config = config.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&config.kafka.bootstrap_servers)
            .set("group.id", format!("{}-reader", config.input.group_id))
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(&config.input.dead_letter_topic, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&all).unwrap();
        let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while found.len() < expected {
            let message = next_message(&consumer, deadline)
                .unwrap_or_else(|error| panic!("{found:?} of {expected}: {error}"));
            let headers = stream_headers(&message);
            found.push((
                Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                headers,
            ));
        }
        found
    });
    reading.await.unwrap()
}

fn stream_headers(message: &rdkafka::message::BorrowedMessage<'_>) -> String {
    use rdkafka::message::Headers;
    let headers = message.headers().unwrap();
    let kind = headers
        .iter()
        .find(|header| header.key == "engage.dlq.error_kind")
        .unwrap();
    String::from_utf8(kind.value.unwrap().to_vec()).unwrap()
}

/// Sets the group's offset, as somebody with Kafka's own tools would.
pub(crate) async fn commit_offset(config: &Config, partition: i32, offset: i64) {
    let config = config.clone();
    let done = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&config.kafka.bootstrap_servers)
            .set("group.id", &config.input.group_id)
            .create()
            .unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(
                &config.input.enriched_topic,
                partition,
                Offset::Offset(offset),
            )
            .unwrap();
        let commit = || consumer.commit(&offsets, CommitMode::Sync);
        stream::election::once_elected(PATIENCE, commit).unwrap();
    });
    done.await.unwrap();
}

/// Waits until everything produced is applied and equals the recomputation.
pub(crate) async fn settled(config: &Config, url: &str, logs: Arc<Vec<Vec<EnrichedEvent>>>) {
    let connection = crate::support::connect(url).await;
    eventually("redis equals the recomputation", || {
        let (mut connection, logs) = (connection.clone(), Arc::clone(&logs));
        async move { crate::support::compare(config, &mut connection, &logs).await }
    })
    .await;
}
