//! A time that ClickHouse has lost comes back from Postgres: killed, interrupted, its database gone, resumed, run twice, under a
//! live stream.
//!
//! It does not wait for the live stream (`--behind`), so that a busy machine makes it slow, not endless.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use e2e::World;
use engagectl::generator::{Mix, Options, Progress};
use engagement::wire::{self, Format};
use platform::Schema;
use serde_json::Value;
use stream::KafkaSettings;
use stream::backfill::Ticket;
use stream::scan::Scanner;
use tokio_util::sync::CancellationToken;

/// Rows of the time that is lost.
const PAST: i64 = 20_000;
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

/// Every run, as `--list` says.
pub(crate) async fn runs(world: &World) -> Vec<Value> {
    let mut command = engagectl(world);
    command.args(["-o", "json", "backfill", "--list"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    serde_json::from_slice(&output.await.unwrap().stdout).unwrap()
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
        let scanner = Scanner::open(&settings, "engage-test", "engagement.backfill.v1").unwrap();
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
    let mut command = engagectl(&world);
    command.args([
        "backfill",
        "--yes",
        "--behind",
        "5m",
        "--resume",
        &run.to_string(),
    ]);
    let (code, said) = ran(command).await;
    // 75: late rows of the live stream are still on their way; at the end everything must be equal
    assert!(
        [0, 75].contains(&code),
        "{code}: {said}\n{}",
        world.service_logs()
    );
    assert_eq!(rows(&world, "past").await, PAST, "{said}");

    let events = written(&world, run).await;
    let past = usize::try_from(PAST).unwrap();
    assert!(events.len() >= past, "{} events: {said}", events.len());
    let twice: Vec<_> = events.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}\n{said}");

    // the same again, up to now: rows that have arrived live meanwhile too
    let mut command = engagectl(&world);
    command.args(["backfill", "--yes", "--behind", "5m", "--start", "-3d"]);
    let (code, said) = ran(command).await;
    assert!([0, 75].contains(&code), "{code}: {said}");
    stop.cancel();
    stream.await.unwrap();
    world
        .every_sink_equals_postgres(Duration::from_secs(300))
        .await;
    assert_eq!(rows(&world, "past").await, PAST);
    no_event_is_there_twice(&world).await;

    // what a backfill brought and what came live, read again from the beginning
    world.terminate("clickhouse-sink");
    let mut command = engagectl(&world);
    command.args([
        "reset",
        "--group",
        "clickhouse-sink",
        "--to-earliest",
        "--execute",
    ]);
    let (code, said) = ran(command).await;
    assert_eq!(code, 0, "{said}");
    world.restart("clickhouse-sink");
    let what = "the sink has read everything again";
    world.eventually(what, || has_read_everything(&world)).await;
    world
        .every_sink_equals_postgres(Duration::from_secs(300))
        .await;
    no_event_is_there_twice(&world).await;
    assert!(progress.inserted() > 200);
}

/// Whether the commits of clickhouse-sink have reached the ends of the live topic.
async fn has_read_everything(world: &World) -> Option<()> {
    let settings = settings(world);
    let ask = move || {
        let scanner =
            Scanner::open(&settings, "clickhouse-sink", "engagement.enriched.v1").unwrap();
        let spans = scanner.spans().unwrap();
        let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
        let committed = scanner.committed(&partitions).unwrap();
        spans
            .iter()
            .all(|span| span.to == 0 || committed.get(&span.partition) == Some(&span.to))
    };
    tokio::task::spawn_blocking(ask)
        .await
        .unwrap()
        .then_some(())
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

/// How a run ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Killed,
    Interrupted,
    InterruptedTwice,
    PostgresGone,
}

/// By its rate, the next page has been sent after this.
const PAGE: Duration = Duration::from_millis(1500);
/// From one Ctrl-C to the next.
const BETWEEN: Duration = Duration::from_millis(500);

const ENDINGS: [Ending; 6] = [
    Ending::Killed,
    Ending::Interrupted,
    Ending::Killed,
    Ending::InterruptedTwice,
    Ending::Killed,
    // last: what was read before may be all that is left to write, so that it is missed by the comparison only
    Ending::PostgresGone,
];

/// Begins a run over everything, ends it in the middle in each of these ways, and says which it is.
async fn ended_early(world: &World) -> i64 {
    let (mut run, mut seen) = (None, 0);
    for ending in ENDINGS {
        let mut command = engagectl(world);
        command.args(["backfill", "--yes", "--rate", "2000/s", "--behind", "5m"]);
        match run {
            None => command.args(["--start", "-3d"]),
            Some(run) => command.arg("--resume").arg(i64::to_string(&run)),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap();
        let (id, rows) = world
            .eventually("more rows of the run", || async {
                let runs = runs(world).await;
                let newest = runs.last()?;
                let rows = newest["rows"].as_i64()?;
                (rows > seen).then_some((newest["run"].as_i64()?, rows))
            })
            .await;
        end(world, child, ending, id).await;
        assert!(rows < PAST, "{rows} rows before it was {ending:?}");
        (run, seen) = (Some(id), rows);
    }
    run.unwrap()
}

async fn end(world: &World, mut child: Child, ending: Ending, run: i64) {
    let interrupt = |child: &Child| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    };
    match ending {
        Ending::Killed => child.kill().unwrap(),
        Ending::Interrupted => interrupt(&child),
        Ending::InterruptedTwice => {
            // the next page is not acknowledged, so that it cannot end behind it
            world.stack().kafka().pause().unwrap();
            tokio::time::sleep(PAGE).await;
            interrupt(&child);
            tokio::time::sleep(BETWEEN).await;
            assert_eq!(child.try_wait().unwrap(), None, "it waits for the broker");
            interrupt(&child);
        }
        Ending::PostgresGone => world.stack().postgres().kill9().await.unwrap(),
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    if ending == Ending::PostgresGone {
        world.stack().postgres().start().await.unwrap();
    }
    world.stack().kafka().resume().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (code, next) = (
        output.status.code(),
        format!("engagectl backfill --resume {run}"),
    );
    match ending {
        Ending::Killed => assert_eq!(code, None, "{said}"),
        Ending::Interrupted => assert_eq!(code, Some(75), "{said}"),
        Ending::InterruptedTwice => {
            assert_eq!(code, Some(75), "{said}");
            assert!(said.contains("interrupted twice: ended at once"), "{said}");
        }
        Ending::PostgresGone => {
            assert_eq!(code, Some(69), "{said}");
            assert!(said.contains("Postgres"), "{said}");
        }
    }
    if ending != Ending::Killed {
        assert!(said.contains(&next), "{ending:?}: {said}");
    }
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

/// What cannot be is refused in words, before anything is written.
async fn is_refused_where_it_cannot_be(world: &World) {
    for (words, code, said) in [
        (&["--start", "now", "--end", "-2h"][..], 64, "future"),
        (&["--start", "-2h", "--end", "-3h"], 64, "reversed"),
        (&["--start", "today", "--end", "today"], 64, "empty"),
        (&["--start", "soon"], 64, "2026-01-08T09:00:00"),
        (&["--resume", "1"], 64, "there is no run 1"),
        (
            &["--start", "-2h", "--sinks", "redis"],
            64,
            "clickhouse, webhook",
        ),
        (&["--start", "-2h"], 64, "--yes"),
    ] {
        let mut command = engagectl(world);
        command.arg("backfill").args(words);
        let (found, text) = ran(command).await;
        assert_eq!(found, code, "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
    }
    let mut command = engagectl(world);
    command.args(["-o", "json", "backfill", "--start", "-2h", "--dry-run"]);
    let (code, text) = ran(command).await;
    assert_eq!(code, 0, "{text}");
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["sinks"], serde_json::json!(["clickhouse"]));
    let run = plan["run"].as_i64().unwrap();
    let listed = runs(world).await;
    assert!(
        listed.iter().all(|one| one["run"].as_i64() != Some(run)),
        "{listed:?}"
    );
}
