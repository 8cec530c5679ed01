//! The enriched topic of one check, written as enrichers write it, and as old instances and broken programs do.
//!
//! Invariant: what [`Log::append`] writes is one chain per partition without a hole.

mod admin;

use std::time::Duration;

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use stream::probe::Probe;
use stream::{KafkaSettings, Record};

use crate::wait::eventually;
use crate::world::World;

const ANSWER: Duration = Duration::from_secs(120);

/// Partitions of every topic of a check.
pub(crate) const PARTITIONS: i32 = 2;

/// The topics, and the end of each chain.
pub struct Log {
    /// The topic.
    pub enriched: String,
    /// Where a sink's dead letters go.
    pub letters: String,
    settings: KafkaSettings,
    producer: FutureProducer,
    next: [i64; 2],
    epoch: u8,
}

impl Log {
    /// Two empty topics.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn create(world: &World, name: &str) -> Self {
        let settings = KafkaSettings {
            bootstrap_servers: world.kafka().to_owned(),
            ..KafkaSettings::default()
        };
        let log = Self {
            enriched: format!("{name}.enriched"),
            letters: format!("{name}.dlq"),
            producer: settings.producer_config().create().unwrap(),
            settings,
            next: [0; 2],
            epoch: 0,
        };
        for topic in [&log.enriched, &log.letters] {
            log.create_topic(topic, PARTITIONS).await;
        }
        log
    }

    /// How to reach the broker.
    #[must_use]
    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// Events of this chain: each with a content of its own, named by partition, epoch and offset.
    #[must_use]
    pub fn event(partition: i32, epoch: u8, offset: i64) -> EnrichedEvent {
        let id = i64::from(epoch) * 1_000_000 + i64::from(partition) * 100_000 + offset;
        let mut event = Sample::new()
            .at_position(partition, offset)
            .epoch(epoch)
            .event_id(id + 1)
            .content_id(content(partition, epoch, offset))
            .build();
        // the clock of this machine, as a commit now has it
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        event.source.committed_at = Micros(i64::try_from(now.as_micros()).unwrap());
        event.event_ts = event.source.committed_at;
        event
    }

    /// The next events of one partition's chain; answers their contents.
    pub async fn append(&mut self, partition: i32, count: i64) -> Vec<String> {
        let at = usize::try_from(partition).unwrap();
        let offsets = self.next[at]..self.next[at] + count;
        self.next[at] = offsets.end;
        let events: Vec<_> = offsets
            .map(|offset| Self::event(partition, self.epoch, offset))
            .collect();
        self.write(&events).await;
        events
            .into_iter()
            .filter_map(|event| event.content_id)
            .collect()
    }

    /// The next events of both partitions.
    pub async fn append_to_all(&mut self, count: i64) -> Vec<String> {
        let mut contents = self.append(0, count).await;
        contents.extend(self.append(1, count).await);
        contents
    }

    /// Both chains begin anew, in the next epoch.
    pub fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.next = [0; 2];
    }

    /// The next position of a chain is passed over: what is written next has a predecessor that is not there.
    pub fn tear(&mut self, partition: i32) {
        self.next[usize::try_from(partition).unwrap()] += 1;
    }

    /// Writes events whatever their positions are.
    ///
    /// # Panics
    /// Where the broker does not take them.
    pub async fn write(&self, events: &[EnrichedEvent]) {
        let sent: Vec<_> = events
            .iter()
            .map(|event| {
                let payload = encode(event, Format::Protobuf);
                let position = event.source.position().to_string();
                self.send(event.source.partition, &payload, Some(&position), None)
            })
            .collect();
        for delivery in sent {
            delivery.await.unwrap().unwrap();
        }
    }

    /// Writes any bytes; `position` becomes the header of an enriched record.
    ///
    /// # Panics
    /// Where the broker does not take them.
    pub async fn write_raw(&self, partition: i32, payload: &[u8], position: Option<&str>) {
        let sent = self.send(partition, payload, position, None);
        sent.await.unwrap().unwrap();
    }

    /// The next event of a partition, as part of a trace.
    ///
    /// # Panics
    /// Where the broker does not take it.
    pub async fn append_traced(&mut self, partition: i32, trace: &str) -> String {
        let at = usize::try_from(partition).unwrap();
        let event = Self::event(partition, self.epoch, self.next[at]);
        self.next[at] += 1;
        let payload = encode(&event, Format::Protobuf);
        let position = event.source.position().to_string();
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        let sent = self.send(partition, &payload, Some(&position), Some(&parent));
        sent.await.unwrap().unwrap();
        event.content_id.unwrap()
    }

    /// The position that comes next in a partition, as text; it is passed as if a record with it had been written.
    pub fn take_position(&mut self, partition: i32) -> String {
        let at = usize::try_from(partition).unwrap();
        let position = Self::event(partition, self.epoch, self.next[at])
            .source
            .position();
        self.next[at] += 1;
        position.to_string()
    }

    fn send(
        &self,
        partition: i32,
        payload: &[u8],
        position: Option<&str>,
        traceparent: Option<&str>,
    ) -> rdkafka::producer::DeliveryFuture {
        let all = [
            ("content-type", Some(Format::Protobuf.content_type())),
            ("engagement-source", position),
            ("traceparent", traceparent),
        ];
        let headers = all
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| match value {
                Some(value) => headers.insert(Header {
                    key,
                    value: Some(*value),
                }),
                None => headers,
            });
        let record = FutureRecord::<[u8], [u8]>::to(&self.enriched)
            .partition(partition)
            .payload(payload)
            .headers(headers);
        let sent = self.producer.send_result(record);
        sent.unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// All dead letters so far.
    ///
    /// # Panics
    /// Where the broker does not answer.
    pub async fn dead_letters(&self) -> Vec<Record> {
        self.read(&self.letters).await
    }

    /// Everything that a topic holds.
    ///
    /// # Panics
    /// Where the broker does not answer.
    pub async fn read(&self, topic: &str) -> Vec<Record> {
        let probe = Probe::new(&self.settings, "compliance-reader");
        let mut records = Vec::new();
        for partition in 0..PARTITIONS {
            let found = eventually("everything of a partition", async || {
                let read = probe.read_range(topic, partition, 0, i64::MAX).await;
                read.map_err(|error| error.to_string())
            });
            records.extend(found.await);
        }
        records
    }
}

/// The content of an event.
#[must_use]
pub(crate) fn content(partition: i32, epoch: u8, offset: i64) -> String {
    format!("c-{partition}-{epoch}-{offset}")
}
