//! Topics, producing and reading for the tests, without the code under test.

use std::time::{Duration, Instant};

use devstack::next_message;
use engagement::event::EnrichedEvent;
use engagement::wire::{self, Format};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Headers as _, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use stream::election::once_elected;

use crate::cdc::Change;
use crate::world::PATIENCE;

const MEBIBYTE: usize = 1 << 20;

pub(crate) struct Broker {
    bootstrap: String,
    producer: BaseProducer,
}

impl Broker {
    pub(crate) fn new(bootstrap: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", (20 * MEBIBYTE).to_string())
            .set("linger.ms", "2")
            .create()
            .unwrap();
        Self {
            bootstrap: bootstrap.to_owned(),
            producer,
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .unwrap()
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, compacted: bool) {
        let max_bytes = (24 * MEBIBYTE).to_string();
        let policy = if compacted { "compact" } else { "delete" };
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
            .set("cleanup.policy", policy)
            .set("max.message.bytes", &max_bytes);
        let results = self
            .admin()
            .create_topics([&new], &AdminOptions::new())
            .await
            .unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        self.until_partitions(topic, partitions).await;
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let results = self
            .admin()
            .delete_topics(&[topic], &AdminOptions::new())
            .await
            .unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        self.until_partitions(topic, 0).await;
    }

    async fn until_partitions(&self, topic: &str, wanted: i32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata = self
                .admin()
                .inner()
                .fetch_metadata(Some(topic), PATIENCE)
                .unwrap();
            let found = metadata.topics()[0].partitions().len();
            if i32::try_from(found).unwrap() == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{topic} has {found} partitions, {wanted} are awaited"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Deletes all records of a partition below its end, as retention would.
    pub(crate) async fn expire(&self, topic: &str, partition: i32) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::End)
            .unwrap();
        self.admin()
            .delete_records(&offsets, &AdminOptions::new())
            .await
            .unwrap();
    }

    /// Writes the changes in order and waits until the broker has them.
    pub(crate) fn produce(&self, topic: &str, partition: i32, changes: &[Change]) {
        for change in changes {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
            if let Some(key) = &change.key {
                record = record.key(key);
            }
            if let Some(value) = &change.value {
                record = record.payload(value);
            }
            self.producer
                .send(record)
                .map_err(|(error, _)| error)
                .unwrap();
            self.producer.poll(Duration::ZERO);
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn reader(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap()
    }

    pub(crate) fn end(&self, topic: &str, partition: i32) -> i64 {
        self.reader("end")
            .fetch_watermarks(topic, partition, PATIENCE)
            .unwrap()
            .1
    }

    /// Everything the partition holds now.
    pub(crate) fn read(&self, topic: &str, partition: i32) -> Vec<OwnedMessage> {
        let reader = self.reader("reader");
        let ends = reader.fetch_watermarks(topic, partition, PATIENCE);
        let (mut next, end) = ends.unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
        reader.assign(&from).unwrap();
        let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while next < end {
            let message = next_message(&reader, deadline)
                .unwrap_or_else(|error| panic!("{topic}/{partition} up to {end}: {error}"));
            next = message.offset() + 1;
            found.push(message.detach());
        }
        found
    }

    /// What the partition holds once it has at least `count` records.
    pub(crate) async fn read_at_least(
        &self,
        topic: &str,
        partition: i32,
        count: usize,
    ) -> Vec<OwnedMessage> {
        let deadline = Instant::now() + PATIENCE;
        let mut end = 0;
        while Instant::now() < deadline {
            end = self.end(topic, partition);
            if usize::try_from(end).unwrap() >= count {
                return self.read(topic, partition);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{topic}/{partition} has {end} records, at least {count} are awaited");
    }

    /// The group's commit: offset and metadata.
    pub(crate) fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<(i64, String)> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let reader = self.reader(group);
        let ask = || reader.committed_offsets(asked.clone(), PATIENCE);
        let told = once_elected(PATIENCE, ask).unwrap();
        let element = &told.elements()[0];
        let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
        Some((offset, element.metadata().to_owned()))
    }

    /// Sets the group's commit; nobody may be in the group.
    pub(crate) fn rewind(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let mut wanted = TopicPartitionList::new();
        wanted
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
        let reader = self.reader(group);
        once_elected(PATIENCE, || reader.commit(&wanted, CommitMode::Sync)).unwrap();
    }

    /// [`Broker::rewind`] with metadata.
    pub(crate) fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) {
        let mut wanted = TopicPartitionList::new();
        let mut element = wanted.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        let reader = self.reader(group);
        once_elected(PATIENCE, || reader.commit(&wanted, CommitMode::Sync)).unwrap();
    }

    pub(crate) async fn delete_group(&self, group: &str) {
        let results = self
            .admin()
            .delete_groups(&[group], &AdminOptions::new())
            .await
            .unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }
}

pub(crate) fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a [u8]> {
    message
        .headers()?
        .iter()
        .find(|header| header.key == name)?
        .value
}

pub(crate) fn header_text<'a>(message: &'a OwnedMessage, name: &str) -> &'a str {
    std::str::from_utf8(header(message, name).unwrap_or_default()).unwrap()
}

pub(crate) fn decode(message: &OwnedMessage) -> EnrichedEvent {
    let format = Format::from_content_type(header_text(message, "content-type")).unwrap();
    wire::decode(message.payload().unwrap(), format).unwrap()
}
