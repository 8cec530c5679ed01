//! One sink in one check: its topics, its store behind a gate, and the processes of it.
//!
//! Invariant: two benches share no topic, no group and no key, so that all can run at once.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::task::{JoinSet, LocalSet};

use crate::gate::Gate;
use crate::instance::{Instance, end_of};
use crate::log::Log;
use crate::sinks::{self, Names, SinkUnderTest};
use crate::wait::eventually;
use crate::world::World;

/// A sink to be checked.
pub struct Bench {
    /// The servers.
    pub world: &'static World,
    /// What it reads.
    pub log: Log,
    /// The way to its store.
    pub gate: Gate,
    /// The sink.
    pub sink: Box<dyn SinkUnderTest>,
    names: Names,
    started: u32,
    /// Every content that was written to the log and must be there once.
    expected: BTreeMap<String, u64>,
}

impl Bench {
    /// Topics, store and gate; no process yet.
    pub async fn new(check: &str, sink: &'static str, make: sinks::Make) -> Self {
        let world = World::shared().await;
        let name = format!("{check}-{sink}");
        let sink = make(world, name.clone()).await;
        let log = Log::create(world, &name).await;
        Self {
            gate: Gate::before(sink.store()).await,
            names: Names {
                enriched: log.enriched.clone(),
                letters: log.letters.clone(),
                name,
            },
            world,
            log,
            sink,
            started: 0,
            expected: BTreeMap::new(),
        }
    }

    /// Starts a process of the sink.
    pub fn start(&mut self) -> Instance {
        self.start_with(|launch| launch)
    }

    /// Starts one with something more.
    pub fn start_with(
        &mut self,
        more: impl FnOnce(devstack::Launch) -> devstack::Launch,
    ) -> Instance {
        self.started += 1;
        let name = format!("{}-{}", self.names.name, self.started);
        Instance::start(self.world, self.sink.service(), &name, |launch| {
            let launch = launch
                .env("KAFKA_ENRICHED_TOPIC", &self.names.enriched)
                .env("KAFKA_GROUP_ID", &self.names.name);
            more(self.sink.configure(launch, &self.names, self.gate.address))
        })
    }

    /// The consumer group of the sink.
    #[must_use]
    pub fn group(&self) -> String {
        self.sink.group(&self.names.name)
    }

    /// So many further events in each partition, which the sink must hold once.
    pub async fn write(&mut self, count: i64) {
        let written = self.log.append_to_all(count).await;
        self.expect(written);
    }

    /// These must be there once.
    pub fn expect(&mut self, contents: impl IntoIterator<Item = String>) {
        self.expected
            .extend(contents.into_iter().map(|content| (content, 1)));
    }

    /// Waits until the store holds every event once, and nothing else.
    ///
    /// # Panics
    /// At the deadline, with what is missing and what is too much.
    pub async fn holds_all_once(&self) {
        let what = format!("{} holds every event once", self.sink.service());
        eventually(&what, async || {
            let held = self.sink.holds().await;
            if held == self.expected {
                return Ok(());
            }
            let (missing, surplus) = self.differences(&held);
            Err(format!(
                "missing {missing:?}, too often or not expected {surplus:?}\n{}",
                self.logs()
            ))
        })
        .await;
    }

    /// Waits until the store holds at least so many of the expected events.
    pub async fn holds_some(&self, count: usize) {
        eventually("some events are there", async || {
            let held = self.sink.holds().await.len();
            (held >= count)
                .then_some(())
                .ok_or_else(|| format!("{held} of {count}"))
        })
        .await;
    }

    /// Waits until the group has committed the ends of both partitions: nothing is under way any more.
    pub async fn is_committed(&self) {
        let (group, topic) = (self.group(), self.log.enriched.clone());
        let ends: Vec<i64> = self.ends().await;
        eventually("everything is committed", async || {
            let found = self.log.committed(&group, &topic).await;
            let offsets: Vec<_> = found
                .iter()
                .map(|at| at.as_ref().map_or(0, |at| at.offset))
                .collect();
            (offsets == ends)
                .then_some(())
                .ok_or_else(|| format!("{offsets:?} of {ends:?}\n{}", self.logs()))
        })
        .await;
    }

    /// Ends of both partitions.
    pub async fn ends(&self) -> Vec<i64> {
        let records = self.log.read(&self.log.enriched).await;
        let of = |partition| {
            let of_partition = records
                .iter()
                .filter(|record| record.partition == partition);
            of_partition
                .map(|record| record.offset + 1)
                .max()
                .unwrap_or(0)
        };
        (0..crate::log::PARTITIONS).map(of).collect()
    }

    /// `engagectl lineage ..` on this bench's topics and store: exit code and output.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn lineage(&self, words: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(devstack::program_beside_test("engagectl"));
        command
            .arg("lineage")
            .args(words)
            .env("KAFKA_BOOTSTRAP_SERVERS", self.world.kafka())
            .env("KAFKA_ENRICHED_TOPIC", &self.names.enriched)
            // no enricher is part of a bench: any topic with as many partitions stands for the change topic
            .env("KAFKA_CDC_TOPIC", &self.names.letters)
            .args(["--set", "groups.enricher="]);
        for argument in self.sink.lineage_arguments(&self.names) {
            command.args(["--set", &argument]);
        }
        let output = command.output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// The ends of the logs of all processes so far.
    #[must_use]
    pub fn logs(&self) -> String {
        let of = |number| {
            let name = format!("{}-{number}", self.names.name);
            let end = end_of(&self.world.file(&format!("{name}.log")));
            format!("--- {name}\n{end}\n")
        };
        (1..=self.started).map(of).collect()
    }

    fn differences(&self, held: &BTreeMap<String, u64>) -> (Vec<String>, Vec<String>) {
        let missing = self
            .expected
            .keys()
            .filter(|content| !held.contains_key(*content));
        let surplus = held
            .iter()
            .filter(|(content, count)| self.expected.get(*content) != Some(count))
            .map(|(content, count)| format!("{content} x {count}"));
        (
            missing.take(8).cloned().collect(),
            surplus.take(8).collect(),
        )
    }
}

/// Runs a check with every sink at once.
///
/// # Panics
/// Where one does not comply; all that do not are named.
pub async fn of_every_sink<F>(name: &'static str, check: fn(Bench) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let only = std::env::var("COMPLIANCE_SINK").ok();
    let run = async {
        let mut running = JoinSet::new();
        let mut names = BTreeMap::new();
        for (sink, make) in sinks::ALL {
            if only.as_deref().is_none_or(|only| only == sink) {
                let task = async move { check(Bench::new(name, sink, make).await).await };
                names.insert(running.spawn_local(task).id(), sink);
            }
        }
        let mut failed = Vec::new();
        while let Some(ended) = running.join_next_with_id().await {
            failed.extend(ended.err().map(|error| names[&error.id()]));
        }
        failed
    };
    let failed = LocalSet::new().run_until(run).await;
    assert!(failed.is_empty(), "{name} fails for {failed:?}, see above");
}
