//! One broker for the whole binary, a topic of its own for each test.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use stream::probe::Probe;
use stream::{KafkaSettings, LaneError, LaneHandle, LanesOptions, Record, RunError, Status};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing takes as long, however busy the machine is.
pub(crate) const WAIT: Duration = Duration::from_secs(180);
/// A member that a busy machine keeps from saying so for some seconds is not to be taken for dead.
const SESSION: (&str, &str) = ("session.timeout.ms", "45000");

pub(crate) fn bootstrap() -> String {
    devstack::shared_for_tests(devstack::Needs::none().kafka())
        .kafka()
        .bootstrap
        .clone()
}

pub(crate) fn settings() -> KafkaSettings {
    with(&[])
}

pub(crate) fn with(properties: &[(&str, &str)]) -> KafkaSettings {
    // in the new group protocol the broker decides on it
    let is_new = properties.contains(&("group.protocol", "consumer"));
    let session = (!is_new).then_some(&SESSION);
    let properties = properties
        .iter()
        .chain(session)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    KafkaSettings {
        bootstrap_servers: bootstrap(),
        properties,
        ..KafkaSettings::default()
    }
}

/// A name that no other test and no earlier run has used.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{next}", std::process::id())
}

fn admin(settings: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    settings.admin_config().create().unwrap()
}

/// Settings for another broker than the shared one.
pub(crate) fn settings_at(bootstrap: &str) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: bootstrap.to_owned(),
        ..KafkaSettings::default()
    }
}

pub(crate) async fn topic(what: &str, partitions: i32) -> String {
    let name = unique(what);
    create(&name, partitions, &[]).await;
    name
}

pub(crate) async fn create(name: &str, partitions: i32, config: &[(&str, &str)]) {
    create_at(&settings(), name, partitions, config).await;
}

pub(crate) async fn create_at(
    settings: &KafkaSettings,
    name: &str,
    partitions: i32,
    config: &[(&str, &str)],
) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    eventually(&format!("topic {name} is created"), async || {
        let outcome = admin(settings)
            .create_topics([&topic], &AdminOptions::new())
            .await
            .unwrap()
            .pop()
            .unwrap();
        outcome.map(|_| ()).map_err(|error| format!("{error:?}"))
    })
    .await;
}

pub(crate) async fn delete(name: &str) {
    admin(&settings())
        .delete_topics(&[name], &AdminOptions::new())
        .await
        .unwrap()
        .pop()
        .unwrap()
        .unwrap();
}

/// Removes the records below an offset, as retention does.
pub(crate) async fn expire(topic: &str, partition: i32, before: i64) {
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(before))
        .unwrap();
    admin(&settings())
        .delete_records(&list, &AdminOptions::new())
        .await
        .unwrap();
}

/// Payloads `from..to` as decimal text into one partition.
pub(crate) fn fill(topic: &str, partition: i32, range: Range<i64>) {
    // creating a producer takes half a second
    static PRODUCER: OnceLock<BaseProducer> = OnceLock::new();
    let producer = PRODUCER.get_or_init(|| settings().producer_config().create().unwrap());
    send_all(producer, topic, partition, range);
}

pub(crate) fn fill_at(settings: &KafkaSettings, topic: &str, partition: i32, range: Range<i64>) {
    let producer: BaseProducer = settings.producer_config().create().unwrap();
    send_all(&producer, topic, partition, range);
}

fn send_all(producer: &BaseProducer, topic: &str, partition: i32, range: Range<i64>) {
    for number in range {
        let text = number.to_string();
        loop {
            match producer.send(
                BaseRecord::to(topic)
                    .partition(partition)
                    .key(&text)
                    .payload(&text),
            ) {
                Ok(()) => break,
                Err(_) => producer.poll(Duration::from_millis(10)),
            }
        }
    }
    producer.flush(WAIT).unwrap();
}

/// Bytes that do not compress: the broker's limit is on the compressed batch.
pub(crate) fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn number(record: &Record) -> i64 {
    std::str::from_utf8(record.payload.as_ref().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn text(bytes: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(bytes.as_bytes()))
}

/// The records of `[from, to)`, asked for again where the broker did not answer.
pub(crate) async fn read(
    probe: &Probe,
    topic: &str,
    partition: i32,
    range: Range<i64>,
) -> Vec<Record> {
    eventually("a range", async || {
        let read = probe.read_range(topic, partition, range.start, range.end);
        read.await.map_err(|error| error.to_string())
    })
    .await
}

/// Polls a condition until it holds; says what was seen last when it never does.
pub(crate) async fn eventually<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(seen) if begun.elapsed() > WAIT => {
                panic!("{what}: not within {WAIT:?}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A member of a group under test.
pub(crate) struct Member {
    pub(crate) status: Arc<Status>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Member {
    pub(crate) fn start<F, Fut>(options: LanesOptions, lane: F) -> Self
    where
        F: Fn(LaneHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), LaneError>> + Send + 'static,
    {
        let (status, stop) = (Status::new(), CancellationToken::new());
        let task = tokio::spawn(stream::lanes::run(
            options,
            stop.clone(),
            Arc::clone(&status),
            lane,
        ));
        Self { status, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(WAIT, self.task)
            .await
            .expect("ends in time")
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn outcome(self) -> Result<(), RunError> {
        tokio::time::timeout(WAIT, self.task)
            .await
            .expect("ends in time")
            .unwrap()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) async fn ready(&self) {
        eventually("ready", async || self.status.readiness()).await;
    }
}

pub(crate) fn options(settings: KafkaSettings, group: &str, topic: &str) -> LanesOptions {
    LanesOptions::new(settings, group, topic, || 1_800_000_000_000_000)
}

/// What the lanes of all members have seen, per partition, in order of arrival.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<i32, Vec<i64>>>>);

impl Seen {
    pub(crate) fn note(&self, record: &Record) {
        self.0
            .lock()
            .unwrap()
            .entry(record.partition)
            .or_default()
            .push(number(record));
    }

    pub(crate) fn of(&self, partition: i32) -> Vec<i64> {
        self.0
            .lock()
            .unwrap()
            .get(&partition)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }
}

/// The simplest lane: starts at the commit (or at 0), notes each record, commits.
pub(crate) async fn collect(mut lane: LaneHandle, seen: Seen) -> Result<(), LaneError> {
    lane.start(lane.committed().map_or(0, |committed| committed.offset))
        .await?;
    while let Some(record) = lane.recv().await {
        seen.note(&record);
        lane.commit(record.offset + 1, format!("after {}", record.offset));
    }
    Ok(())
}
