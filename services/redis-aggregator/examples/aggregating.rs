//! Measures the aggregator as a process of its own: a backlog as fast as it goes, then a steady stream.
//!
//! `cargo build --release -p redis-aggregator && cargo run --release -p redis-aggregator --example aggregating`
//!
//! Invariant: the figures are of real servers and of the release binary beside this one; nothing is estimated.
#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use redis::aio::MultiplexedConnection;

const PARTITIONS: i32 = 16;
const TOPIC: &str = "engagement.enriched.v1";
const BACKLOG: i64 = 600_000;
const CONTENTS: i64 = 2_000;
const RATE: i64 = 500;
const STEADY: Duration = Duration::from_secs(20);

type Producer = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stack = devstack::Stack::builder()
        .kafka()
        .redis()
        .private()
        .start()
        .await?;
    let (bootstrap, url) = (stack.kafka().bootstrap.clone(), stack.redis().url.clone());
    make_topics(&bootstrap).await?;
    let mut log = Log::new(&bootstrap)?;
    let mut redis = redis::Client::open(url.as_str())?
        .get_multiplexed_async_connection()
        .await?;
    log.append(BACKLOG).context("the backlog")?;
    log.producer.flush(Duration::from_secs(60))?;

    let aggregator = Aggregator(start(
        &bootstrap,
        &url,
        &std::env::temp_dir().join("redis-aggregator-load.log"),
    )?);
    counted(&mut redis, 1).await?;
    let (began, before) = (Instant::now(), server_micros(&mut redis).await?);
    let cpu = aggregator.cpu_seconds()?;
    counted(&mut redis, log.written).await?;
    let took = began.elapsed().as_secs_f64();
    let per_event = (server_micros(&mut redis).await? - before) / float(log.written);
    println!(
        "backlog: {} events in {took:.2} s = {:.0} events/s",
        log.written,
        float(log.written) / took
    );
    println!(
        "redis script time: {per_event:.2} us/event; aggregator CPU: {:.2} us/event",
        (aggregator.cpu_seconds()? - cpu) * 1e6 / float(log.written)
    );
    println!(
        "resident after the backlog: {:.1} MB",
        aggregator.resident_mb()?
    );

    let before = server_micros(&mut redis).await?;
    let mut delays = steady(log, &mut redis).await?;
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    println!(
        "steady {RATE} events/s: record produced to counted in top:content:10m p50 {} ms, p99 {} ms",
        at(50),
        at(99)
    );
    let spent = server_micros(&mut redis).await? - before;
    println!(
        "redis script time while steady: {:.1} us/event",
        spent / (float(RATE) * STEADY.as_secs_f64())
    );
    println!("resident at the end: {:.1} MB", aggregator.resident_mb()?);
    Ok(())
}

struct Log {
    producer: Producer,
    written: i64,
    offsets: Vec<i64>,
}

impl Log {
    fn new(bootstrap: &str) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("compression.codec", "lz4")
            .create()?;
        Ok(Self {
            producer,
            written: 0,
            offsets: vec![0; 16],
        })
    }

    fn append(&mut self, count: i64) -> anyhow::Result<()> {
        for _ in 0..count {
            let event = self.next();
            let payload = encode(&event, Format::Protobuf);
            let source = event.source.position().to_string();
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "content-type",
                    value: Some("application/x-protobuf"),
                })
                .insert(Header {
                    key: "engagement-source",
                    value: Some(&source),
                });
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPIC)
                .partition(event.source.partition)
                .payload(&payload[..])
                .headers(headers);
            while let Err((error, back)) = self.producer.send(record) {
                anyhow::ensure!(error.to_string().contains("full"), "{error}");
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Contents skewed as a leaderboard's are: half of the events on a twentieth of them.
    fn next(&mut self) -> EnrichedEvent {
        let n = self.written;
        let content = if n % 2 == 0 {
            n.wrapping_mul(31) % (CONTENTS / 20)
        } else {
            n.wrapping_mul(17) % CONTENTS
        };
        let partition = i32::try_from(content % i64::from(PARTITIONS)).unwrap_or(0);
        let offset = &mut self.offsets[usize::try_from(partition).unwrap_or(0)];
        let now = Micros(service::clock::now());
        let mut event = Sample::new()
            .event_id(n)
            .content_id(format!("5b6962dd-3f90-4c93-8f61-{content:012}"))
            .user_id(format!("0f3e2a7c-9a1b-4f6e-8b1d-{:012}", n % 5000))
            .event_type(["play", "pause", "finish", "click"][usize::try_from(n % 4).unwrap_or(0)])
            .at_position(partition, *offset)
            .build();
        (event.event_ts, event.source.committed_at) = (now, now);
        *offset += 1;
        self.written += 1;
        event
    }
}

/// For every slice of the stream: how long until the leaderboard counts it, in milliseconds.
async fn steady(mut log: Log, redis: &mut MultiplexedConnection) -> anyhow::Result<Vec<u128>> {
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let total = log.written + RATE * i64::try_from(STEADY.as_secs())?;
    let writing = std::thread::spawn(move || -> anyhow::Result<()> {
        let began = Instant::now();
        let first = log.written;
        while log.written < total {
            log.append(1)?;
            sender.send((log.written, Instant::now()))?;
            let due =
                Duration::from_micros(u64::try_from((log.written - first) * 1_000_000 / RATE)?);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(log.producer.flush(Duration::from_secs(10))?)
    });
    let (mut delays, mut waiting, began) = (Vec::new(), None, Instant::now());
    loop {
        let seen = shown(redis).await?;
        while let Some((until, at)) = waiting.take().or_else(|| sent.try_recv().ok()) {
            if until > seen {
                waiting = Some((until, at));
                break;
            }
            delays.push(Instant::elapsed(&at).as_millis());
        }
        if seen >= total {
            writing
                .join()
                .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            return Ok(delays);
        }
        anyhow::ensure!(
            began.elapsed() < STEADY * 3,
            "the leaderboard does not keep up: {seen} of {total}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Events in the leaderboard; it must be long enough to hold every content.
async fn shown(redis: &mut MultiplexedConnection) -> anyhow::Result<i64> {
    let board: Vec<(String, i64)> = redis::cmd("ZRANGE")
        .arg("top:content:10m")
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query_async(redis)
        .await?;
    Ok(board.iter().map(|(_, events)| events).sum())
}

/// Waits until so many events are applied, over all partitions.
async fn counted(redis: &mut MultiplexedConnection, wanted: i64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let mut ask = redis::pipe();
        (0..PARTITIONS).for_each(|partition| {
            ask.cmd("HGET")
                .arg(format!("eng:{{{partition}}}:pos"))
                .arg("enriched");
        });
        let found: Vec<Option<i64>> = ask.query_async(redis).await?;
        let done: i64 = found.iter().map(|at| at.map_or(0, |at| at + 1)).sum();
        if done >= wanted {
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(120),
            "{done} of {wanted} after two minutes"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Microseconds the server has spent in scripts.
async fn server_micros(redis: &mut MultiplexedConnection) -> anyhow::Result<f64> {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(redis)
        .await?;
    let line = info
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let micros = line.and_then(|line| line.split(',').find_map(|part| part.strip_prefix("usec=")));
    Ok(micros.unwrap_or("0").parse()?)
}

async fn make_topics(bootstrap: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?;
    let topics = [TOPIC, "engagement.dlq.redis-aggregator"]
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    for made in admin.create_topics(&topics, &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

/// The release binary beside this example.
fn start(bootstrap: &str, url: &str, log: &std::path::Path) -> anyhow::Result<Child> {
    let mut program: PathBuf = std::env::current_exe()?;
    program.pop();
    program.set_file_name("redis-aggregator");
    let child = Command::new(&program)
        .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
        .env("REDIS_URL", url)
        .env("ADMIN_ADDR", "127.0.0.1:0")
        .args(["--set", "leaderboard=[{key=\"top:content:10m\",score=\"events\",top=10000,ttl=\"2m\"},{key=\"engagement:10min\",score=\"seconds\",ttl=\"10m\"},{key=\"top_engagement:10min\",score=\"mean_percent\",ttl=\"10m\",member=\"{id}:{type}:{title}\"},{key=\"top_content_last_10min\",score=\"weighted\",ttl=\"15m\"}]"])
        .stdout(Stdio::from(std::fs::File::create(log)?))
        .spawn()
        .with_context(|| format!("{} is built with: cargo build --release -p redis-aggregator", program.display()))?;
    Ok(child)
}

struct Aggregator(Child);

impl Aggregator {
    fn resident_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// User and system time so far (fields 14 and 15, in hundredths of a second).
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(count: i64) -> f64 {
    count as f64
}
