//! Topics of one test, and records in them as the enricher writes them.

use std::time::{Duration, Instant};

use devstack::next_message;
use engagement::event::EnrichedEvent;
use engagement::wire::{self, Format};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use stream::election::once_elected;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

pub(crate) const WAIT: Duration = Duration::from_secs(240);

/// An enriched topic with its dead letters.
pub(crate) struct Log {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) letters: String,
    producer: BaseProducer,
}

/// A dead letter.
pub(crate) struct Letter {
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) message: String,
    pub(crate) kind: String,
}

impl Log {
    pub(crate) async fn create(bootstrap: &str, name: &str, partitions: i32) -> Self {
        let config = base(bootstrap);
        let (topic, letters) = (format!("{name}.enriched"), format!("{name}.dlq"));
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let topics = [&topic, &letters]
            .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
        for result in admin
            .create_topics(&topics, &AdminOptions::new())
            .await
            .unwrap()
        {
            result.unwrap();
        }
        let producer = config
            .clone()
            .set("linger.ms", "5")
            // as the enricher does: a batch is the least that a consumer holds
            .set("batch.size", "262144")
            .set("compression.codec", "lz4")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        Self {
            bootstrap: bootstrap.to_owned(),
            topic,
            letters,
            producer,
        }
    }

    /// Deletes both topics.
    pub(crate) async fn delete(&self) {
        let admin: AdminClient<DefaultClientContext> = base(&self.bootstrap).create().unwrap();
        let topics = [self.topic.as_str(), self.letters.as_str()];
        let deleted = admin.delete_topics(&topics, &AdminOptions::new()).await;
        for result in deleted.unwrap() {
            result.unwrap();
        }
    }

    /// Appends events, each to the partition its source names.
    pub(crate) fn append<'a>(&self, events: impl IntoIterator<Item = &'a EnrichedEvent>) {
        for event in events {
            let payload = wire::encode(event, Format::Protobuf);
            self.raw(
                event.source.partition,
                Some(&payload),
                Some(&event.source.position().to_string()),
            );
        }
        self.flush();
    }

    /// Appends events with further headers.
    pub(crate) fn append_with(&self, events: &[EnrichedEvent], more: &[(&str, &str)]) {
        for event in events {
            let payload = wire::encode(event, Format::Protobuf);
            let source = event.source.position().to_string();
            self.record(event.source.partition, Some(&payload), Some(&source), more);
        }
        self.flush();
    }

    /// Appends bytes; `source` is the position in the header.
    pub(crate) fn raw(&self, partition: i32, payload: Option<&[u8]>, source: Option<&str>) {
        self.record(partition, payload, source, &[]);
    }

    fn record(
        &self,
        partition: i32,
        payload: Option<&[u8]>,
        source: Option<&str>,
        more: &[(&str, &str)],
    ) {
        let format = Format::Protobuf.content_type();
        let mut headers = OwnedHeaders::new().insert(Header {
            key: CONTENT_TYPE,
            value: Some(format),
        });
        if let Some(source) = source {
            headers = headers.insert(Header {
                key: ENGAGEMENT_SOURCE,
                value: Some(source),
            });
        }
        for (key, value) in more {
            headers = headers.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(partition)
            .key(b"k".as_slice())
            .headers(headers);
        record.payload = payload;
        self.producer
            .send(record)
            .map_err(|(error, _)| error)
            .unwrap();
        self.producer.poll(Duration::ZERO);
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(WAIT).unwrap();
    }

    /// All dead letters so far.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        let consumer: BaseConsumer = base(&self.bootstrap)
            .set("group.id", "letters")
            .create()
            .unwrap();
        let (low, high) = consumer.fetch_watermarks(&self.letters, 0, WAIT).unwrap();
        let mut start = TopicPartitionList::new();
        start
            .add_partition_offset(&self.letters, 0, Offset::Offset(low))
            .unwrap();
        consumer.assign(&start).unwrap();
        let (mut letters, deadline) = (Vec::new(), Instant::now() + WAIT);
        while i64::try_from(letters.len()).unwrap() < high - low {
            let message = next_message(&consumer, deadline).unwrap_or_else(|error| {
                panic!("{} letters of {}: {error}", letters.len(), high - low)
            });
            let header = |name: &str| {
                let headers = message.headers().unwrap();
                let found = headers.iter().find(|header| header.key == name);
                String::from_utf8(
                    found
                        .and_then(|header| header.value)
                        .unwrap_or_default()
                        .to_vec(),
                )
                .unwrap()
            };
            letters.push(Letter {
                payload: message.payload().map(<[u8]>::to_vec),
                message: header("__connect.errors.exception.message"),
                kind: header("engage.dlq.error_kind"),
            });
        }
        letters
    }

    /// The committed offset and metadata of a group.
    pub(crate) fn committed(&self, group: &str, partition: i32) -> Option<(i64, String)> {
        let consumer: BaseConsumer = base(&self.bootstrap)
            .set("group.id", group)
            .create()
            .unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, partition);
        let found = once_elected(WAIT, || consumer.committed_offsets(asked.clone(), WAIT)).unwrap();
        let found = found.elements().pop().unwrap();
        match found.offset() {
            Offset::Offset(offset) => Some((offset, found.metadata().to_owned())),
            _ => None,
        }
    }

    /// Moves a group that has no members.
    pub(crate) fn commit(&self, group: &str, partition: i32, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = base(&self.bootstrap)
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.topic, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        once_elected(WAIT, || consumer.commit(&list, CommitMode::Sync)).unwrap();
    }
}

fn base(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.auto.commit", "false");
    config
}
