//! A time that ClickHouse has lost comes back from Postgres: killed, interrupted, its database gone, resumed, run twice, under a
//! live stream.
//!
//! It does not wait for the live stream (`--behind`), so that a busy machine makes it slow, not endless.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use e2e::World;
use engagectl::generator::{Mix, Options, Progress};
use engagement::wire::{self, Format};
use platform::Schema;
use serde_json::Value;
use stream::KafkaSettings;
use stream::backfill::Ticket;
use stream::scan::{Scanner, Span};
use tokio_util::sync::CancellationToken;

use crate::endings::ended_early;
use crate::refusals::is_refused_where_it_cannot_be;

/// Rows of the time that is lost.
pub(crate) const PAST: i64 = 20_000;
const CONTENTS: i64 = 40;

pub(crate) fn engagectl(world: &World) -> Command {
    let test = std::env::current_exe().unwrap();
    let bin: PathBuf = test.parent().unwrap().parent().unwrap().join("engagectl");
    let addresses = world.addresses();
    let mut command = Command::new(bin);
    command
        .stdin(Stdio::null())
        .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
        .env("DATABASE_URL", &addresses.postgres_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
        .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database);
    command
}

pub(crate) async fn ran(mut command: Command) -> (i32, String) {
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

/// Every run, as `--list` says. A broker that stood still a moment ago may not answer at once.
pub(crate) async fn runs(world: &World) -> Vec<Value> {
    let look = || async {
        let mut command = engagectl(world);
        command.args(["-o", "json", "backfill", "--list"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(serde_json::from_slice(&output.stdout).unwrap())
    };
    world.eventually("the runs are listed", look).await
}

/// Rows of two days ago, and one of now for each of their contents, which tells the table from an emptied one.
async fn write_past(world: &World) {
    let statements = [
        format!(
            "INSERT INTO content SELECT md5('past' || n)::uuid, 'past-' || n, 'Past ' || n, 'video', 600, now() \
             FROM generate_series(1, {CONTENTS}) n"
        ),
        format!(
            "INSERT INTO engagement_events (content_id, event_type, event_ts, duration_ms, device) \
             SELECT md5('past' || (n % {CONTENTS} + 1))::uuid, 'play', now() - interval '2 days' + n * interval '100 ms', n, 'past' \
             FROM generate_series(1, {PAST}) n"
        ),
        format!(
            "INSERT INTO engagement_events (content_id, event_type, duration_ms, device) \
             SELECT md5('past' || n)::uuid, 'play', n, 'present' FROM generate_series(1, {CONTENTS}) n"
        ),
    ];
    for statement in statements {
        world.sql(&statement, &[]).await;
    }
}

/// What an accident in ClickHouse takes away.
async fn lose_past(world: &World) {
    let server = world.stack().clickhouse();
    let sql = format!(
        "DELETE FROM {}.events_enriched WHERE device = 'past'",
        world.addresses().clickhouse_database
    );
    let request = reqwest::Client::new()
        .post(&server.url)
        .header("X-ClickHouse-User", &server.admin_user)
        .header("X-ClickHouse-Key", &server.admin_password);
    let answer = request.body(sql).send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{}",
        answer.text().await.unwrap()
    );
    assert_eq!(rows(world, "past").await, 0);
}

/// Rows of the table itself, so that one that is there twice is seen.
async fn rows(world: &World, device: &str) -> i64 {
    let table = format!("{}.events_enriched", world.addresses().clickhouse_database);
    let sql = format!("SELECT count() FROM {table} WHERE device = '{device}'");
    world.clickhouse(&sql).await.trim().parse().unwrap()
}

/// How often each event stands in the lane topic, for one run.
async fn written(world: &World, run: i64) -> BTreeMap<String, usize> {
    let settings = settings(world);
    let read = move || {
        let scanner = Scanner::open(&settings, "engage-test", LANE).unwrap();
        let (spans, mut found) = (scanner.spans().unwrap(), BTreeMap::new());
        scanner
            .read(&spans, |record| {
                let ticket = Ticket::of(&record).expect("every record has its ticket");
                let event = wire::decode(&record.payload.unwrap(), Format::Protobuf).unwrap();
                if ticket.run == run {
                    *found.entry(event.event_id).or_default() += 1;
                }
            })
            .unwrap();
        found
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_backfill_ended_six_times_resumed_run_again_and_read_from_the_earliest_under_a_live_stream_leaves_every_sink_exact()
 {
    let world = World::start(Schema::Uuid).await;
    write_past(&world).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(240))
        .await;
    assert_eq!(rows(&world, "past").await, PAST);
    lose_past(&world).await;
    is_refused_where_it_cannot_be(&world).await;

    let (stop, progress) = (CancellationToken::new(), Progress::default());
    let stream = tokio::spawn(generate(
        world.addresses().postgres_url.clone(),
        progress.clone(),
        stop.clone(),
    ));
    world.wait_for_rows(&progress, 200).await;
    let run = ended_early(&world).await;
    let said = backfill(&world, &["--resume", &run.to_string()]).await;
    assert_eq!(rows(&world, "past").await, PAST, "{said}");
    was_written_once(&world, run).await;

    // the same again, up to now: rows that have arrived live meanwhile too
    backfill(&world, &["--start", "-3d"]).await;
    stop.cancel();
    stream.await.unwrap();
    is_exact(&world).await;

    // what a backfill brought and what came live, read again from the beginning
    world.terminate("clickhouse-sink");
    read_again(&world, "clickhouse-sink").await;
    world.restart("clickhouse-sink");
    for topic in [LIVE, LANE] {
        has_read_all_of(&world, topic, "clickhouse-sink").await;
    }
    is_exact(&world).await;
    assert!(progress.inserted() > 200);
}

/// To its end. 75: late rows of the live stream are still on their way; when that has ended everything must be equal.
async fn backfill(world: &World, words: &[&str]) -> String {
    let mut command = engagectl(world);
    command
        .args(["backfill", "--yes", "--behind", "5m"])
        .args(words);
    let (code, said) = ran(command).await;
    let logs = || world.service_logs();
    assert!([0, 75].contains(&code), "{code}: {said}\n{}", logs());
    said
}

async fn was_written_once(world: &World, run: i64) {
    let events = written(world, run).await;
    assert!(events.len() as i64 >= PAST, "{} events", events.len());
    let twice: Vec<_> = events.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}");
}

async fn is_exact(world: &World) {
    world
        .every_sink_equals_postgres(Duration::from_secs(300))
        .await;
    assert_eq!(rows(world, "past").await, PAST);
    no_event_is_there_twice(world).await;
}

/// Sends a group that has ended back to the beginning of everything it reads.
pub(crate) async fn read_again(world: &World, group: &str) {
    let mut command = engagectl(world);
    command.args(["reset", "--group", group, "--to-earliest", "--execute"]);
    let (code, said) = ran(command).await;
    assert_eq!(code, 0, "{said}");
}

pub(crate) const LIVE: &str = "engagement.enriched.v1";
const LANE: &str = "engagement.backfill.v1";

/// Waits until the commits of a group have reached the end of a topic.
pub(crate) async fn has_read_all_of(world: &World, topic: &'static str, group: &'static str) {
    let look = || async {
        let settings = settings(world);
        let ask = move || {
            let scanner = Scanner::open(&settings, group, topic).unwrap();
            let spans = scanner.spans().unwrap();
            let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
            let committed = scanner.committed(&partitions).unwrap();
            let is_read =
                |span: &Span| span.to == 0 || committed.get(&span.partition) == Some(&span.to);
            spans.iter().all(is_read)
        };
        let is_read = tokio::task::spawn_blocking(ask).await.unwrap();
        is_read.then_some(())
    };
    world
        .eventually("the group has read everything", look)
        .await;
}

fn settings(world: &World) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: world.addresses().kafka.clone(),
        ..KafkaSettings::default()
    }
}

async fn no_event_is_there_twice(world: &World) {
    let table = format!("{}.events_enriched", world.addresses().clickhouse_database);
    let twice = format!("SELECT count() - uniqExact(event_id) FROM {table}");
    assert_eq!(world.clickhouse(&twice).await.trim(), "0");
}

/// The live stream; it goes on after Postgres was away.
async fn generate(url: String, progress: Progress, stop: CancellationToken) {
    let options = Options {
        rate: "50/s".parse().unwrap(),
        burst: 0,
        duration: None,
        seed: 23,
        mix: Mix::default(),
        contents: 50,
        schema: Schema::Uuid,
        ..Options::default()
    };
    while !stop.is_cancelled() {
        let (progress, stop) = (progress.clone(), stop.clone());
        let written = engagectl::generator::run(url.clone(), options, progress, stop);
        if written.await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
