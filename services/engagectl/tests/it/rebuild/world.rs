//! A log, and the sinks that read it, on the shared servers.

mod held;
mod running;
mod sums;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use clickhouse_sink::app::ClickHouseSink;
use devstack::{Needs, Stack};
use engagement::event::EnrichedEvent;
use redis_aggregator::sums::Sums;
use secrecy::SecretString;
use service::App as _;
use service::config::Loader;

use super::door::Door;
use crate::broker::{Tool, committed, create, eventually, settings};
use crate::support::unique;
pub(crate) use running::Running;
pub(crate) use writes::events;

/// The table, its fences and its views; `{database}` and `{event_id_type}` are to be filled in.
pub(crate) const DDL: [&str; 3] = [
    include_str!("../../../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../../../deploy/clickhouse/02_events_enriched.sql"),
    include_str!("../../../../../deploy/clickhouse/03_views.sql"),
];

/// One test's log, table and keys on the shared servers.
pub(crate) struct World {
    stack: &'static Stack,
    name: String,
    partitions: i32,
    file: PathBuf,
    _dir: tempfile::TempDir,
    /// Everything that was written, by partition.
    logs: Vec<Vec<EnrichedEvent>>,
    /// Of that, the events that are there now.
    living: Vec<Vec<EnrichedEvent>>,
    /// What only a backfill has brought, by content.
    beside: Vec<(String, Sums)>,
    next_id: i64,
    written: bool,
}

impl World {
    pub(crate) async fn start(name: &str, partitions: i32) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stack = devstack::shared_for_tests(Needs::none().kafka().redis().clickhouse());
        let name = unique(name).replace('-', "_");
        let topics = ["enriched", "dlq.redis", "dlq.clickhouse"];
        for topic in topics {
            create(&format!("{name}.{topic}"), partitions).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("aggregator.toml");
        std::fs::write(&file, aggregator_toml(&name)).unwrap();
        let empty = || (0..partitions).map(|_| Vec::new()).collect();
        let world = Self {
            stack,
            name,
            partitions,
            file,
            _dir: dir,
            logs: empty(),
            living: empty(),
            beside: Vec::new(),
            next_id: 1,
            written: false,
        };
        for statement in DDL.iter().flat_map(|file| file.split(';')) {
            if statement.contains("CREATE") {
                let statement = statement.replace("{event_id_type}", "Int64");
                world
                    .clickhouse(&statement.replace("{database}", &world.name))
                    .await;
            }
        }
        world
    }

    /// The database, and what every other name begins with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn topic(&self) -> String {
        format!("{}.enriched", self.name)
    }

    pub(crate) fn tool(&self) -> Tool {
        let server = self.stack.clickhouse();
        Tool::new("it-rebuild.cdc", &self.topic())
            .and("REDIS_URL", &self.stack.redis().url)
            .and("CLICKHOUSE_URL", &server.url)
            .and("CLICKHOUSE_USER", &server.admin_user)
            .and("CLICKHOUSE_PASSWORD", &server.admin_password)
            .and("CLICKHOUSE_DATABASE", &self.name)
            .and("KAFKA_BACKFILL_TOPIC", &format!("{}.backfill", self.name))
    }

    /// The words of a command with this test's groups and file.
    pub(crate) fn words<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        let group =
            |kind: &str| -> &'static str { format!("groups.{kind}={}-{kind}", self.name).leak() };
        let mut all = words.to_vec();
        all.extend(["--set", group("redis"), "--set", group("clickhouse")]);
        if words[1] == "redis" {
            let file: &'static str = self.file.display().to_string().leak();
            all.extend(["--aggregator", file]);
        }
        all
    }

    /// Runs a command until it ends well: a member that has just left is listed for a moment.
    pub(crate) async fn carried_out(&self, words: &[&str]) -> String {
        let words = self.words(words);
        eventually(&words.join(" "), async || {
            let output = self.tool().run(&words);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if output.status.success() {
                Ok(text(&output.stdout))
            } else {
                Err(text(&output.stderr))
            }
        })
        .await
    }

    /// Runs a command until it stands before the door, and kills it there; it is begun again while a member is still listed.
    pub(crate) async fn killed_at(&self, door: &Door, words: &[&str]) {
        let (tool, words) = (self.tool().and("REDIS_URL", &door.url), self.words(words));
        let mut child = eventually("a command before the door", async || {
            let mut child = tool.start(&words);
            while !door.holds_one() {
                if let Some(status) = child.try_wait().unwrap() {
                    return Err(format!("it ended before: {status}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(child)
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn sink(&self) -> Running {
        let server = self.stack.clickhouse();
        let mut config = clickhouse_sink::config::Config::default();
        config.kafka.connection = settings();
        config.kafka.enriched_topic = self.topic();
        config.kafka.dead_letter_topic = format!("{}.dlq.clickhouse", self.name);
        config.kafka.backfill_topic = String::new();
        config.kafka.group_id = format!("{}-clickhouse", self.name);
        config.clickhouse.url = server.url.parse().unwrap();
        config.clickhouse.user.clone_from(&server.admin_user);
        config.clickhouse.password = Some(SecretString::from(server.admin_password.clone()));
        config.clickhouse.database.clone_from(&self.name);
        Running::start(|context| ClickHouseSink::run(config, context))
    }

    pub(crate) fn aggregator(&self) -> Running {
        let loader = Loader::new(&[]).file(Some(&self.file));
        let loaded = loader.load_service::<redis_aggregator::config::Config>();
        let mut config = loaded.unwrap().config.app;
        config.kafka = settings();
        config.redis.url = SecretString::from(self.stack.redis().url.clone());
        Running::start(|context| redis_aggregator::serve(config, context))
    }

    pub(crate) async fn clickhouse(&self, sql: &str) -> String {
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

    /// Waits until the sink has read everything, and the table is what it must be.
    pub(crate) async fn stored(&self) {
        let living: usize = self.living.iter().map(Vec::len).sum();
        eventually("the sink has read everything", async || {
            let ends = self.logs.iter().map(|log| log.len() as i64);
            let group = format!("{}-clickhouse", self.name);
            let at: Vec<_> = (0..self.partitions)
                .map(|partition| {
                    committed(&group, &self.topic(), partition).map_or(0, |(offset, _)| offset)
                })
                .collect();
            let ends: Vec<_> = ends.collect();
            (at == ends)
                .then_some(())
                .ok_or(format!("{at:?} of {ends:?}"))
        })
        .await;
        let count = self
            .clickhouse(&format!("SELECT count() FROM {}.events", self.name))
            .await;
        assert_eq!(count.trim(), living.to_string());
    }
}

fn aggregator_toml(name: &str) -> String {
    let keys = ["content_last", "content_stats", "content_users"];
    let keys: String = keys
        .iter()
        .map(|key| format!("[keys.{key}]\nkey = \"{name}:{key}:{{id}}\"\nttl = \"1h\"\n"))
        .collect();
    format!(
        "[input]\nenriched_topic = \"{name}.enriched\"\ndead_letter_topic = \"{name}.dlq.redis\"\ngroup_id = \"{name}-redis\"\n\
         [redis]\nprefix = \"{name}:\"\n[keys.content_count]\nkey = \"{name}:count:{{id}}\"\n{keys}\
         [keys.recent_events]\nkey = \"{name}:recent:{{id}}\"\nttl = \"1h\"\nmax = 100\n\
         [keys.minute_bucket]\nkey = \"{name}:minute:{{id}}\"\nttl = \"15m\"\n\
         [[leaderboard]]\nkey = \"{name}:top\"\nscore = \"events\"\nttl = \"120s\"\n"
    )
}
