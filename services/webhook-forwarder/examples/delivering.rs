//! Measures the forwarder as a process of its own: a backlog to a receiver on this machine, as fast as it goes.
//!
//! `cargo build --release -p webhook-forwarder --bin webhook-forwarder --example delivering && target/release/examples/delivering`
//!
//! Invariant: the CPU seconds are those of the forwarder alone; the receiver answers in this process.
#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::fs::File;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PARTITIONS: i32 = 16;
const TOPIC: &str = "engagement.enriched.v1";
const EVENTS: i64 = 100_000;
/// Events before the figures begin.
const WARM: u64 = 5_000;
const CONTENTS: i64 = 2_000;
const WAIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let stack = devstack::Stack::builder().kafka().private().start().await;
    let stack = stack.expect("Kafka starts");
    let bootstrap = &stack.kafka().bootstrap;
    write(bootstrap).await;
    let (url, taken) = receiver().await;
    let forwarder = Forwarder::start(bootstrap, &url);
    reach(&taken, WARM).await;
    let (before, cpu, began) = (
        taken.load(Ordering::Relaxed),
        forwarder.cpu(),
        Instant::now(),
    );
    reach(&taken, EVENTS.unsigned_abs()).await;
    let events = float(taken.load(Ordering::Relaxed) - before);
    let (took, cpu) = (began.elapsed().as_secs_f64(), forwarder.cpu() - cpu);
    println!(
        "{events} deliveries in {took:.1} s = {:.0}/s; forwarder: {:.2} CPU s per 100,000",
        events / took,
        cpu * 1e5 / events
    );
}

async fn reach(taken: &AtomicU64, count: u64) {
    while taken.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write(bootstrap: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("an admin client");
    let topics = [TOPIC, "engagement.dlq.webhook-forwarder"]
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    let made = admin.create_topics(&topics, &AdminOptions::new()).await;
    made.expect("the topics are made");
    config.set("queue.buffering.max.messages", "1000000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("a producer");
    for number in 0..EVENTS {
        let partition = i32::try_from(number).unwrap_or(0) % PARTITIONS;
        let content = format!("{partition}-{}", number % CONTENTS);
        let event = Sample::new()
            .event_id(number)
            .content_id(&content)
            .at_position(partition, number / i64::from(PARTITIONS))
            .build();
        let position = event.source.position().to_string();
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let headers = OwnedHeaders::new()
            .insert(header("content-type", Format::Protobuf.content_type()))
            .insert(header("engagement-source", &position));
        let payload = encode(&event, Format::Protobuf);
        let record = BaseRecord::to(TOPIC)
            .partition(partition)
            .key(&content)
            .payload(&payload)
            .headers(headers);
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.expect("the queue has room");
    }
    producer.flush(WAIT).expect("everything is written");
}

/// Answers 204 to everything, and counts.
async fn receiver() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&count)));
        }
    });
    (format!("http://{address}/"), taken)
}

/// The forwarder never sends a request before the one before it was answered.
async fn answer(mut stream: TcpStream, taken: Arc<AtomicU64>) {
    let mut request = Vec::with_capacity(8 * 1024);
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if !is_complete(&request) {
            continue;
        }
        request.clear();
        taken.fetch_add(1, Ordering::Relaxed);
        let answered = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        if answered.is_err() {
            return;
        }
    }
}

fn is_complete(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&request[..head]);
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    request.len() >= head + 4 + length
}

struct Forwarder(Child);

impl Forwarder {
    fn start(bootstrap: &str, url: &str) -> Self {
        let mut program = std::env::current_exe().expect("this program has a path");
        program.pop();
        program.set_file_name("webhook-forwarder");
        let log = std::env::temp_dir().join("webhook-forwarder-load.log");
        let child = Command::new(&program)
            .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("WEBHOOK_URL", url)
            .env("WEBHOOK_START", "earliest")
            .env("WEBHOOK_ALLOW_INSECURE", "true")
            .env("WEBHOOK_ALLOW_PRIVATE", "true")
            .env("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .stdout(File::create(log).expect("a log file"))
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }

    /// User and system time so far (fields 14 and 15 of `proc/pid/stat`, in hundredths of a second).
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        let stat = stat.expect("the forwarder runs");
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ticks = fields
            .skip(11)
            .take(2)
            .filter_map(|text| text.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
