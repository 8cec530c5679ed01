//! Backfills that go to a webhook: made twice, killed half-way and resumed, each is compared apart; a delivery that is taken out
//! of what the receiver has is missing by name, and one that is put in is a repeat or surplus.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::World;
use platform::Schema;
use serde_json::Value;

use crate::backfill::{LIVE, engagectl, has_read_all_of, ran, read_again, runs};

/// More than one page, so that a run can be ended between two.
const ROWS: i64 = 3000;

#[tokio::test]
async fn what_backfills_bring_to_a_webhook_is_equal_run_by_run_and_what_is_taken_out_is_missing() {
    let world = World::start(Schema::Uuid).await;
    write_past(&world).await;
    let within = Duration::from_secs(240);
    world.every_sink_equals_postgres(within).await;

    let first = backfill(&world, "clickhouse,webhook").await;
    world.every_sink_equals_postgres(within).await;
    let second = backfill(&world, "webhook").await;
    let (code, report) = compared(&world, &["--within", "60s"]).await;
    assert_eq!(code, 0, "{report}\n{}", world.service_logs());
    for run in [first, second] {
        is_whole(&report, run);
    }
    assert_eq!(report["live"]["missing"], 0);

    let third = killed_half_way(&world).await;
    let (code, report) = compared(&world, &["--within", "60s"]).await;
    assert_eq!(code, 0, "{report}");
    let open = of(&report, third);
    assert_eq!(open["state"], "open", "{report}");
    assert!(open["rows"].as_i64().unwrap() < ROWS, "{report}");
    assert_eq!(open["delivered"], open["records"], "{report}");
    let next = format!("engagectl backfill --resume {third}");
    assert!(report["notes"].to_string().contains(&next), "{report}");
    let mut command = engagectl(&world);
    command.args(["backfill", "--yes", "--resume", &third.to_string()]);
    let (code, said) = ran(command).await;
    assert_eq!(code, 0, "{said}");
    let (code, report) = compared(&world, &["--within", "60s"]).await;
    assert_eq!(code, 0, "{report}");
    for run in [first, second, third] {
        is_whole(&report, run);
    }

    read_from_the_earliest_every_delivery_is_a_repeat(&world, &report["live"]).await;
    let (code, report) = compared(&world, &["--within", "60s"]).await;
    assert_eq!(code, 0, "{report}");
    let repeats = of(&report, second)["repeats"].as_u64().unwrap();
    what_is_changed_by_hand_is_found(&world, [first, second, third], repeats).await;
}

/// Read from the beginning of everything, the endpoint sends again what it has sent, under the same ids and with the same bodies.
async fn read_from_the_earliest_every_delivery_is_a_repeat(world: &World, live: &Value) {
    let before = receiver(world).await;
    let group = "webhook-forwarder.demo";
    world.terminate("webhook-forwarder");
    read_again(world, group).await;
    world.restart("webhook-forwarder");
    has_read_all_of(world, LIVE, group).await;
    let after = receiver(world).await;
    let count = |stats: &Value, name: &str| stats[name].as_u64().unwrap();
    let more = |name| count(&after, name) - count(&before, name);
    assert!(more("duplicates") > ROWS as u64, "{before}\n{after}");
    assert_eq!(
        (more("unique_messages"), more("changed_bodies")),
        (0, 0),
        "{before}\n{after}"
    );
    assert_eq!(live["missing"], 0, "{live}");
}

/// What the receiver says of itself.
async fn receiver(world: &World) -> Value {
    let url = format!("http://{}/stats", world.addresses().receiver);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    answer.json().await.unwrap()
}

/// Rows of two days ago, and one of now.
async fn write_past(world: &World) {
    for statement in [
        "INSERT INTO content SELECT md5('past' || n)::uuid, 'past-' || n, 'Past ' || n, 'video', 600, now() \
         FROM generate_series(1, 40) n"
            .to_owned(),
        format!(
            "INSERT INTO engagement_events (content_id, event_type, event_ts, duration_ms) \
             SELECT md5('past' || (n % 40 + 1))::uuid, 'play', now() - interval '2 days' + n * interval '100 ms', n \
             FROM generate_series(1, {ROWS}) n"
        ),
        "INSERT INTO engagement_events (content_id, event_type) SELECT md5('past1')::uuid, 'play'".to_owned(),
    ] {
        world.sql(&statement, &[]).await;
    }
}

/// A run over the past, to its end.
async fn backfill(world: &World, sinks: &str) -> i64 {
    let mut command = engagectl(world);
    command.args(["backfill", "--yes", "--behind", "5m", "--start", "-3d"]);
    command.args(["--end", "-1d", "--sinks", sinks]);
    let (code, said) = ran(command).await;
    assert_eq!(code, 0, "{said}\n{}", world.service_logs());
    assert!(said.contains("engagectl verify --sinks webhook"), "{said}");
    runs(world).await.last().unwrap()["run"].as_i64().unwrap()
}

/// A run that is killed after its first page.
async fn killed_half_way(world: &World) -> i64 {
    let before = runs(world).await.len();
    let mut command = engagectl(world);
    command.args(["backfill", "--yes", "--behind", "5m", "--start", "-3d"]);
    command.args(["--end", "-1d", "--sinks", "webhook", "--rate", "100/s"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    let run = world.eventually("a page of the run is noted", || async {
        let all = runs(world).await;
        let newest = all.get(before)?;
        (newest["rows"].as_i64()? > 0).then_some(newest["run"].as_i64()?)
    });
    let run = run.await;
    child.kill().unwrap();
    child.wait().unwrap();
    run
}

/// What `engagectl verify` says of the endpoint, with these words more.
async fn compared(world: &World, words: &[&str]) -> (i32, Value) {
    let mut command = verify(world);
    command
        .args(["-o", "json"])
        .args(words)
        .stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), report["sinks"][0].clone())
}

fn verify(world: &World) -> Command {
    let receiver = format!("http://{}", world.addresses().receiver);
    let mut command = engagectl(world);
    command.args(["verify", "--sinks", "webhook", "--historical"]);
    command.args(["--receiver", &receiver]);
    command
}

fn of(report: &Value, run: i64) -> &Value {
    let all = report["runs"].as_array().unwrap();
    let found = all.iter().find(|one| one["run"] == run);
    found.unwrap_or_else(|| panic!("no run {run}: {report}"))
}

fn is_whole(report: &Value, run: i64) {
    let run = of(report, run);
    assert_eq!(run["state"], "finished", "{report}");
    assert_eq!(run["compared"], true, "{report}");
    for (name, count) in [
        ("rows", ROWS),
        ("records", ROWS),
        ("expected", ROWS),
        ("delivered", ROWS),
        ("missing", 0),
        ("surplus", 0),
        ("changed", 0),
        ("under_way", 0),
    ] {
        assert_eq!(run[name], count, "{name}: {report}");
    }
}

/// One delivery is taken out of what the receiver has, one is there once more, and one is there under another id as well.
async fn what_is_changed_by_hand_is_found(
    world: &World,
    [first, second, third]: [i64; 3],
    repeats: u64,
) {
    let lost = change_deliveries(world, [first, second, third]);
    world.restart("receiver");
    let health = format!("http://{}/health", world.addresses().receiver);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let what = "the receiver answers again";
    world
        .eventually(what, || async {
            client.get(&health).send().await.ok().map(drop)
        })
        .await;

    let (code, report) = compared(world, &[]).await;
    assert_eq!(code, 78, "{report}");
    let counts = |run| {
        let of = of(&report, run);
        ["delivered", "missing", "surplus"].map(|name| of[name].as_i64().unwrap())
    };
    assert_eq!(counts(first), [ROWS - 1, 1, 0], "{report}");
    assert_eq!(counts(second), [ROWS, 0, 0], "{report}");
    assert_eq!(counts(third), [ROWS, 0, 1], "{report}");
    assert_eq!(of(&report, second)["repeats"], repeats + 1, "{report}");
    assert_eq!(report["live"]["missing"], 0, "{report}");

    let (code, said) = ran(verify(world)).await;
    assert_eq!(code, 78, "{said}");
    for part in [
        format!(
            "backfill {first} finished: {ROWS} expected, {} delivered, 1 missing",
            ROWS - 1
        ),
        format!("created of event {lost}, backfill {first}"),
        format!("no record of backfill {third}, which it names, implies it"),
    ] {
        assert!(said.contains(&part), "{part:?} is not in\n{said}");
    }
}

/// Changes what the receiver has written down; the event whose delivery is gone.
fn change_deliveries(world: &World, [first, second, third]: [i64; 3]) -> String {
    world.terminate("receiver");
    let dir = world.stack().dir().join("services");
    let file: PathBuf = dir.join("deliveries.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<Value> = lines.collect();
    let one = |lines: &[Value], run: i64| {
        let found = lines.iter().find(|line| line["run"] == run);
        found.unwrap().clone()
    };
    let lost = one(&lines, first);
    lines.retain(|line| line["id"] != lost["id"]);
    let (twice, mut other) = (one(&lines, second), one(&lines, third));
    other["id"] = "msg_000000000000004d0000000000000000".into();
    lines.extend([twice, other]);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text).unwrap();
    lost["event"].as_str().unwrap().to_owned()
}
