//! An enricher and every sink behind it, each a process of its own, with a change topic written by hand.
//!
//! Invariant: each event has a content of its own, which is known before the event is written.

use std::collections::BTreeMap;
use std::time::Duration;

use devstack::Launch;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::instance::{Instance, end_of};
use crate::log::{Log, PARTITIONS};
use crate::sinks::{self, Names, SinkUnderTest};
use crate::wait::eventually;
use crate::world::World;

/// Topics, sinks and what they must hold.
pub struct Pipeline {
    world: &'static World,
    /// The enriched topic.
    pub log: Log,
    /// The change topic.
    pub cdc: String,
    name: String,
    content: String,
    producer: FutureProducer,
    sinks: Vec<Box<dyn SinkUnderTest>>,
    next: i64,
    started: u32,
    expected: BTreeMap<String, u64>,
}

impl Pipeline {
    /// Topics and stores; no process yet.
    ///
    /// # Panics
    /// Where a server refuses.
    pub async fn new(name: &str) -> Self {
        let world = World::shared().await;
        let log = Log::create(world, name).await;
        let (cdc, content) = (format!("{name}.cdc"), format!("{name}.content"));
        log.create_topic(&cdc, PARTITIONS).await;
        log.create_topic(&content, 1).await;
        let mut all = Vec::new();
        for (sink, make) in sinks::ALL {
            all.push(make(world, format!("{name}-{sink}")).await);
        }
        Self {
            producer: log.settings().producer_config().create().unwrap(),
            world,
            log,
            cdc,
            name: name.to_owned(),
            content,
            sinks: all,
            next: 1,
            started: 0,
            expected: BTreeMap::new(),
        }
    }

    /// Starts an enricher.
    pub fn start_enricher(&mut self) -> Instance {
        self.started += 1;
        let name = format!("{}-enricher-{}", self.name, self.started);
        Instance::start(self.world, "enricher", &name, |launch| {
            launch
                .env("KAFKA_CDC_TOPIC", &self.cdc)
                .env("KAFKA_CONTENT_TOPIC", &self.content)
                .env("KAFKA_ENRICHED_TOPIC", &self.log.enriched)
                .env("KAFKA_DEAD_LETTER_TOPIC", &self.log.letters)
                .env("KAFKA_GROUP_ID", format!("{}.enricher", self.name))
        })
    }

    /// Starts every sink.
    pub fn start_sinks(&mut self) -> Vec<Instance> {
        self.started += 1;
        let sinks = self.sinks.iter();
        sinks.map(|sink| self.start(sink.as_ref())).collect()
    }

    /// Starts one of them.
    ///
    /// # Panics
    /// Where there is no such sink.
    pub fn start_sink(&mut self, service: &str) -> Instance {
        self.started += 1;
        let mut sinks = self.sinks.iter();
        let sink = sinks.find(|sink| sink.service() == service);
        self.start(sink.expect("a sink of that name").as_ref())
    }

    fn start(&self, sink: &dyn SinkUnderTest) -> Instance {
        let names = self.names(sink);
        let process = format!("{}-{}", names.name, self.started);
        Instance::start(self.world, sink.service(), &process, |launch: Launch| {
            let launch = launch
                .env("KAFKA_ENRICHED_TOPIC", &names.enriched)
                .env("KAFKA_GROUP_ID", &names.name);
            sink.configure(launch, &names, sink.store())
        })
    }

    fn names(&self, sink: &dyn SinkUnderTest) -> Names {
        Names {
            name: format!("{}-{}", self.name, sink.service()),
            enriched: self.log.enriched.clone(),
            letters: self.log.letters.clone(),
        }
    }

    /// So many inserts in each partition of the change topic; answers their contents.
    ///
    /// # Panics
    /// Where the broker does not take them.
    pub async fn insert(&mut self, count: i64) -> Vec<(i32, String)> {
        let mut written = Vec::new();
        for partition in 0..PARTITIONS {
            for _ in 0..count {
                let (id, at) = (self.next, u64::try_from(self.next).unwrap() * 1000);
                self.next += 1;
                let content = format!("c-{id}");
                let row = json!({"id": content, "slug": content, "title": content, "content_type": "podcast",
                    "length_seconds": 300, "publish_ts": "2026-01-01T00:00:00Z"});
                self.send(
                    &self.content,
                    0,
                    &json!({"id": content}),
                    &envelope("content", &row, at),
                )
                .await;
                let row = json!({"id": id, "content_id": content, "user_id": null, "event_type": "play",
                    "event_ts": "2026-01-08T14:21:52.000000Z", "duration_ms": 7000, "device": "ios", "raw_payload": null});
                self.send(
                    &self.cdc,
                    partition,
                    &json!({"content_id": content}),
                    &envelope("engagement_events", &row, at),
                )
                .await;
                written.push((partition, content));
            }
        }
        written
    }

    /// These must be in every sink, once.
    pub fn expect(&mut self, written: impl IntoIterator<Item = (i32, String)>) {
        self.expected
            .extend(written.into_iter().map(|(_, content)| (content, 1)));
    }

    async fn send(&self, topic: &str, partition: i32, key: &Value, value: &Value) {
        let (key, value) = (key.to_string(), value.to_string());
        let record = FutureRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&value);
        self.producer
            .send(record, Duration::from_secs(120))
            .await
            .unwrap();
    }

    /// Waits until every sink holds what it must, once, and nothing else.
    ///
    /// # Panics
    /// At the deadline, with what a sink holds and the ends of all logs.
    pub async fn every_sink_holds_all_once(&self) {
        for sink in &self.sinks {
            let what = format!("{} holds every event once", sink.service());
            eventually(&what, async || {
                let held = sink.holds().await;
                if held == self.expected {
                    return Ok(());
                }
                let logs: String = (1..=self.started)
                    .flat_map(|number| {
                        let of_sink = format!("{}-{}-{number}.log", self.name, sink.service());
                        [of_sink, format!("{}-enricher-{number}.log", self.name)]
                    })
                    .map(|name| end_of(&self.world.file(&name)))
                    .collect();
                Err(format!(
                    "{} of {}: {held:?}\n{logs}",
                    held.len(),
                    self.expected.len()
                ))
            })
            .await;
        }
    }

    /// Removes what a partition of the change topic holds, as its retention would.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub async fn expire(&self, partition: i32) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&self.cdc, partition, Offset::End)
            .unwrap();
        let admin: AdminClient<DefaultClientContext> =
            self.log.settings().admin_config().create().unwrap();
        admin
            .delete_records(&offsets, &AdminOptions::new())
            .await
            .unwrap();
    }

    /// `engagectl lineage ..`: exit code and output.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn lineage(&self, words: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(devstack::program_beside_test("engagectl"));
        command
            .arg("lineage")
            .args(words)
            .env("KAFKA_BOOTSTRAP_SERVERS", self.world.kafka())
            .env("KAFKA_CDC_TOPIC", &self.cdc)
            .env("KAFKA_ENRICHED_TOPIC", &self.log.enriched)
            .args(["--set", &format!("groups.enricher={}.enricher", self.name)]);
        for sink in self
            .sinks
            .iter()
            .filter(|sink| sink.service() == "redis-aggregator")
        {
            for argument in sink.lineage_arguments(&self.names(sink.as_ref())) {
                command.args(["--set", &argument]);
            }
        }
        let output = command.output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

/// An insert as Debezium writes it, the n-th of a log in which every transaction writes one row.
fn envelope(table: &str, row: &Value, at: u64) -> Value {
    let ms = 1_767_882_112_000 + at;
    let source = json!({
        "version": "3.7.0.Final", "connector": "postgresql", "name": "cdc", "ts_ms": ms, "snapshot": "false",
        "db": "engage", "sequence": format!("[\"{at}\",\"{}\"]", at + 500), "ts_us": ms * 1000, "ts_ns": ms * 1_000_000,
        "schema": "public", "table": table, "txId": at, "lsn": at + 500, "xmin": null
    });
    json!({"before": null, "after": row, "source": source, "transaction": null, "op": "c", "ts_ms": ms})
}
