//! Kafka: killed, frozen.
//!
//! Invariant: each fault heals what it broke before it returns.

use std::time::{Duration, Instant};

use devstack::Kind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use super::{Class, Company, turn};
use crate::Arena;

/// How long one question may take.
pub(super) const ASK: Duration = Duration::from_secs(10);

/// How long a broker may take from its start to its first answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "kafka.kill",
        about: "kill -9 of the broker, and its restart",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(kill(arena, rng)),
    },
    Class {
        name: "kafka.freeze",
        about: "SIGSTOP of the broker for some seconds",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(freeze(arena, rng)),
    },
];

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_millis(rng.random_range(0..2000));
    let _turn = turn::at(Kind::Kafka).await;
    let broker = arena.stack.kafka();
    broker.kill9().await?;
    tokio::time::sleep(down).await;
    broker.start().await?;
    Ok(format!("killed the broker, down for {down:?}"))
}

async fn freeze(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    // Beyond 3 s the broker's own session with its controller is at stake, beyond 6 s those of the groups.
    let frozen = Duration::from_millis(rng.random_range(1000..9000));
    let _turn = turn::at(Kind::Kafka).await;
    let broker = arena.stack.kafka();
    broker.pause()?;
    tokio::time::sleep(frozen).await;
    broker.resume()?;
    broker.wait_ready().await?;
    Ok(format!("froze the broker for {frozen:?}"))
}

/// A broker that is away is what this harness makes, and no news.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// A consumer that asks and says nothing by itself.
pub(super) type SideConsumer = BaseConsumer<Quiet>;

/// A consumer that never joins the group whose name it bears.
pub(super) fn side_consumer(arena: &Arena, group: &str) -> anyhow::Result<SideConsumer> {
    consumer(&arena.addresses.kafka, group)
}

fn consumer(bootstrap: &str, group: &str) -> anyhow::Result<SideConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "500");
    Ok(config.create_with_context(Quiet)?)
}

/// How many offsets the partitions of a topic have given away. Blocks.
///
/// # Errors
/// The broker does not answer.
pub fn end_of(bootstrap: &str, topic: &str) -> anyhow::Result<i64> {
    let consumer = consumer(bootstrap, "engage-chaos")?;
    let ends = patiently(|| ends(&consumer, topic))?;
    Ok(ends.iter().map(|(_, (_, high))| high).sum())
}

/// Asks until there is an answer: a broker that has just started does not lead its partitions yet. Blocks.
pub(super) fn patiently<T>(question: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match question() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            answer => return answer,
        }
    }
}

/// The partitions of a topic with the start and the end of each.
pub(super) fn ends(consumer: &SideConsumer, topic: &str) -> anyhow::Result<Vec<(i32, (i64, i64))>> {
    let metadata = consumer.fetch_metadata(Some(topic), ASK)?;
    let found = metadata.topics().first();
    let partitions = found.map_or(&[][..], rdkafka::metadata::MetadataTopic::partitions);
    let ends = partitions.iter().map(|partition| {
        let id = partition.id();
        Ok((id, consumer.fetch_watermarks(topic, id, ASK)?))
    });
    ends.collect()
}

/// How many offsets the change topic has given away.
pub(super) async fn end_of_cdc(arena: &Arena) -> anyhow::Result<i64> {
    let kafka = arena.addresses.kafka.clone();
    let asked = move || end_of(&kafka, "cdc.public.engagement_events");
    tokio::task::spawn_blocking(asked).await?
}
