//! A log, the sinks that read it, and what they must hold: counted one by one from the same events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clickhouse_sink::app::ClickHouseSink;
use devstack::{Needs, Stack};
use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::{Format, encode};
use redis::aio::MultiplexedConnection;
use redis_aggregator::msgpack::{Packed, unpack};
use redis_aggregator::sums::{Sums, contributions};
use redis_aggregator::window::bucket_of;
use secrecy::SecretString;
use service::config::Loader;
use service::{App as _, Context, Failure, Health, Lifecycle};
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};
use stream::producer::ProducerOptions;
use stream::{OutRecord, Producer};
use tokio::task::JoinHandle;

use super::door::Door;
use crate::broker::{Tool, WAIT, committed, create, eventually, settings};
use crate::support::unique;

/// The table, its fences and its views; `{database}` and `{event_id_type}` are to be filled in.
pub(crate) const DDL: [&str; 3] = [
    include_str!("../../../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../../../deploy/clickhouse/02_events_enriched.sql"),
    include_str!("../../../../../deploy/clickhouse/03_views.sql"),
];
const SECOND: i64 = 1_000_000;
const BUCKET: i64 = 10 * SECOND;
const SPAN: i64 = 60;

/// What to write: so many records of so many contents a partition.
#[derive(Clone, Copy)]
pub(crate) struct Acts {
    seed: u64,
    records: usize,
    contents: u64,
}

pub(crate) const fn events(seed: u64, records: usize, contents: u64) -> Acts {
    Acts {
        seed,
        records,
        contents,
    }
}

/// One test's log, table and keys on the shared servers.
pub(crate) struct World {
    stack: &'static Stack,
    name: String,
    partitions: i32,
    file: PathBuf,
    _dir: tempfile::TempDir,
    logs: Vec<Vec<EnrichedEvent>>,
    living: Vec<Vec<EnrichedEvent>>,
    beside: Vec<(String, Sums)>,
    next_id: i64,
    written: bool,
}

/// A service in this process.
pub(crate) struct Running {
    health: Health,
    lifecycle: Lifecycle,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) fn start<F>(run: impl FnOnce(Context) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let context = Context {
            lifecycle: Lifecycle::default(),
            health: Health::default(),
        };
        let (health, lifecycle) = (context.health.clone(), context.lifecycle.clone());
        let task = tokio::spawn(run(context));
        Self {
            health,
            lifecycle,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.lifecycle.soft().cancel();
        tokio::time::timeout(WAIT, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Why it ended by itself.
    pub(crate) async fn failure(self) -> String {
        let ended = tokio::time::timeout(WAIT, self.task).await.unwrap();
        ended.unwrap().unwrap_err().render("service")
    }

    /// Why at least one of its lanes stopped, whether or not others go on.
    pub(crate) async fn stopped_lane(self) -> String {
        let reasons = || {
            let conditions = self.health.ready().conditions.into_iter();
            let reasons = conditions.filter_map(|condition| condition.reason);
            reasons.collect::<Vec<_>>().join("; ")
        };
        let said = eventually("a lane stopped", async || {
            let said = reasons();
            let is_stopped = said.contains("rebuild redis");
            (is_stopped || self.task.is_finished())
                .then_some(said.clone())
                .ok_or(said)
        })
        .await;
        if self.task.is_finished() {
            return self.failure().await;
        }
        // it may end by itself meanwhile, when no lane is left
        self.lifecycle.soft().cancel();
        let _ = tokio::time::timeout(WAIT, self.task).await.unwrap();
        said
    }
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

    /// Writes records: events are made, changed, deleted; old ones first, some dated ahead into the windows of now.
    pub(crate) async fn produce(&mut self, acts: Acts) {
        let (mut random, now) = (Random(acts.seed), service::clock::now());
        let first = !std::mem::replace(&mut self.written, true);
        for number in 0..acts.records {
            let is_old = first && number < acts.records / 2;
            let ago = if is_old { 2 * 86_400 } else { 240 } - i64::try_from(number % 200).unwrap();
            let commit = now - ago * SECOND;
            let content = random.below(acts.contents * self.partitions.unsigned_abs() as u64);
            let event = self.event(&mut random, content, commit, now);
            self.logs[event.source.partition as usize].push(event);
        }
        self.append().await;
    }

    fn event(&mut self, random: &mut Random, content: u64, commit: i64, now: i64) -> EnrichedEvent {
        let place = usize::try_from(content).unwrap() % self.logs.len();
        let (partition, offset) = (place as i32, self.logs[place].len() as i64);
        let ahead = match random.below(50) {
            0 => now - commit - 60 * SECOND,
            1 => now - commit + 3_600 * SECOND,
            _ => -(random.below(30) as i64) * SECOND,
        };
        let kind = ["play", "pause", "finish", "click", "other"][random.below(5) as usize];
        let ms = (random.below(10) > 0).then(|| random.below(60_000) as i64);
        let fresh = |id: i64, content: &str| {
            let sample = Sample::new()
                .event_id(id)
                .content_id(content)
                .event_type(kind);
            let at = Micros(commit + ahead);
            sample
                .duration_ms(ms)
                .event_ts(at)
                .at_position(partition, offset)
        };
        let living = &mut self.living[place];
        let action = random.below(10);
        let old = (action > 6 && !living.is_empty())
            .then(|| living.swap_remove(random.below(living.len() as u64) as usize));
        self.next_id += 1;
        let mut event = match old {
            None => fresh(self.next_id, &format!("c{content}")).build(),
            Some(old) if action == 9 => {
                let mut gone = Sample::new()
                    .at_position(partition, offset)
                    .replacing(&old)
                    .build();
                let source = gone.source;
                (gone, gone.source, gone.deleted) = (
                    EnrichedEvent {
                        previous: gone.previous,
                        ..old
                    },
                    source,
                    true,
                );
                gone
            }
            Some(old) => {
                let content = old.content_id.clone().unwrap();
                fresh(old.event_id.parse().unwrap(), &content)
                    .replacing(&old)
                    .build()
            }
        };
        event.source.committed_at = Micros(commit);
        event.revision = u64::try_from(self.next_id).unwrap();
        if !event.deleted {
            living.push(event.clone());
        }
        event
    }

    async fn append(&self) {
        let producer = Producer::new(&settings(), ProducerOptions::default()).unwrap();
        let topic = self.topic();
        for (partition, log) in (0_i32..).zip(&self.logs) {
            let probe = stream::probe::Probe::new(&settings(), "it");
            let end = probe.watermarks(&topic, partition).await.unwrap().high;
            let new = log.iter().skip(usize::try_from(end).unwrap());
            let sends = new.map(|event| {
                let headers = [
                    (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
                    (ENGAGEMENT_SOURCE, event.source.position().to_string()),
                ];
                OutRecord {
                    topic: topic.as_str().into(),
                    partition: Some(partition),
                    key: event.content_id.clone().map(Bytes::from),
                    payload: Some(encode(event, Format::Protobuf).into()),
                    headers: headers
                        .map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))))
                        .to_vec(),
                    timestamp_ms: Some(event.source.committed_at.millis()),
                }
            });
            for record in sends {
                producer.send_acked(&record).await.unwrap();
            }
        }
    }

    /// Rows that only a backfill has brought.
    pub(crate) async fn insert_by_backfill(&mut self, events: i64) {
        let at = service::clock::now() - 120 * SECOND;
        for n in 0..events {
            let (id, ms) = (1_000_000 + n, 100 + n);
            self.clickhouse(&format!(
                "INSERT INTO {}.events_enriched (event_id, content_id, event_ts, event_type, duration_ms, revision, origin, src_lane, \
                 src_partition, src_offset, src_row, enrichment_status) VALUES ({id}, 'c0', fromUnixTimestamp64Micro({at}, 'UTC'), 'play', \
                 {ms}, 1, 'BACKFILL', 'backfill', 0, {n}, 1, 'OK')",
                self.name
            ))
            .await;
            self.beside.push(("c0".into(), Sums::of("play", Some(ms))));
        }
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

    pub(crate) fn redis_url(&self) -> String {
        self.stack.redis().url.clone()
    }

    async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.stack.redis().url.as_str()).unwrap();
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(WAIT))
            .set_response_timeout(Some(WAIT));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap()
    }

    /// As a new server would be, for this test.
    pub(crate) async fn empty_redis(&self) {
        let mut redis = self.redis().await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*", self.name))
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(!keys.is_empty());
        let _: i64 = redis::cmd("DEL")
            .arg(keys)
            .query_async(&mut redis)
            .await
            .unwrap();
    }

    fn key(&self, partition: i32, rest: &str) -> String {
        format!("{}:{{{partition}}}:{rest}", self.name)
    }

    /// The position of each partition, and whether it was made by a rebuild.
    pub(crate) async fn places(&self) -> Vec<(String, bool)> {
        let mut redis = self.redis().await;
        let mut places = Vec::new();
        for partition in 0..self.partitions {
            let mut ask = redis::cmd("HMGET");
            ask.arg(self.key(partition, "pos")).arg("at").arg("rebuilt");
            let (at, made): (Option<String>, Option<String>) =
                ask.query_async(&mut redis).await.unwrap();
            places.push((at.unwrap_or_default(), made.is_some()));
        }
        places
    }

    /// Waits until Redis holds what the log says: totals, windows, and the counts that readers read.
    pub(crate) async fn counted(&self, when: &str) {
        let mut redis = self.redis().await;
        for partition in 0..self.partitions {
            eventually(&format!("{when}: partition {partition}"), async || {
                self.differs(&mut redis, partition)
                    .await
                    .map_or(Ok(()), Err)
            })
            .await;
        }
    }

    async fn differs(&self, redis: &mut MultiplexedConnection, partition: i32) -> Option<String> {
        let log = &self.logs[partition as usize];
        let (pos, totals, window): (BTreeMap<String, String>, Packs, Packs) = redis::pipe()
            .atomic()
            .hgetall(self.key(partition, "pos"))
            .hgetall(self.key(partition, "t"))
            .hgetall(self.key(partition, &format!("w:{SPAN}")))
            .query_async(redis)
            .await
            .unwrap();
        let number = |field: &str| {
            pos.get(field)
                .and_then(|text| text.parse::<i64>().ok())
                .unwrap_or(-9)
        };
        if number("enriched") != log.len() as i64 - 1 {
            return Some(format!("{pos:?} of {}", log.len()));
        }
        let hi = number("hi");
        let mut expected = self.sums(log, |_| true);
        for (content, sums) in self.beside.iter().filter(|_| partition == 0) {
            *expected.entry(content.clone()).or_default() += *sums;
        }
        if expected != sums_of(&totals) {
            return Some(format!(
                "totals: expected {expected:?}, found {:?}",
                sums_of(&totals)
            ));
        }
        let in_window = |at: Micros| (hi - SPAN..=hi).contains(&bucket_of(at, BUCKET));
        let expected_window = self.sums(log, in_window);
        if expected_window != sums_of(&window) {
            return Some(format!(
                "window at {hi}: expected {expected_window:?}, found {:?}",
                sums_of(&window)
            ));
        }
        for (content, sums) in expected {
            let key = format!("{}:count:{content}", self.name);
            let count: Option<i64> = redis::cmd("GET")
                .arg(&key)
                .query_async(redis)
                .await
                .unwrap();
            if count != Some(sums.events) {
                return Some(format!("{key}: expected {}, found {count:?}", sums.events));
            }
        }
        None
    }

    fn sums(
        &self,
        log: &[EnrichedEvent],
        wanted: impl Fn(Micros) -> bool,
    ) -> BTreeMap<String, Sums> {
        let mut all: BTreeMap<String, Sums> = BTreeMap::new();
        for change in log.iter().flat_map(contributions).flatten() {
            if wanted(change.event_ts) {
                *all.entry(change.content_id.to_owned()).or_default() += change.sums;
            }
        }
        all.retain(|_, sums| !sums.is_zero());
        all
    }
}

type Packs = BTreeMap<String, Vec<u8>>;

fn sums_of(packs: &Packs) -> BTreeMap<String, Sums> {
    let sums = packs.iter().map(|(id, packed)| {
        let values: Vec<i64> = unpack(packed).unwrap().iter().map(Packed::int).collect();
        (
            id.clone(),
            Sums::from_array(values[..7].try_into().unwrap()),
        )
    });
    sums.filter(|(_, sums)| !sums.is_zero()).collect()
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

/// A small generator; the same seed gives the same events.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}
