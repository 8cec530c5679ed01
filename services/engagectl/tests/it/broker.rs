//! The broker, what is written into it, and the tool.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engagement::event::Micros;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use stream::dead_letter::{DeadLetters, Reject};
use stream::election::once_elected;
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::{KafkaSettings, OutRecord, Producer, Record};

/// Nothing takes as long, however busy the machine is.
pub(crate) const WAIT: Duration = Duration::from_secs(180);

pub(crate) fn settings() -> KafkaSettings {
    let stack = devstack::shared_for_tests(devstack::Needs::none().kafka());
    KafkaSettings {
        bootstrap_servers: stack.kafka().bootstrap.clone(),
        ..KafkaSettings::default()
    }
}

pub(crate) async fn create(topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = settings().admin_config().create().unwrap();
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    let created = admin.create_topics([&topic], &options).await.unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}

/// A record to append: key, value, headers.
pub(crate) type Wanted<'a> = (&'a str, &'a [u8], Vec<(&'a str, String)>);

/// Appends records to a partition, in their order.
pub(crate) async fn append(topic: &str, partition: i32, records: &[Wanted<'_>]) {
    let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
    for (key, payload, headers) in records {
        let header =
            |(name, value): &(&str, String)| ((*name).to_owned(), Some(Bytes::from(value.clone())));
        let record = OutRecord {
            topic: topic.into(),
            partition: Some(partition),
            key: Some(Bytes::from((*key).to_owned())),
            payload: Some(Bytes::copy_from_slice(payload)),
            headers: headers.iter().map(header).collect(),
            timestamp_ms: None,
        };
        producer.send_acked(&record).await.unwrap();
    }
}

/// Gives records up, as a service does.
pub(crate) async fn give_up(service: &'static str, records: &[Record], kind: &'static str) {
    let letters = DeadLetters::new(&settings(), service).unwrap();
    let reject = Reject::new(kind, "write", "it::support", format!("{kind} in a test"));
    for record in records {
        let now = Micros(service::clock::now());
        letters.send(record, &reject, now).await.unwrap();
    }
}

/// Everything that a partition holds.
pub(crate) async fn read(topic: &str, partition: i32) -> Vec<Record> {
    let probe = Probe::new(&settings(), "reader");
    eventually("everything of a partition", async || {
        let read = probe.read_range(topic, partition, 0, i64::MAX).await;
        read.map_err(|error| error.to_string())
    })
    .await
}

/// Gives a group a position, as one that has run.
pub(crate) fn commit(group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
    let consumer: BaseConsumer = settings().probe_config(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(topic, partition);
    element.set_offset(Offset::Offset(offset)).unwrap();
    element.set_metadata(metadata);
    once_elected(WAIT, || consumer.commit(&list, CommitMode::Sync)).unwrap();
}

/// Where a group stands.
pub(crate) fn committed(group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
    let consumer: BaseConsumer = settings().probe_config(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let found = once_elected(WAIT, || consumer.committed_offsets(list.clone(), WAIT)).unwrap();
    let found = found.elements().pop().unwrap();
    match found.offset() {
        Offset::Offset(offset) => Some((offset, found.metadata().to_owned())),
        _ => None,
    }
}

/// The tool with the topics of one test.
pub(crate) struct Tool {
    environment: Vec<(&'static str, String)>,
}

impl Tool {
    pub(crate) fn new(cdc: &str, enriched: &str) -> Self {
        Self {
            environment: vec![
                ("KAFKA_BOOTSTRAP_SERVERS", settings().bootstrap_servers),
                ("KAFKA_CDC_TOPIC", cdc.to_owned()),
                ("KAFKA_ENRICHED_TOPIC", enriched.to_owned()),
            ],
        }
    }

    /// The same with one more variable.
    pub(crate) fn and(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The process to be, with its environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engagectl"));
        command.env_clear().args(words);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it prints, when it ends well.
    pub(crate) fn text(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints with `-o json`.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let text = self.text(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Exit code and standard error of one that does not end well.
    pub(crate) fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?} ended well");
        (output.status.code().unwrap(), error)
    }

    /// Starts it.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// Waits until `look` answers; fails with what it said last.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > WAIT => panic!("{what}: {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
