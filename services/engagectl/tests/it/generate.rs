//! `engagectl gen` against a real Postgres.

use std::process::{Command, Output};

use devstack::Needs;
use platform::Schema;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{texts, tool, unique};

/// A database with the tables of one schema, for one run.
struct Database {
    url: String,
    schema: Schema,
}

impl Database {
    async fn new(schema: Schema) -> Self {
        let stack = devstack::shared_for_tests(Needs::none().postgres());
        let admin = &stack.postgres().admin_url;
        let name = unique("gen").replace('-', "_");
        let create = format!("CREATE DATABASE {name}");
        let mut connection = PgConnection::connect(admin).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .unwrap();
        let mut url = url::Url::parse(admin).unwrap();
        url.set_path(&name);
        let database = Self {
            url: url.to_string(),
            schema,
        };
        database.sql(schema.ddl()).await;
        database
    }

    async fn sql(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    async fn count(&self, condition: &str) -> u64 {
        let sql = format!("SELECT count(*)::text FROM engagement_events WHERE {condition}");
        self.texts(&sql).await[0].parse().unwrap()
    }

    /// Every row of both tables, but for the time at which contents were published.
    async fn rows(&self) -> Vec<String> {
        let (event, content) = (self.schema.event_key(), self.schema.content_key());
        let mut rows = self
            .texts(&format!(
                "SELECT e::text FROM engagement_events e ORDER BY {event}"
            ))
            .await;
        let contents = format!(
            "SELECT ({content}, slug, title, content_type, length_seconds)::text FROM content ORDER BY slug"
        );
        rows.extend(self.texts(&contents).await);
        rows
    }

    fn generate(&self, words: &[&str]) -> Command {
        let mut command = tool();
        command
            .env("DATABASE_URL", &self.url)
            .arg("gen")
            .args(words);
        if !words.contains(&"--duration") {
            command.args(["--duration", "1s"]);
        }
        if self.schema == Schema::Bigint {
            command.args(["--set", "database.schema=bigint"]);
        }
        command
    }
}

fn report(output: &Output) -> Value {
    let (out, err) = texts(output);
    assert!(output.status.success(), "{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

const EVERYTHING: [&str; 18] = [
    "-o",
    "json",
    "--start-at",
    "2026-01-08T09:00:00Z",
    "--contents",
    "40",
    "--burst",
    "1500",
    "--update-ratio",
    "0.1",
    "--delete-ratio",
    "0.05",
    "--poison-ratio",
    "0.01",
    "--content-churn",
    "0.01",
    "--disorder-ratio",
    "0.1",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_and_options_leave_the_same_rows_and_another_seed_others() {
    let mut dumps = Vec::new();
    for (schema, seed) in [
        (Schema::Uuid, "5"),
        (Schema::Uuid, "5"),
        (Schema::Uuid, "6"),
    ] {
        let database = Database::new(schema).await;
        let words = [&EVERYTHING[..], &["--rate", "1000/s", "--seed", seed]].concat();
        let report = report(&database.generate(&words).output().unwrap());
        assert_eq!(report["rows"], 2500);
        dumps.push(database.rows().await);
    }
    assert!(dumps[0] == dumps[1], "the same seed");
    assert!(dumps[0] != dumps[2], "another seed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_is_what_the_tables_hold() {
    for schema in [Schema::Uuid, Schema::Bigint] {
        let database = Database::new(schema).await;
        let words = [&EVERYTHING[..], &["--rate", "500/s"]].concat();
        let report = report(&database.generate(&words).output().unwrap());
        let number = |name: &str| report[name].as_u64().unwrap();
        assert_eq!(number("rows"), 2000);
        assert_eq!(report["burst"]["rows"], 1500);
        let (deleted, poison) = (number("deleted"), number("poison"));
        assert!((60..150).contains(&deleted), "{report}");
        assert!((5..50).contains(&poison), "{report}");
        assert!((120..280).contains(&number("updated")), "{report}");
        assert_eq!(database.count("true").await, 2000 - deleted);
        let absurd = "event_ts < '1970-01-01' OR event_ts >= '2300-01-01'";
        assert_eq!(database.count(absurd).await, poison);
        let contents = database.texts("SELECT count(*)::text FROM content").await;
        assert!(contents[0].parse::<u64>().unwrap() > 40, "{contents:?}");
        let editions = "SELECT count(*)::text FROM content WHERE title LIKE '%edition%'";
        assert_ne!(database.texts(editions).await[0], "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_saying_which_rate_it_reached_and_why_not_the_one_wanted() {
    let database = Database::new(Schema::Uuid).await;
    let reached = database.generate(&["--rate", "300/s"]).output().unwrap();
    let (out, err) = texts(&reached);
    assert!(reached.status.success(), "{err}");
    assert!(out.contains("wanted     300.0 rows/s"), "{out}");
    assert!(out.contains("300 rows in"), "{out}");

    let far_too_fast = [
        "--rate",
        "5000000/s",
        "--duration",
        "10ms",
        "--burst",
        "10",
        "-o",
        "json",
    ];
    let behind = report(&database.generate(&far_too_fast).output().unwrap());
    assert_eq!(behind["rows"], 50_010);
    assert!(behind["achieved_per_second"].as_f64().unwrap() < 5_000_000.0);
    assert!(behind["behind"].is_string(), "{behind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_after_another_one_uses_its_contents_again() {
    let database = Database::new(Schema::Uuid).await;
    for _ in 0..2 {
        let words = [
            "--rate",
            "100/s",
            "--contents",
            "30",
            "--content-churn",
            "0.1",
        ];
        let output = database.generate(&words).output().unwrap();
        assert!(output.status.success(), "{}", texts(&output).1);
    }
    let first = "SELECT count(*)::text FROM content WHERE slug ~ '-00[0-2][0-9]$'";
    assert_eq!(database.texts(first).await, ["30"]);
}
