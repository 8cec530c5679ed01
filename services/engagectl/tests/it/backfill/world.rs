//! A database whose slot is confirmed, a live stream in which nothing happens, the two topics of a backfill, and the table of a real sink.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use clickhouse_sink::app::ClickHouseSink;
use devstack::{Needs, Stack};
use engagement::wire::{self, Format};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use secrecy::SecretString;
use serde_json::Value;
use service::App as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stream::backfill::Ticket;
use stream::scan::{Scanner, Span};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::{Tool, WAIT, create, eventually, settings};
use crate::rebuild::world::{DDL, Running as Service};
use crate::support::{ended, unique};

/// The rows lie between these two, evenly.
const RANGE: [&str; 4] = [
    "--start",
    "2026-01-08T09:00:00",
    "--end",
    "2026-01-08T09:10:01",
];
const TOPICS: [&str; 5] = ["cdc", "enriched", "lane", "runs", "dlq"];

/// One test's database, topics and table on the shared servers.
pub(super) struct World {
    stack: &'static Stack,
    name: String,
    database: String,
    dir: tempfile::TempDir,
    _confirming: DropGuard,
}

/// Where the two topics of a backfill end: what it has written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Per partition of the lane.
    pub(super) lane: Vec<i64>,
    pub(super) runs: Vec<i64>,
}

impl Written {
    /// Records of the lane.
    pub(super) fn records(&self) -> i64 {
        self.lane.iter().sum()
    }
}

/// The tool at work.
pub(super) struct Running {
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        Self {
            child,
            said: Some(said),
        }
    }

    /// As Ctrl-C.
    pub(super) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Its exit code, and what it said.
    pub(super) fn ended(mut self) -> (i32, String) {
        let status = ended(&mut self.child);
        let said = self.said.take().unwrap().join().unwrap();
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World {
    pub(super) async fn start(name: &str, partitions: i32, rows: i64) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let needs = Needs::none().kafka().postgres().clickhouse();
        let stack = devstack::shared_for_tests(needs);
        let name = unique(name).replace('-', "_");
        let admin = &stack.postgres().admin_url;
        sql(admin, &format!("CREATE DATABASE {name}")).await;
        let mut database = url::Url::parse(admin).unwrap();
        database.set_path(&name);
        let confirming = CancellationToken::new();
        let world = Self {
            stack,
            database: database.to_string(),
            dir: tempfile::tempdir().unwrap(),
            _confirming: confirming.clone().drop_guard(),
            name,
        };
        for topic in TOPICS {
            let count = if topic == "runs" { 1 } else { partitions };
            create(&world.topic(topic), count).await;
        }
        world.fill(rows).await;
        world.create_table().await;
        std::fs::write(world.file(), world.settings()).unwrap();
        tokio::spawn(confirm(
            world.database.clone(),
            world.name.clone(),
            confirming,
        ));
        world
    }

    pub(super) fn topic(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("engage.toml")
    }

    /// What has no variable in the environment.
    fn settings(&self) -> String {
        let name = &self.name;
        format!(
            "[topics]\nbackfill_runs = '{name}.runs'\n[connect]\nslot = '{name}'\n\
             [groups]\nenricher = '{name}-enricher'\nclickhouse = '{name}-clickhouse'\n"
        )
    }

    /// Rows of some contents, ten a second, and the slot of a connector that has nothing left to capture.
    async fn fill(&self, rows: i64) {
        let ddl = platform::Schema::Uuid.ddl();
        let slot = &self.name;
        sql(&self.database, ddl).await;
        for statement in [
            "INSERT INTO content (id, slug, title, content_type, length_seconds, publish_ts) \
             SELECT md5('c' || n)::uuid, 'c-' || n, 'C ' || n, 'video', 600, now() FROM generate_series(1, 40) n"
                .to_owned(),
            format!(
                "INSERT INTO engagement_events (id, content_id, event_type, event_ts, duration_ms, device) \
                 SELECT 1000000 + n, md5('c' || (n % 40 + 1))::uuid, 'play', \
                 timestamptz '2026-01-08T09:00:00Z' + n * interval '100 ms', n, 'past' FROM generate_series(1, {rows}) n"
            ),
            "ANALYZE engagement_events".to_owned(),
            format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
        ] {
            sql(&self.database, &statement).await;
        }
    }

    async fn create_table(&self) {
        for statement in DDL.iter().flat_map(|file| file.split(';')) {
            if statement.contains("CREATE") {
                let statement = statement.replace("{event_id_type}", "Int64");
                self.clickhouse(&statement.replace("{database}", &self.name))
                    .await;
            }
        }
    }

    pub(super) fn tool(&self) -> Tool {
        let server = self.stack.clickhouse();
        Tool::new(&self.topic("cdc"), &self.topic("enriched"))
            .and("KAFKA_BACKFILL_TOPIC", &self.topic("lane"))
            .and("DATABASE_URL", &self.database)
            .and("CLICKHOUSE_URL", &server.url)
            .and("CLICKHOUSE_USER", &server.admin_user)
            .and("CLICKHOUSE_PASSWORD", &server.admin_password)
            .and("CLICKHOUSE_DATABASE", &self.name)
            .and("ENGAGE_CONFIG", self.file().to_str().unwrap())
    }

    /// A run over all rows.
    pub(super) fn words<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        [&["backfill"][..], &RANGE[..], more].concat()
    }

    /// Begins a run over all rows.
    pub(super) fn begin(&self, more: &[&str]) -> Running {
        Running::start(self.tool().command(&self.words(more)))
    }

    /// Runs a command that has to end well, and tells what it said.
    pub(super) fn ends_well(&self, words: &[&str]) -> String {
        let output = self.tool().run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    }

    /// What `--list` says.
    pub(super) fn runs(&self) -> Value {
        self.tool().json(&["backfill", "--list"])
    }

    pub(super) fn only_run(&self) -> i64 {
        let runs = self.runs();
        assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
        runs[0]["run"].as_i64().unwrap()
    }

    pub(super) async fn lane_holds_something(&self) {
        eventually("a page is in the lane", async || {
            let ends = spans(&self.topic("lane")).await;
            let is_there = ends.iter().any(|span| span.to > 0);
            is_there.then_some(()).ok_or(format!("{ends:?}"))
        })
        .await;
    }

    pub(super) async fn written_down(&self) -> Written {
        let ends = async |topic: String| {
            let spans = spans(&topic).await;
            spans.iter().map(|span| span.to).collect()
        };
        Written {
            lane: ends(self.topic("lane")).await,
            runs: ends(self.topic("runs")).await,
        }
    }

    /// How often each event of a run stands in the lane.
    pub(super) async fn times_written(&self, run: i64) -> BTreeMap<String, usize> {
        let topic = self.topic("lane");
        let read = move || {
            let scanner = Scanner::open(&settings(), "it-backfill", &topic).unwrap();
            let (spans, mut found) = (scanner.spans().unwrap(), BTreeMap::new());
            let visited = scanner.read(&spans, |record| {
                let ticket = Ticket::of(&record).expect("every record has its ticket");
                let event = wire::decode(&record.payload.unwrap(), Format::Protobuf).unwrap();
                if ticket.run == run {
                    *found.entry(event.event_id).or_default() += 1;
                }
            });
            visited.unwrap();
            found
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    pub(super) fn sink(&self) -> Service {
        let server = self.stack.clickhouse();
        let mut config = clickhouse_sink::config::Config::default();
        config.kafka.connection = settings();
        config.kafka.enriched_topic = self.topic("enriched");
        config.kafka.backfill_topic = self.topic("lane");
        config.kafka.dead_letter_topic = self.topic("dlq");
        config.kafka.group_id = format!("{}-clickhouse", self.name);
        config.clickhouse.url = server.url.parse().unwrap();
        config.clickhouse.user.clone_from(&server.admin_user);
        config.clickhouse.password = Some(SecretString::from(server.admin_password.clone()));
        config.clickhouse.database.clone_from(&self.name);
        Service::start(|context| ClickHouseSink::run(config, context))
    }

    /// Each row once in the table itself, with its title, and nothing else.
    pub(super) async fn table_is_whole(&self, rows: i64) {
        let table = format!("{}.events_enriched", self.name);
        let sums =
            "count(), uniqExact(event_id), sum(duration_ms), countIf(content_title LIKE 'C %')";
        let found = self
            .clickhouse(&format!("SELECT {sums} FROM {table}"))
            .await;
        let milliseconds = rows * (rows + 1) / 2;
        assert_eq!(
            found.trim(),
            format!("{rows}\t{rows}\t{milliseconds}\t{rows}")
        );
    }

    async fn clickhouse(&self, sql: &str) -> String {
        let server = self.stack.clickhouse();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(&server.url)
            .header("X-ClickHouse-User", &server.admin_user)
            .header("X-ClickHouse-Key", &server.admin_password);
        let response = request.body(sql.to_owned()).send().await.unwrap();
        let failed = !response.status().is_success();
        let text = response.text().await.unwrap();
        assert!(!failed, "{sql}: {text}");
        text
    }
}

async fn sql(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

/// What a connector does where nothing happens: its heartbeat writes, and it confirms that.
async fn confirm(url: String, slot: String, stop: CancellationToken) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let heartbeat = "SELECT pg_logical_emit_message(true, 'heartbeat', '')".to_owned();
    let advance = format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    loop {
        for statement in [&heartbeat, &advance] {
            let statement = AssertSqlSafe(statement.clone());
            let done = sqlx::raw_sql(statement).execute(&mut connection);
            done.await.unwrap();
        }
        let pause = tokio::time::sleep(Duration::from_millis(100));
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

async fn spans(topic: &str) -> Vec<Span> {
    let topic = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let scanner = Scanner::open(&settings(), "it-backfill", &topic).unwrap();
        scanner.spans().unwrap()
    });
    asked.await.unwrap()
}

fn admin() -> AdminClient<DefaultClientContext> {
    settings().admin_config().create().unwrap()
}

/// Gives a topic so many partitions, and waits until the broker says so.
pub(super) async fn grow(topic: &str, partitions: usize) {
    let (admin, options) = (admin(), AdminOptions::new());
    let wanted = NewPartitions::new(topic, partitions);
    let grown = admin.create_partitions([&wanted], &options).await.unwrap();
    grown.into_iter().for_each(|one| drop(one.unwrap()));
    let consumer: BaseConsumer = settings().probe_config("it-backfill").create().unwrap();
    eventually("the topic has grown", async || {
        let metadata = consumer.fetch_metadata(Some(topic), WAIT).unwrap();
        let found = metadata.topics()[0].partitions().len();
        (found == partitions)
            .then_some(())
            .ok_or(format!("{found}"))
    })
    .await;
}

/// Sets one limit of a topic, all others back to what they were, and waits until the broker knows.
pub(super) async fn limit(topic: &str, key: &str, value: &str) {
    let (admin, options) = (admin(), AdminOptions::new());
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let altered = admin.alter_configs([&change], &options).await.unwrap();
    altered.into_iter().for_each(|one| drop(one.unwrap()));
    eventually("the broker knows the limit", async || {
        let resource = ResourceSpecifier::Topic(topic);
        let described = admin.describe_configs([&resource], &options).await.unwrap();
        let found = described.into_iter().next().unwrap().unwrap();
        let found = found.get(key).and_then(|entry| entry.value.clone());
        (found.as_deref() == Some(value))
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
}
