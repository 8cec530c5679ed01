//! A table is emptied, retention overtakes a stopped service, and the change topic is deleted and made anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chaos::faults::connect;
use chaos::faults::refusal::{Refusal, others_are_ready, others_have_read};
use chaos::{Arena, ArenaOptions, Patience, RunDir, faults, wait};
use engagectl::pipeline::SERVICES;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use sqlx::{Connection as _, PgConnection};

const WITHIN: Duration = Duration::from_secs(240);
const CDC: &str = "cdc.public.engagement_events";
const ENRICHED: &str = "engagement.enriched.v1";
const PARTITIONS: i32 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_table_retention_and_a_recreated_topic_are_named_and_can_be_adopted() {
    let world = World::start().await;
    world.the_table_is_emptied().await;
    world.retention_overtakes_a_stopped_sink().await;
    world.the_change_topic_is_made_anew().await;
    let World { arena, dir, .. } = world;
    Box::pin(arena.shutdown()).await.unwrap();
    drop(dir);
}

struct World {
    arena: Arena,
    bin: PathBuf,
    /// Of the arena; dropped after it has ended.
    dir: RunDir,
}

impl World {
    async fn start() -> Self {
        let test = std::env::current_exe().unwrap();
        let bin = test.parent().and_then(Path::parent).unwrap().to_owned();
        let dir = RunDir::new(&format!("refusals-{}", std::process::id()));
        let options = ArenaOptions {
            dir: dir.path().to_owned(),
            bin: bin.clone(),
            services: SERVICES.to_vec(),
            replicas: 1,
            stable_names: 1,
            env: Vec::new(),
            direct: false,
            full_compiler: false,
            longest_freeze: Duration::from_secs(10),
            patience: Patience::default(),
        };
        let arena = Box::pin(Arena::start(options)).await.unwrap();
        let world = Self { arena, bin, dir };
        world.insert_and_wait(20).await;
        world
    }

    /// Under a running sink, which has no reason to ask; what the log holds fills the table again.
    async fn the_table_is_emptied(&self) {
        let fleet = &self.arena.fleet;
        let database = &self.arena.addresses.clickhouse_database;
        let before = self.rows().await;
        let refusal = Refusal::expected(&self.arena, "clickhouse-sink");
        let sql = format!("TRUNCATE TABLE {database}.events_enriched");
        assert_eq!(self.ask(&sql).await, "");
        self.insert(20).await;
        refusal
            .is_named(&["it was emptied", "engagectl lineage adopt --table refill"])
            .await
            .unwrap();
        others_are_ready(&self.arena, "clickhouse-sink")
            .await
            .unwrap();
        assert_eq!(self.rows().await, 0, "a table that lacks rows gets no more");
        fleet.hold("clickhouse-sink").await.unwrap();
        self.adopt(&["--table", "refill"]).await;
        fleet.release("clickhouse-sink");
        refusal.repaired();
        self.insert_and_wait(20).await;
        assert_eq!(self.rows().await, before + 40);
    }

    async fn rows(&self) -> i64 {
        let database = &self.arena.addresses.clickhouse_database;
        let sql = format!("SELECT count() FROM {database}.events_enriched");
        self.ask(&sql).await.parse().unwrap()
    }

    async fn retention_overtakes_a_stopped_sink(&self) {
        let fleet = &self.arena.fleet;
        fleet.hold("clickhouse-sink").await.unwrap();
        let before = self.end_of(ENRICHED).await;
        self.insert(50).await;
        self.reaches(ENRICHED, before + 50).await;
        others_have_read(&self.arena, "clickhouse-sink")
            .await
            .unwrap();
        self.remove_all_records(ENRICHED).await;
        let refusal = Refusal::expected(&self.arena, "clickhouse-sink");
        fleet.release("clickhouse-sink");
        refusal
            .is_named(&["removed by retention", "engagectl lineage adopt"])
            .await
            .unwrap();
        others_are_ready(&self.arena, "clickhouse-sink")
            .await
            .unwrap();
        fleet.hold("clickhouse-sink").await.unwrap();
        self.adopt(&[]).await;
        fleet.release("clickhouse-sink");
        refusal.repaired();
        self.insert_and_wait(20).await;
    }

    /// And what the old one had is sent again into the new one.
    async fn the_change_topic_is_made_anew(&self) {
        let fleet = &self.arena.fleet;
        let delivered = connect::Delivered::now(&self.arena).await.unwrap();
        self.insert_and_wait(20).await;
        let written = self.end_of(ENRICHED).await;
        connect::stop(&self.arena).await.unwrap();
        delivered.restore(&self.arena).await.unwrap();
        fleet.hold("enricher").await.unwrap();
        self.make_anew(CDC).await;
        let refusal = Refusal::expected(&self.arena, "enricher");
        fleet.release("enricher");
        refusal
            .is_named(&["topic", "engagectl lineage adopt"])
            .await
            .unwrap();
        others_are_ready(&self.arena, "enricher").await.unwrap();
        fleet.hold("enricher").await.unwrap();
        self.adopt(&[]).await;
        connect::resume(&self.arena).await.unwrap();
        fleet.release("enricher");
        refusal.repaired();
        self.reaches(CDC, 20).await;
        self.insert_and_wait(20).await;
        assert_eq!(
            self.end_of(ENRICHED).await,
            written + 20,
            "sent again and counted again"
        );
    }

    /// Rows of one content, so that also partitions that get none are part of what is adopted.
    async fn insert(&self, rows: i32) -> i64 {
        let url = &self.arena.addresses.postgres_url;
        let mut postgres = PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar(
            "WITH made AS (INSERT INTO engagement_events (event_type, duration_ms, device) \
             SELECT 'play', n, 'refusals' FROM generate_series(1, $1) n RETURNING id) SELECT max(id) FROM made",
        )
        .bind(rows)
        .fetch_one(&mut postgres)
        .await
        .unwrap()
    }

    async fn insert_and_wait(&self, rows: i32) {
        let id = self.insert(rows).await;
        wait::until("a new event in ClickHouse", WITHIN, || async {
            match self.count_in_clickhouse(id).await {
                1 => Ok(()),
                found => Err(format!("{found} rows of event {id}\n{}", self.tails())),
            }
        })
        .await
        .unwrap();
    }

    async fn count_in_clickhouse(&self, id: i64) -> i64 {
        let database = &self.arena.addresses.clickhouse_database;
        let sql = format!("SELECT count() FROM {database}.events WHERE event_id = {id}");
        self.ask(&sql).await.parse().unwrap()
    }

    async fn ask(&self, sql: &str) -> String {
        let at = &self.arena.addresses;
        let answer = reqwest::Client::new()
            .post(&at.clickhouse_url)
            .header("X-ClickHouse-User", &at.clickhouse_user)
            .header("X-ClickHouse-Key", &at.clickhouse_password)
            .body(sql.to_owned())
            .send()
            .await
            .unwrap();
        answer.text().await.unwrap().trim().to_owned()
    }

    fn tails(&self) -> String {
        let fleet = &self.arena.fleet;
        let of = |id| format!("{id}: {}\n", fleet.log_tail(id, 3));
        fleet.replicas().into_iter().map(of).collect()
    }

    async fn adopt(&self, more: &[&str]) {
        wait::until("engagectl lineage adopt --execute", WITHIN, || async {
            let output = Command::new(self.bin.join("engagectl"))
                .args(["lineage", "adopt", "--execute"])
                .args(more)
                .env("KAFKA_BOOTSTRAP_SERVERS", &self.arena.addresses.kafka)
                .env("REDIS_URL", &self.arena.addresses.redis_url)
                .output()
                .unwrap();
            // A member that was stopped stays one until its session ends; until then the groups are not touched.
            match output.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
        })
        .await
        .unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.arena.addresses.kafka);
        config.create().unwrap()
    }

    async fn remove_all_records(&self, topic: &str) {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, rdkafka::Offset::End)
                .unwrap();
        }
        let removed = self
            .admin()
            .delete_records(&list, &AdminOptions::new())
            .await;
        removed.unwrap();
    }

    async fn make_anew(&self, topic: &str) {
        let (admin, options) = (self.admin(), AdminOptions::new());
        admin.delete_topics(&[topic], &options).await.unwrap();
        wait::until("the topic is created again", WITHIN, || async {
            let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
            let created = admin.create_topics(&[topic], &options).await;
            let results = created.map_err(|error| error.to_string())?;
            match results.into_iter().next() {
                Some(Err((_, code))) => Err(code.to_string()),
                _ => Ok(()),
            }
        })
        .await
        .unwrap();
    }

    async fn reaches(&self, topic: &str, end: i64) {
        wait::until(&format!("offset {end} in {topic}"), WITHIN, || async {
            match self.end_of(topic).await {
                found if found >= end => Ok(()),
                found => Err(found),
            }
        })
        .await
        .unwrap();
    }

    async fn end_of(&self, topic: &str) -> i64 {
        let (kafka, topic) = (self.arena.addresses.kafka.clone(), topic.to_owned());
        let asked = move || faults::kafka::end_of(&kafka, &topic);
        tokio::task::spawn_blocking(asked).await.unwrap().unwrap()
    }
}
