//! `lag` against a real broker.

use std::time::{Duration, Instant};

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::Format;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::{Running, Topics, WAIT, enriched, send, settings, texts, unique, with_topics};
use crate::terminal::Terminal;

const PARTITIONS: i32 = 2;

/// Twenty events in each partition, committed in Postgres one minute ago.
async fn topics() -> Topics {
    let topics = Topics::new(PARTITIONS).await;
    let committed = Micros(service::clock::now() - 60_000_000);
    for partition in 0..PARTITIONS {
        let made = |offset| {
            let mut event: EnrichedEvent = Sample::new().at_position(partition, offset).build();
            event.source.committed_at = committed;
            event
        };
        let events: Vec<_> = (0..20).map(made).collect();
        let records: Vec<_> = events
            .iter()
            .map(|event| enriched(event, Format::Protobuf))
            .collect();
        send(&topics.enriched, partition, &records);
    }
    topics
}

fn commit(group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = settings().probe_config(group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// The group's object.
fn standing(topics: &Topics, group: &str, words: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = with_topics(topics);
    command
        .args(["-o", "json", "lag", "--every", "500ms", "--group", group])
        .args(words);
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    let value: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (output.status.code(), value["groups"][0].clone(), err)
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_and_seconds_behind_are_told_of_a_group_that_nobody_is_in() {
    let (topics, group) = (topics().await, unique("group"));
    commit(&group, &topics.enriched, 15);
    let (code, found, err) = standing(&topics, &group, &[]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        (&found["group"], &found["lag"], &found["members"]),
        (&group.as_str().into(), &10.into(), &0.into())
    );
    let behind = found["behind_seconds"].as_f64().unwrap();
    assert!(
        (60.0..600.0).contains(&behind),
        "since the commit in Postgres: {behind}"
    );
    assert_eq!(
        (&found["eta_seconds"], &found["stuck"]),
        (&Value::Null, &true.into())
    );
    assert_eq!(found["partitions"][1]["committed"], 15);
    assert_eq!(found["partitions"][1]["end"], 20);
    assert_eq!(found["partitions"][1]["owner"], Value::Null);

    commit(&group, &topics.enriched, 20);
    let (_, found, _) = standing(&topics, &group, &[]);
    assert_eq!(
        (
            &found["lag"],
            &found["behind_seconds"],
            &found["eta_seconds"]
        ),
        (&0.into(), &0.0.into(), &0.0.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maximum_that_is_exceeded_ends_with_1_and_says_which() {
    let (topics, group) = (topics().await, unique("group"));
    commit(&group, &topics.enriched, 15);
    for (words, code) in [
        (["--max-lag", "10"], 0),
        (["--max-lag", "9"], 1),
        (["--max-behind", "1h"], 0),
        (["--max-behind", "30s"], 1),
    ] {
        let (found, _, err) = standing(&topics, &group, &words);
        assert_eq!(found, Some(code), "{words:?}: {err}");
        assert_eq!(
            err.contains(words[0]) && err.contains(&group),
            code == 1,
            "{err}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_each_partition_is_named() {
    let (topics, group) = (topics().await, unique("group"));
    let mut config = settings().probe_config(&group);
    config
        .set("client.id", "the-owner")
        .set("auto.offset.reset", "earliest");
    let member: BaseConsumer = config.create().unwrap();
    member.subscribe(&[&topics.enriched]).unwrap();
    let begun = Instant::now();
    while member.assignment().unwrap().count() < 2 {
        assert!(begun.elapsed() < WAIT, "no partition was given");
        drop(member.poll(Duration::from_millis(100)));
    }
    let (_, found, err) = standing(&topics, &group, &[]);
    assert_eq!(
        (&found["members"], &found["owned"]),
        (&1.into(), &2.into()),
        "{err}"
    );
    for partition in 0..2 {
        let owner = &found["partitions"][partition]["owner"];
        assert_eq!(owner["client"], "the-owner", "{found}");
        assert!(
            owner["host"].as_str().unwrap().contains("127.0.0.1"),
            "{owner}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_its_work_has_a_rate_and_an_end() {
    let (topics, group) = (topics().await, unique("group"));
    commit(&group, &topics.enriched, 1);
    let mut command = with_topics(&topics);
    command.args([
        "-o", "json", "lag", "--watch", "--every", "300ms", "--group", &group,
    ]);
    let mut running = Running::start(&mut command);
    let first: Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(
        (&first["groups"][0]["lag"], &first["groups"][0]["rate"]),
        (&38.into(), &Value::Null)
    );
    commit(&group, &topics.enriched, 11);
    let moved = (0..50).find_map(|_| {
        let value: Value = serde_json::from_str(&running.line()).unwrap();
        let found = value["groups"][0].clone();
        found["rate"]
            .as_f64()
            .is_some_and(|rate| rate > 0.0)
            .then_some(found)
    });
    let moved = moved.expect("no look shows the commit");
    assert_eq!(moved["lag"], 18);
    assert!(
        moved["eta_seconds"].as_f64().unwrap() > 0.0 && moved["stuck"] == false,
        "{moved}"
    );
    running.interrupt();
    assert!(running.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_there_is_not_is_bad_usage_with_those_there_are() {
    let topics = topics().await;
    commit("clickhouse-sink", &topics.enriched, 3);
    let output = with_topics(&topics)
        .args(["lag", "--group", "clickhouse-snik"])
        .output()
        .unwrap();
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(64), "{err}");
    assert!(
        err.contains("clickhouse-snik") && err.contains("name one of: clickhouse-sink"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_every_look_is_drawn_over_the_one_before() {
    let (topics, group) = (topics().await, unique("group"));
    commit(&group, &topics.enriched, 15);
    let mut command = with_topics(&topics);
    command.args([
        "lag",
        "--watch",
        "--partitions",
        "--every",
        "200ms",
        "--group",
        &group,
    ]);
    let mut terminal = Terminal::start(&mut command);
    terminal.until("commit 15 of 20");
    terminal.until("never");
    assert!(
        terminal.seen.matches("\x1b[H\x1b[2J").count() >= 2,
        "{:?}",
        terminal.seen
    );
    rustix::process::kill_process(terminal.pid(), rustix::process::Signal::INT).unwrap();
    assert!(terminal.ended().success());
}
