//! `engagectl erase` against real stores, which no service reads or writes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use devstack::{Needs, Shared, Stack};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stream::producer::ProducerOptions;
use stream::scan::Scanner;
use stream::{KafkaSettings, OutRecord, Producer, Record};

use crate::support::{texts, tool};
use crate::terminal::Terminal;

const LETTERS: &str = "engagement.dlq.enricher";
const ERASURES: &str = "engagement.erasures.v1";

/// An Ed25519 key as openssl writes it; it protects nothing.
fn key() -> String {
    const BEFORE: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let label = "PRIVATE KEY";
    let body = STANDARD.encode([&BEFORE[..], &[7; 32]].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

struct World {
    stack: Stack,
    dir: tempfile::TempDir,
}

impl World {
    async fn shared() -> &'static Self {
        static SHARED: Shared<World> = Shared::new();
        SHARED.get(Self::start).await
    }

    async fn start() -> Self {
        let needs = Needs::none().postgres().kafka().redis().clickhouse();
        let stack = Stack::builder()
            .needs(needs)
            .private()
            .start()
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key.pem"), key()).unwrap();
        let world = Self { stack, dir };
        let init = [
            "init",
            "--yes",
            "--skip",
            "connect",
            "--set",
            "topics.partitions=4",
        ];
        let made = world.tool(&init).output().unwrap();
        assert!(made.status.success(), "{}", texts(&made).1);
        let derived = "CREATE TABLE engagement.per_user (user_id String, events UInt64) ENGINE = MergeTree ORDER BY user_id";
        world.clickhouse(derived).await;
        world
    }

    fn tool(&self, words: &[&str]) -> Command {
        let mut command = tool();
        command
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.stack.kafka().bootstrap)
            .env("DATABASE_URL", &self.stack.postgres().admin_url)
            .env("ENGAGE_CDC_PASSWORD", "cdc")
            .env("CLICKHOUSE_URL", &self.stack.clickhouse().url)
            .env("CLICKHOUSE_USER", &self.stack.clickhouse().user)
            .env("CLICKHOUSE_PASSWORD", &self.stack.clickhouse().password)
            .env("REDIS_URL", &self.stack.redis().url)
            .env("ERASE_KEY_FILE", self.dir.path().join("key.pem"))
            .args(words);
        command
    }

    /// What it prints with `-o json`, when it ends well.
    fn json(&self, words: &[&str]) -> Value {
        let output = self.tool(words).args(["-o", "json"]).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{words:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.tool(words).output().unwrap();
        assert!(!output.status.success(), "{words:?} ended well");
        (output.status.code().unwrap(), texts(&output).1)
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    async fn clickhouse(&self, sql: &str) -> String {
        let clickhouse = self.stack.clickhouse();
        let answer = reqwest::Client::new()
            .post(&clickhouse.url)
            .header("X-ClickHouse-User", &clickhouse.admin_user)
            .header("X-ClickHouse-Key", &clickhouse.admin_password)
            .body(sql.to_owned())
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{sql}: {text}");
        text.trim().to_owned()
    }

    async fn postgres(&self, sql: &str) -> Vec<String> {
        let url = &self.stack.postgres().admin_url;
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    async fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.stack.redis().url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap()
    }

    fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.stack.kafka().bootstrap.clone(),
            ..KafkaSettings::default()
        }
    }

    /// A dead letter of the enricher that holds this user.
    async fn letter(&self, user: &str) {
        let producer = Producer::new(&self.kafka(), ProducerOptions::default()).unwrap();
        let payload = format!("{{\"op\":\"c\",\"after\":{{\"id\":7,\"user_id\":\"{user}\"}}}}");
        let record = OutRecord {
            topic: Arc::from(LETTERS),
            partition: Some(2),
            key: None,
            payload: Some(Bytes::from(payload)),
            headers: Vec::new(),
            timestamp_ms: None,
        };
        producer.send_acked(&record).await.unwrap();
    }

    /// What a topic holds.
    async fn records(&self, topic: &'static str) -> Vec<Record> {
        let settings = self.kafka();
        let read = move || {
            let scanner = Scanner::open(&settings, "reader", topic).unwrap();
            let mut records = Vec::new();
            let spans = scanner.spans().unwrap();
            scanner.read(&spans, |record| records.push(record)).unwrap();
            records
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// What the topic of erasures says of a user.
    async fn announced(&self, user: &str) -> Vec<Value> {
        let records = self.records(ERASURES).await;
        let own = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(user.as_bytes()));
        own.map(|record| serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap())
            .collect()
    }

    /// Rows, keys and entries of a user, beside those of a neighbour; the number of the first row.
    async fn fill(&self, user: &str, neighbour: &str) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(100);
        let first = NEXT.fetch_add(3, Ordering::Relaxed);
        for (n, who) in (first..).zip([user, user, neighbour]) {
            let insert = format!(
                "INSERT INTO engagement_events (user_id, event_type, duration_ms, device) VALUES ('{who}', 'play', {n}, 'a phone') RETURNING 'x'"
            );
            self.postgres(&insert).await;
            let insert = format!(
                "INSERT INTO engagement.events_enriched (event_id, event_ts, src_row, src_offset, user_id, device, raw_payload, event_type) \
                 VALUES ({n}, now64(6), 1, {n}, '{who}', 'a phone', '{{}}', 'play')"
            );
            self.clickhouse(&insert).await;
            let derived = format!("INSERT INTO engagement.per_user VALUES ('{who}', 1)");
            self.clickhouse(&derived).await;
            let event = format!("{{\"event_id\":{n},\"user_id\":\"{who}\"}}");
            let stream = format!("recent_events:{user}");
            let _: String = self.redis(&["XADD", &stream, "*", "event", &event]).await;
            let last = format!("content:last:{who}");
            let _: String = self.redis(&["SET", &last, &event]).await;
            let users = format!("content_users:{who}");
            let _: i64 = self.redis(&["PFADD", &users, who]).await;
            let engagement = format!("user_engagement:{who}:c");
            let _: i64 = self.redis(&["HSET", &engagement, "n", "1"]).await;
        }
        first
    }

    /// How often a user is in each store: rows in Postgres, rows in ClickHouse (both tables), keys and entries in Redis.
    async fn held(&self, user: &str, stream_of: &str) -> [u64; 4] {
        let sql = format!("SELECT count(*)::text FROM engagement_events WHERE user_id = '{user}'");
        let rows = self.postgres(&sql).await[0].parse().unwrap();
        let mut analytics = Vec::new();
        for table in ["events_enriched", "per_user"] {
            let sql = format!("SELECT count() FROM engagement.{table} WHERE user_id = '{user}'");
            analytics.push(self.clickhouse(&sql).await.parse().unwrap());
        }
        let (last, users, engagement) = (
            format!("content:last:{user}"),
            format!("content_users:{user}"),
            format!("user_engagement:{user}:c"),
        );
        let keys: u64 = self.redis(&["EXISTS", &last, &users, &engagement]).await;
        let stream = format!("recent_events:{stream_of}");
        let entries: redis::Value = self.redis(&["XRANGE", &stream, "-", "+"]).await;
        let entries = format!("{entries:?}").matches(user).count() as u64;
        [rows, analytics[0], analytics[1], keys + entries]
    }
}

fn user() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn found(receipt: &Value, place: &str) -> (u64, u64) {
    let stores = receipt["stores"].as_array().unwrap();
    let store = stores.iter().find(|store| store["place"] == place);
    let store = store.unwrap_or_else(|| panic!("no {place} in {receipt:#}"));
    (
        store["found"].as_u64().unwrap(),
        store["left"].as_u64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_gone_from_every_store_and_a_signed_receipt_says_so_and_the_neighbour_stays() {
    let world = World::shared().await;
    let (user, neighbour) = (user(), user());
    let first = world.fill(&user, &neighbour).await;
    world.letter(&user).await;
    let erase = ["erase", "--user", &user.to_uppercase()];

    let plan = world.json(&erase);
    assert_eq!(plan["executed"], false);
    assert_eq!(plan["dead_letters"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.held(&user, &user).await,
        [2, 2, 2, 5],
        "a plan erases nothing"
    );
    assert!(world.announced(&user).await.is_empty());
    let (code, error) = world.refused(&[&erase[..], &["--execute"]].concat());
    assert!(code == 64 && error.contains("--postgres null"), "{error}");

    let file = world.file("receipt.json");
    let execute = ["--postgres", "null", "--execute", "--receipt", &file];
    let output = world
        .tool(&[&erase[..], &execute].concat())
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    assert!(
        out.contains("engagement_events                         2 found, 0 left"),
        "{out}"
    );
    assert!(
        out.contains("engagectl dlq purge --service enricher --to-offset 2:"),
        "{out}"
    );
    assert_eq!(world.held(&user, &user).await, [0, 0, 0, 0]);
    assert_eq!(world.held(&neighbour, &user).await, [1, 1, 1, 4]);
    let blank = "user_id IS NULL AND device IS NULL AND raw_payload IS NULL";
    let last = first + 2;
    let rows = format!(
        "SELECT count(*)::text FROM engagement_events WHERE {blank} AND duration_ms BETWEEN {first} AND {last}"
    );
    assert_eq!(world.postgres(&rows).await, ["2"]);
    let blanked = format!(
        "SELECT count() FROM engagement.events_enriched WHERE {blank} AND event_id BETWEEN {first} AND {last}"
    );
    assert_eq!(
        world.clickhouse(&blanked).await,
        "2",
        "blanked, not deleted"
    );

    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(&user), "a receipt names nobody");
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let said = &receipt["receipt"];
    assert_eq!(said["complete"], true);
    assert_eq!(found(said, "engagement.events_enriched"), (2, 0));
    assert_eq!(found(said, "engagement.per_user"), (2, 0));
    assert_eq!(found(said, "recent_events:{id}"), (2, 0));
    assert_eq!(said["dead_letters"].as_array().unwrap().len(), 1);

    let announced = world.announced(&user).await;
    let kinds: Vec<&str> = announced
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["begun", "erased"]);
    assert_eq!(announced[1]["below"].as_object().unwrap().len(), 4);
    assert_eq!(announced[1]["receipt"], receipt);
    assert!(
        world.records("engagement.enriched.v1").await.is_empty(),
        "the chain is not touched"
    );

    // no server's own tables name the person either
    let _ = world.clickhouse("SYSTEM FLUSH LOGS").await;
    let named = format!(
        "SELECT count() FROM system.mutations WHERE command LIKE '%{user}%' UNION ALL \
         SELECT count() FROM system.query_log WHERE query LIKE '%{user}%' AND query LIKE 'ALTER%'"
    );
    assert_eq!(world.clickhouse(&named).await.replace('\n', " "), "0 0");

    let again = world.json(&[&erase[..], &["--execute"]].concat());
    assert_eq!(
        found(&again["receipt"], "engagement.events_enriched"),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_verified_and_one_that_was_changed_or_is_about_another_user_is_not() {
    let world = World::shared().await;
    let user = user();
    let file = world.file("unknown.json");
    let erase = ["erase", "--user", &user, "--execute", "--receipt", &file];
    let receipt = world.json(&erase);
    assert_eq!(receipt["receipt"]["complete"], true);
    let (code, error) = world.refused(&erase);
    assert!(code == 64 && error.contains("there already"), "{error}");

    let verify = ["erase", "--verify", &file];
    assert_eq!(
        world.json(&[&verify[..], &["--user", &user]].concat()),
        receipt["receipt"]
    );
    let other = ["--user", "11111111-1111-1111-1111-111111111111"];
    assert_eq!(world.refused(&[&verify[..], &other].concat()).0, 78);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"left\": 0", "\"left\": 1", 1)).unwrap();
    let (code, error) = world.refused(&verify);
    assert!(
        code == 78 && error.contains("not what was signed"),
        "{error}"
    );

    // whoever has the public key alone can check, too
    let public = world.file("public.pem");
    let made = Command::new("openssl")
        .args([
            "pkey",
            "-pubout",
            "-in",
            &world.file("key.pem"),
            "-out",
            &public,
        ])
        .status();
    if made.is_ok_and(|status| status.success()) {
        std::fs::write(&file, text).unwrap();
        let mut alone = tool();
        alone.args(["erase", "--verify", &file, "--public-key", &public]);
        let output = alone.output().unwrap();
        assert!(output.status.success(), "{}", texts(&output).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_anywhere_goes_on_and_its_receipt_says_what_there_was() {
    let world = World::shared().await;
    for (reached, postgres) in [
        ("run ", "null"),
        ("postgres:", "delete"),
        ("services:", "null"),
        ("clickhouse:", "delete"),
        ("redis:", "null"),
    ] {
        let (user, neighbour) = (user(), user());
        world.fill(&user, &neighbour).await;
        let words = [
            "erase",
            "--user",
            &user,
            "--postgres",
            postgres,
            "--execute",
        ];
        kill_at(world.tool(&words), reached);
        // on a busy machine the last of them comes too late
        let through = world.announced(&user).await;
        let through = through.into_iter().find(|entry| entry["kind"] == "erased");

        let receipt = world.json(&words);
        let receipt = through.map_or(receipt, |mut erased| erased["receipt"].take());
        let said = &receipt["receipt"];
        assert_eq!(world.held(&user, &user).await, [0, 0, 0, 0], "{reached}");
        assert_eq!(
            world.held(&neighbour, &user).await,
            [1, 1, 1, 4],
            "{reached}"
        );
        assert_eq!(
            found(said, "engagement_events"),
            (2, 0),
            "{reached}: {said:#}"
        );
        assert_eq!(
            found(said, "engagement.events_enriched"),
            (2, 0),
            "{reached}"
        );
        assert_eq!(found(said, "recent_events:{id}"), (2, 0), "{reached}");
        let announced = world.announced(&user).await;
        assert_eq!(announced.last().unwrap()["kind"], "erased", "{reached}");
        let left = world.json(&words);
        assert_eq!(
            found(&left["receipt"], "engagement_events"),
            (0, 0),
            "{reached}"
        );
    }
}

/// SIGKILL as soon as a line begins like this.
fn kill_at(mut command: Command, reached: &str) {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = lines.map_while(Result::ok);
    assert!(seen.any(|line| line.starts_with(reached)), "{reached}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let world = World::shared().await;
    let (code, error) = world.refused(&["erase", "--user", "somebody"]);
    assert!(code == 64 && error.contains("no uuid"), "{error}");
    let user = user();
    let words = ["erase", "--user", &user, "--execute"];
    let mut without = world.tool(&words);
    let without = without.env_remove("ERASE_KEY_FILE").output().unwrap();
    assert_eq!(without.status.code(), Some(64));
    assert!(texts(&without).1.contains("openssl genpkey"));
    assert!(world.announced(&user).await.is_empty());
    let nowhere = ["--set", "topics.erasures=nowhere"];
    let (code, error) = world.refused(&[&words[..], &nowhere].concat());
    assert!(code == 78 && error.contains("engagectl init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_says_the_same() {
    let world = World::shared().await;
    let user = user();
    let mut terminal = Terminal::start(&mut world.tool(&["erase", "--user", &user]));
    terminal.until("nothing is found of this user");
    assert!(terminal.ended().success(), "{}", terminal.seen);
}
