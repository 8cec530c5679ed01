//! What both measurements stand on: servers of their own, a topic that is filled, and the memory of this process.
//!
//! Invariant: an event is written at the offset that it says.

use std::time::Duration;

use devstack::{Needs, Stack};
use engagement::event::EnrichedEvent;
use engagement::wire::{Format, encode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use stream::settings::KafkaSettings;
use verify::KafkaSource;

/// Of every topic.
pub(crate) const PARTITIONS: i32 = 16;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Servers that nobody else uses.
pub(crate) async fn start(needs: Needs) -> Stack {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stack = Stack::builder().needs(needs).private().start().await;
    stack.unwrap()
}

/// Their broker.
pub(crate) fn kafka(stack: &Stack) -> KafkaSource {
    KafkaSource::new(KafkaSettings {
        bootstrap_servers: stack.kafka().bootstrap.clone(),
        ..KafkaSettings::default()
    })
}

/// Forgets the peak of what was done before; MiB that are resident now.
pub(crate) fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    memory("VmRSS:")
}

/// MiB that were resident at most since the peak was forgotten.
pub(crate) fn peak() -> u64 {
    memory("VmHWM:")
}

/// A line of `/proc/self/status`, in MiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// The settings of a client of a broker.
pub(crate) fn client(kafka: &KafkaSource) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.settings.bootstrap_servers);
    config
}

/// Fills a topic of events.
pub(crate) struct Writer {
    topic: String,
    producer: BaseProducer,
    /// Per partition: the offset of the next record.
    pub(crate) next: [i64; PARTITIONS as usize],
}

impl Writer {
    /// Of a new topic.
    pub(crate) async fn new(kafka: &KafkaSource, topic: &str) -> Self {
        let mut config = client(kafka);
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        admin
            .create_topics([&new], &AdminOptions::new())
            .await
            .unwrap();
        let config = config
            .set("linger.ms", "20")
            .set("enable.idempotence", "true");
        Self {
            topic: topic.to_owned(),
            producer: config.create().unwrap(),
            next: [0; PARTITIONS as usize],
        }
    }

    /// The offset of the next record of a partition, which is written next.
    pub(crate) fn take(&mut self, partition: usize) -> i64 {
        let at = self.next[partition];
        self.next[partition] += 1;
        at
    }

    /// Writes an event where it says that it stands, as the enricher does, or with the `ticket` of a backfill.
    pub(crate) fn send(&self, event: &EnrichedEvent, ticket: Option<&str>) {
        let payload = encode(event, Format::Protobuf);
        let position = event.source.position().to_string();
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let mut headers = OwnedHeaders::new()
            .insert(header("content-type", Format::Protobuf.content_type()))
            .insert(header("engagement-source", position.as_str()));
        if let Some(ticket) = ticket {
            headers = headers.insert(header("engage-backfill", ticket));
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic)
            .partition(event.source.partition)
            .payload(payload.as_slice())
            .headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    /// Waits until the broker has everything.
    pub(crate) fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).unwrap();
    }
}
