//! All servers, set up by `engagectl init`, with one event captured; no service runs.

use std::process::Command;
use std::time::Instant;

use devstack::{Needs, Stack};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stream::KafkaSettings;

use crate::support::{WAIT, texts, tool};

pub(super) const PARTITIONS: &str = "topics.partitions=4";

pub(super) struct World {
    pub(super) stack: Stack,
}

/// What the tool found.
pub(super) struct Found {
    pub(super) code: Option<i32>,
    pub(super) text: String,
    findings: Vec<Value>,
}

impl Found {
    /// The finding at a place whose text has these words.
    pub(super) fn has(&self, severity: &str, place: &str, words: &str) -> &Value {
        let is_it = |one: &&Value| {
            one["severity"] == severity
                && one["where"].as_str().unwrap().contains(place)
                && one["found"].as_str().unwrap().contains(words)
        };
        let found = self.findings.iter().find(is_it);
        found.unwrap_or_else(|| panic!("no {severity} {place} {words:?} in {}", self.text))
    }

    /// The same, an error whose next step has these words.
    pub(super) fn names(&self, place: &str, words: &str, next: &str) {
        let found = self.has("error", place, words);
        let step = found["next"].as_str().unwrap();
        assert!(step.contains(next), "{next:?} is missing in {found}");
        assert_ne!(self.code, Some(0));
    }

    fn errors(&self) -> Vec<&Value> {
        let errors = self.findings.iter();
        errors.filter(|one| one["severity"] == "error").collect()
    }
}

impl World {
    pub(super) async fn start() -> Self {
        let starting = Stack::builder().needs(Needs::all()).private().start();
        let world = Self {
            stack: Box::pin(starting).await.unwrap(),
        };
        world.init();
        world
            .sql(
                "INSERT INTO content (id, slug, title, content_type, publish_ts) VALUES \
                 ('11111111-1111-1111-1111-111111111111', 'a', 'A', 'video', now())",
            )
            .await;
        world.until("capture begins", |found| {
            found.errors().is_empty() && found.text.contains("wal_status reserved")
        });
        world
            .sql(
                "INSERT INTO engagement_events (content_id, event_type, duration_ms) VALUES \
                 ('11111111-1111-1111-1111-111111111111', 'play', 7000)",
            )
            .await;
        world.until("an event is captured", |found| {
            found.text.contains("carry the content's id, in the newest")
        });
        world
    }

    /// The tool, pointed at all servers.
    pub(super) fn tool(&self, words: &[&str]) -> Command {
        let stack = &self.stack;
        let mut command = tool();
        command
            .env("DATABASE_URL", &stack.postgres().admin_url)
            .env("ENGAGE_CDC_PASSWORD", "cdc")
            .env("KAFKA_BOOTSTRAP_SERVERS", &stack.kafka().bootstrap)
            .env("CONNECT_URL", &stack.connect().url)
            .env("CLICKHOUSE_URL", &stack.clickhouse().url)
            .env("CLICKHOUSE_USER", &stack.clickhouse().admin_user)
            .env("CLICKHOUSE_PASSWORD", &stack.clickhouse().admin_password)
            .env("REDIS_URL", &stack.redis().url)
            .args(["--set", PARTITIONS])
            .args(words);
        command
    }

    /// Repairs what is safe.
    pub(super) fn init(&self) {
        let output = self.tool(&["init", "--yes"]).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{out}{err}");
    }

    pub(super) fn doctor(&self) -> Found {
        found(&mut self.tool(&["-o", "json", "doctor"]))
    }

    /// Asks until it finds what is wanted.
    pub(super) fn until(&self, what: &str, wanted: impl Fn(&Found) -> bool) -> Found {
        let begun = Instant::now();
        loop {
            let found = self.doctor();
            if wanted(&found) {
                return found;
            }
            assert!(begun.elapsed() < WAIT, "{what}: {}", found.text);
        }
    }

    pub(super) fn is_well(&self, when: &str) {
        let found = self.until(when, |found| found.errors().is_empty());
        assert_eq!(found.code, Some(0), "{when}: {}", found.text);
    }

    pub(super) fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.stack.kafka().bootstrap.clone(),
            ..KafkaSettings::default()
        }
    }

    pub(super) async fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            self.kafka().admin_config().create().unwrap();
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let new = settings
            .iter()
            .fold(new, |topic, (key, value)| topic.set(key, value));
        let made = admin.create_topics([&new], &AdminOptions::new()).await;
        made.unwrap().into_iter().for_each(|one| drop(one.unwrap()));
    }

    pub(super) async fn sql(&self, sql: &str) {
        let url = &self.stack.postgres().admin_url;
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// Asks Connect something about the connector, until it does it.
    pub(super) async fn connector(&self, what: &str) {
        let url = format!("{}/connectors/engage-cdc/{what}", self.stack.connect().url);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let begun = Instant::now();
        loop {
            let answer = client.put(&url).send().await.unwrap();
            if answer.status().is_success() {
                return;
            }
            assert!(begun.elapsed() < WAIT, "{what}: {}", answer.status());
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn shutdown(self) {
        self.stack.shutdown().await;
    }
}

/// What the tool found, which prints JSON.
pub(super) fn found(command: &mut Command) -> Found {
    let output = command.output().unwrap();
    let (text, err) = texts(&output);
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{err}"));
    Found {
        code: output.status.code(),
        findings: value["findings"].as_array().unwrap().clone(),
        text,
    }
}
