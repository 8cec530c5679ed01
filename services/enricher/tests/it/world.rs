//! Topics, a content table and enrichers of one test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use devstack::{Needs, Stack};
use engagement::event::EnrichedEvent;
use enricher::Enricher;
use enricher::config::Config;
use service::{App, Context, Failure, Health, Lifecycle};
use sqlx::postgres::PgPool;
use tokio::task::JoinHandle;

use crate::broker::{Broker, decode};
use crate::cdc::{self, Change};

/// Nothing takes as long, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A content key of the tests.
pub(crate) const CONTENT: &str = "5b6962dd-3f90-4c93-8f61-eabfa4a803e2";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub broker: Broker,
    pub config: Config,
    pub pool: PgPool,
    pub url: String,
    /// The content table, without its schema.
    pub table: String,
}

fn stack() -> &'static Stack {
    static STACK: OnceLock<&'static Stack> = OnceLock::new();
    STACK.get_or_init(|| devstack::shared_for_tests(Needs::none().kafka().postgres()))
}

impl World {
    /// Topics with so many partitions, an empty content table, a configuration of its own.
    pub(crate) async fn new(partitions: i32) -> Self {
        let stack = stack();
        // RUST_LOG shows what the enrichers of a failing test say
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let (broker, url) = (
            Broker::new(&stack.kafka().bootstrap),
            stack.postgres().url.clone(),
        );
        let pool = PgPool::connect_lazy(&url).unwrap();
        let table = format!("content_{name}");
        let ddl = format!(
            "CREATE TABLE {table} (id uuid PRIMARY KEY, slug text UNIQUE NOT NULL, title text NOT NULL, content_type text, \
             length_seconds integer, publish_ts timestamptz NOT NULL)"
        );
        sqlx::query(sqlx::AssertSqlSafe(ddl))
            .execute(&pool)
            .await
            .unwrap();
        let mut config = Config::default();
        config.kafka.bootstrap_servers = stack.kafka().bootstrap.clone();
        config.input.cdc_topic = format!("{name}.events");
        config.input.content_topic = format!("{name}.content");
        config.input.group_id = format!("{name}.enricher");
        config.output.topic = format!("{name}.enriched");
        config.output.dead_letter_topic = format!("{name}.dlq");
        config.database.url = Some(url.clone().into());
        config.database.content_table = format!("public.{table}");
        for topic in [
            &config.input.cdc_topic,
            &config.output.topic,
            &config.output.dead_letter_topic,
        ] {
            broker.create(topic, partitions, false).await;
        }
        broker.create(&config.input.content_topic, 1, true).await;
        Self {
            broker,
            config,
            pool,
            url,
            table,
        }
    }

    /// A row of the content table, not in the content topic.
    pub(crate) async fn insert_content(&self, id: &str, title: &str, length: Option<i32>) {
        let sql = format!(
            "INSERT INTO {} (id, slug, title, content_type, length_seconds, publish_ts) \
             VALUES ($1::uuid, $2, $2, 'podcast', $3, '2026-01-01Z')",
            self.table
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(title)
            .bind(length)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) fn produce(&self, changes: &[Change]) {
        self.broker
            .produce(&self.config.input.cdc_topic, 0, changes);
    }

    pub(crate) fn produce_content(&self, changes: &[Change]) {
        self.broker
            .produce(&self.config.input.content_topic, 0, changes);
    }

    /// The content of the tests, in its topic: 300 s long.
    pub(crate) fn publish_content(&self) {
        let row = cdc::content_row(CONTENT, "Rust in Production", Some(300));
        self.produce_content(&[cdc::content("r", None, Some(&row), cdc::at(1))]);
    }

    /// Inserts of events `ids`, each a transaction of its own.
    pub(crate) fn inserts(ids: std::ops::RangeInclusive<i64>) -> Vec<Change> {
        let insert = |id| {
            cdc::insert(
                &cdc::event_row(id, Some(CONTENT)),
                cdc::at(u64::try_from(id).unwrap() + 100),
            )
        };
        ids.map(insert).collect()
    }

    /// Partition 0 of the output once it has so many records.
    pub(crate) async fn enriched(&self, count: usize) -> Vec<EnrichedEvent> {
        let messages = self
            .broker
            .read_at_least(&self.config.output.topic, 0, count)
            .await;
        messages.iter().map(decode).collect()
    }

    /// Exactly these events, in this order, linked into one chain.
    pub(crate) async fn expect_ids(
        &self,
        ids: impl IntoIterator<Item = i64>,
    ) -> Vec<EnrichedEvent> {
        let wanted: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
        let events = self.enriched(wanted.len()).await;
        let found: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
        assert_eq!(found, wanted);
        assert_chained(&events);
        events
    }

    /// Waits until the group has committed `offset` on partition 0.
    pub(crate) async fn until_committed(&self, offset: i64) -> String {
        let (group, topic) = (&self.config.input.group_id, &self.config.input.cdc_topic);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.broker.committed(group, topic, 0);
            match found {
                Some((at, metadata)) if at == offset => return metadata,
                found => assert!(
                    Instant::now() < deadline,
                    "committed is {found:?}, {offset} is awaited"
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(self.config.clone())
    }

    pub(crate) fn start_with(&self, config: Config) -> Running {
        let (life, health) = (Lifecycle::default(), Health::default());
        let ctx = Context {
            lifecycle: life.clone(),
            health: health.clone(),
        };
        Running {
            life,
            health,
            task: tokio::spawn(Enricher::run(config, ctx)),
        }
    }
}

pub(crate) fn assert_chained(events: &[EnrichedEvent]) {
    let mut last = None;
    for event in events {
        let source = &event.source;
        if let Some(last) = last {
            assert_eq!(
                source.prev, last,
                "event {} does not follow",
                event.event_id
            );
        }
        last = Some(source.offset);
    }
}

/// An enricher in this process.
pub(crate) struct Running {
    life: Lifecycle,
    health: Health,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.life.soft().cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it stops")
            .unwrap()
            .unwrap();
    }

    /// The failure it ends with by itself.
    pub(crate) async fn failure(self) -> Failure {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .unwrap()
            .unwrap_err()
    }

    pub(crate) async fn until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.health.ready().ok {
            assert!(
                Instant::now() < deadline,
                "not ready: {:?}",
                self.health.ready()
            );
            assert!(!self.task.is_finished(), "it has ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The whole text of a failure.
pub(crate) fn text(failure: &Failure) -> String {
    failure.render("enricher")
}
