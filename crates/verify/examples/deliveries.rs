//! Time and memory of a comparison of webhooks: `cargo run -p verify --example deliveries -- 1000000 1000000`.
//!
//! Starts a broker and a receiver of its own (`engagectl webhook listen`, which must be built), fills the enriched topic with so many events and
//! the topic of backfills with so many records of one run, gives the receiver all of their messages, compares, takes every 2000th
//! away, compares again, and prints seconds and the peak of its own resident memory.
//!
//! Invariant: the first comparison must be equal, and the second must miss exactly what was taken away, or it fails.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a tool for people, which fails by panicking"
)]

mod bench;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::Writer;
use devstack::{Needs, Stack};
use engagement::event::{EnrichedEvent, Lane, Origin};
use engagement::profile::{Profile, RenderOptions};
use engagement::testing::Sample;
use platform::Schema;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::{Connection, PgConnection};
use verify::delivery::hash_of;
use verify::{KafkaSource, Options, PostgresSource, ReceiverSource, Sink, Sources};
use webhook_forwarder::message::{MessageShape, Order};

const RUN: i64 = 1_767_882_112_123;
/// One of so many deliveries is taken away.
const LOST: u64 = 2000;

#[tokio::main]
async fn main() {
    let sizes: Vec<u64> = std::env::args()
        .skip(1)
        .map(|text| text.parse().unwrap())
        .collect();
    let [live, past] = sizes[..] else {
        panic!("expected two numbers: events, and records of a backfill");
    };
    let needs = Needs::none().postgres().kafka();
    let stack = bench::start(needs).await;
    let dir = stack.dir().to_owned();
    let kafka = bench::kafka(&stack);
    let mut connection = PgConnection::connect(&stack.postgres().admin_url)
        .await
        .unwrap();
    sqlx::raw_sql(Schema::Uuid.ddl())
        .execute(&mut connection)
        .await
        .unwrap();
    let begun = Instant::now();
    let (whole, cut) = (dir.join("whole.jsonl"), dir.join("cut.jsonl"));
    let lost = fill(&kafka, live, past, [&whole, &cut]).await;
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
    for (file, lost) in [(whole, 0), (cut, lost)] {
        let port = devstack::free_port().unwrap();
        let receiver = Receiver::start(port, &file).await;
        Box::pin(measure(&stack, &kafka, port, lost)).await;
        drop(receiver);
    }
    stack.shutdown().await;
}

async fn measure(stack: &Stack, kafka: &KafkaSource, port: u16, lost: u64) {
    let url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let sources = Sources {
        postgres: PostgresSource::new(stack.postgres().admin_url.as_str(), Schema::Uuid),
        kafka: kafka.clone(),
        clickhouse: None,
        redis: None,
        receiver: Some(ReceiverSource::new(url, "load", true)),
    };
    let options = Options {
        sinks: [Sink::Webhook].into(),
        ..Options::default()
    };
    let before = bench::forget_peak();
    let report = verify::run(&sources, &options).await.unwrap();
    let peak = bench::peak();
    println!("{lost} taken away: {before} MiB resident before, peak {peak} MiB\n{report}");
    let found = report.sink(Sink::Webhook).unwrap();
    assert_eq!((found.missing, found.surplus, found.changed), (lost, 0, 0));
}

/// A process that has received what stands in a file.
struct Receiver(Child);

impl Receiver {
    async fn start(port: u16, file: &Path) -> Self {
        let child = Command::new(devstack::program_beside_test("engagectl"))
            .args([
                "webhook",
                "listen",
                "--addr",
                &format!("127.0.0.1:{port}"),
                "--record",
            ])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let receiver = Self(child.unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (begun, url) = (Instant::now(), format!("http://127.0.0.1:{port}/health"));
        while client.get(&url).send().await.is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(600),
                "the receiver does not answer"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        receiver
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both topics, both groups at their ends, and the files of two receivers; how many deliveries the second lacks.
async fn fill(kafka: &KafkaSource, live: u64, past: u64, [whole, cut]: [&Path; 2]) -> u64 {
    let shape = MessageShape {
        order: Order::Event,
        profile: Profile::Canonical,
        envelope: true,
        render: RenderOptions::default(),
    };
    let open = |path| std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let (mut whole, mut cut, mut lost) = (open(whole), open(cut), 0);
    for (topic, rows, run) in [
        (&kafka.enriched_topic, live, None),
        (&kafka.backfill_topic, past, Some(RUN)),
    ] {
        let mut writer = Writer::new(kafka, topic).await;
        for n in 0..rows {
            let event = write(&mut writer, n, run);
            let message = shape.message(&event).unwrap();
            let mut line = serde_json::json!({
                "id": message.id, "body": format!("{:016x}", hash_of(&message.body)), "event": event.event_id,
                "revision": event.revision, "deleted": false, "moved": false,
            });
            if let Some(run) = run {
                line["run"] = run.into();
            }
            writeln!(whole, "{line}").unwrap();
            if n % LOST == 7 {
                lost += 1;
            } else {
                writeln!(cut, "{line}").unwrap();
            }
        }
        let group = run.map_or(
            "webhook-forwarder.load",
            |_| "webhook-forwarder.load.backfill",
        );
        end(&writer, kafka, topic, group);
    }
    lost
}

/// The next event, written.
fn write(writer: &mut Writer, n: u64, run: Option<i64>) -> EnrichedEvent {
    let partition = usize::try_from(n % 16).unwrap();
    let at = writer.take(partition);
    let sample = Sample::new().event_id(n);
    let sample = sample.at_position(i32::try_from(partition).unwrap(), at);
    let event = match run {
        None => sample.build(),
        Some(_) => {
            let mut event = sample.lane(Lane::Backfill).origin(Origin::Backfill).build();
            event.revision = 7;
            event
        }
    };
    let ticket = run.map(|run| format!("run={run} range=0 after=0 lsn=0 for=webhook"));
    writer.send(&event, ticket.as_deref());
    event
}

/// Everything is there, and the group has read it.
fn end(writer: &Writer, kafka: &KafkaSource, topic: &str, group: &str) {
    writer.flush();
    let mut config = bench::client(kafka);
    let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, next) in (0..).zip(writer.next) {
        let offset = Offset::Offset(next);
        list.add_partition_offset(topic, partition, offset).unwrap();
    }
    let commit = || consumer.commit(&list, CommitMode::Sync);
    stream::election::once_elected(Duration::from_secs(120), commit).unwrap();
}
