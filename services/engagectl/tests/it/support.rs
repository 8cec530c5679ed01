//! The tool, and a broker to point it at: one for the whole binary, topics of its own for each test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use engagement::event::EnrichedEvent;
use engagement::wire::{self, Format};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use stream::KafkaSettings;
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

/// Nothing takes as long, however busy the machine is.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

pub(crate) fn settings() -> KafkaSettings {
    let stack = devstack::shared_for_tests(devstack::Needs::none().kafka());
    KafkaSettings {
        bootstrap_servers: stack.kafka().bootstrap.clone(),
        ..KafkaSettings::default()
    }
}

/// A name that no other test and no earlier run has used.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{next}", std::process::id())
}

/// The tool without any environment but `PATH`.
pub(crate) fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engagectl"));
    command.env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// The tool, pointed at the broker and at topics.
pub(crate) fn with_topics(topics: &Topics) -> Command {
    let mut command = tool();
    command
        .env("KAFKA_BOOTSTRAP_SERVERS", settings().bootstrap_servers)
        .env("KAFKA_CDC_TOPIC", &topics.cdc)
        .env("KAFKA_ENRICHED_TOPIC", &topics.enriched);
    command
}

/// Standard output and standard error as text.
pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The pair that a pipeline has.
pub(crate) struct Topics {
    pub(crate) cdc: String,
    pub(crate) enriched: String,
}

impl Topics {
    pub(crate) async fn new(partitions: i32) -> Self {
        let topics = Self {
            cdc: unique("cdc"),
            enriched: unique("enriched"),
        };
        create(&topics.cdc, partitions).await;
        create(&topics.enriched, partitions).await;
        topics
    }
}

pub(crate) async fn create(name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = settings().admin_config().create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let made = admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    made.into_iter().for_each(|one| drop(one.unwrap()));
}

/// A record to be sent.
pub(crate) struct Sent<'a> {
    pub(crate) key: &'a str,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Vec<(&'a str, String)>,
}

/// Writes records into one partition, and waits until the broker has them.
pub(crate) fn send(topic: &str, partition: i32, records: &[Sent<'_>]) {
    let producer: BaseProducer = settings().producer_config().create().unwrap();
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let out = BaseRecord::to(topic)
            .partition(partition)
            .key(record.key)
            .payload(&record.payload)
            .headers(headers);
        producer.send(out).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(WAIT).unwrap();
}

/// An enriched event as the enricher writes it.
pub(crate) fn enriched(event: &EnrichedEvent, format: Format) -> Sent<'_> {
    Sent {
        key: event.content_id.as_deref().unwrap_or_default(),
        payload: wire::encode(event, format),
        headers: vec![
            (CONTENT_TYPE, format.content_type().to_owned()),
            (ENGAGEMENT_SOURCE, event.source.position().to_string()),
        ],
    }
}

/// A process whose lines are read as they come.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| to.send(line))
        });
        Self { child, lines }
    }

    /// The next line, or the failure with what the process said.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(WAIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {WAIT:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                let mut said = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .unwrap();
                panic!("it ended: {said}")
            }
        }
    }

    /// A line, if one comes within this time.
    pub(crate) fn line_within(&mut self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// As Ctrl-C in another terminal.
    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    pub(crate) fn ended(mut self) -> ExitStatus {
        ended(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < WAIT, "it has not ended within {WAIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
