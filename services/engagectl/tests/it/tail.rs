//! `tail` against a real broker.

use std::process::Command;
use std::time::Duration;

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;
use engagement::wire::Format;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use stream::dead_letter::{ERROR_KIND, FIRST_FAILED_AT, connect};

use crate::support::{
    Running, Sent, Topics, WAIT, create, enriched, send, settings, texts, unique, with_topics,
};
use crate::terminal::Terminal;

fn event(id: i64, milliseconds: i64) -> EnrichedEvent {
    let sample = Sample::new()
        .event_id(id)
        .content_id(format!("c{}", id % 2));
    sample
        .duration_ms(milliseconds)
        .length_seconds(100)
        .at_position(0, id)
        .build()
}

fn objects(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(out: &str) -> Vec<String> {
    let mut ids: Vec<_> = objects(out)
        .iter()
        .map(|one| one["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Ten events of 10, 20, .. 100 percent in two partitions, every other one in JSON.
async fn ten() -> Topics {
    let topics = Topics::new(2).await;
    for (partition, format) in [(0, Format::Json), (1, Format::Protobuf)] {
        let ids = (1..=10).filter(|id| id % 2 == i64::from(partition));
        let events: Vec<_> = ids.map(|id| event(id, id * 10_000)).collect();
        let records: Vec<_> = events.iter().map(|event| enriched(event, format)).collect();
        send(&topics.enriched, partition, &records);
    }
    topics
}

fn printed(topics: &Topics, words: &[&str]) -> String {
    let output = with_topics(topics)
        .args(["-o", "json", "tail"])
        .args(words)
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{words:?}: {out}{err}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_are_read_up_to_the_present_end_and_filtered() {
    let topics = ten().await;
    let all = printed(&topics, &["enriched", "--no-follow"]);
    assert_eq!(ids(&all).len(), 10);
    let more = printed(
        &topics,
        &[
            "enriched",
            "--no-follow",
            "--where",
            "engagement_percent > 80 and event_type = play",
        ],
    );
    assert_eq!(ids(&more), ["10", "9"]);
    let content = printed(&topics, &["enriched", "--no-follow", "--content-id", "c1"]);
    assert_eq!(ids(&content), ["1", "3", "5", "7", "9"]);
    let few = printed(&topics, &["enriched", "--no-follow", "--limit", "3"]);
    assert_eq!(objects(&few).len(), 3);
    let none = printed(
        &topics,
        &["enriched", "--no-follow", "--since", "2100-01-01T00:00:00Z"],
    );
    assert_eq!(none, "");
    let recent = printed(&topics, &["enriched", "--no-follow", "--since", "1h"]);
    assert_eq!(ids(&recent), ids(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let topics = ten().await;
    let script = r#""$0" -o json tail enriched --no-follow | head -n 1; echo "${PIPESTATUS[0]}""#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script, env!("CARGO_BIN_EXE_engagectl")]);
    bash.env("KAFKA_BOOTSTRAP_SERVERS", settings().bootstrap_servers);
    bash.env("KAFKA_ENRICHED_TOPIC", &topics.enriched);
    let (out, err) = texts(&bash.output().unwrap());
    let lines: Vec<_> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with('{'), "{out}{err}");
    assert_eq!((lines[1], err.as_str()), ("0", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_joins_no_group_and_commits_nothing() {
    let topics = ten().await;
    let mut running = Running::start(
        with_topics(&topics).args(["-o", "json", "tail", "enriched", "--since", "1h"]),
    );
    running.line();
    // while it reads
    let asking: BaseConsumer = settings().probe_config("none").create().unwrap();
    let list = asking.fetch_group_list(None, WAIT).unwrap();
    let groups: Vec<_> = list
        .groups()
        .iter()
        .map(|group| group.name().to_owned())
        .collect();
    assert!(
        !groups.iter().any(|name| name.starts_with("engagectl-tail")),
        "{groups:?}"
    );
    running.interrupt();
    assert!(running.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_from_now_on_and_ctrl_c_ends_it() {
    let topics = ten().await;
    let mut running = Running::start(with_topics(&topics).args(["-o", "json", "tail", "enriched"]));
    // what comes once it reads is shown; it says nothing before, so it is written again until it does
    let mut line = None;
    let mut next = 11;
    while line.is_none() {
        assert!(next < 400, "nothing is shown");
        send(
            &topics.enriched,
            0,
            &[enriched(&event(next, 1000), Format::Protobuf)],
        );
        line = running.line_within(Duration::from_millis(500));
        next += 1;
    }
    let shown: Value = serde_json::from_str(&line.unwrap()).unwrap();
    let id: i64 = shown["event_id"].as_str().unwrap().parse().unwrap();
    assert!(id > 10, "{id} was there before");
    running.interrupt();
    assert!(running.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_shown_with_the_columns_of_the_table() {
    let topics = Topics::new(2).await;
    let change = |id: i64| {
        Sent {
        key: r#"{"content_id":"c1"}"#,
        payload: format!(
            r#"{{"before":null,"after":{{"id":{id},"content_id":"c1","event_type":"play","duration_ms":{id},"extra":"x"}},
               "op":"c","source":{{"ts_ms":1760000000000,"lsn":7}}}}"#
        )
        .into_bytes(),
        headers: Vec::new(),
    }
    };
    let broken = Sent {
        key: "c1",
        payload: b"{".to_vec(),
        headers: Vec::new(),
    };
    send(&topics.cdc, 1, &[change(1), change(2), broken]);
    let out = printed(
        &topics,
        &[
            "cdc",
            "--no-follow",
            "--where",
            "extra = x and duration_ms >= 2",
        ],
    );
    let found = objects(&out);
    assert_eq!(
        (found.len(), &found[0]["id"], &found[0]["op"]),
        (1, &Value::from(2), &Value::from("create"))
    );
    let output = with_topics(&topics)
        .args(["tail", "cdc", "--no-follow"])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(
        out.contains("1/2 ") && out.contains("cannot be read: no JSON"),
        "{out}"
    );
    assert!(err.contains("1 records could not be read"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_by_service_and_by_when_they_failed() {
    let topic = unique("letters");
    create(&topic, 1).await;
    let letter = |kind: &str, at: &str| Sent {
        key: "c1",
        payload: b"{}".to_vec(),
        headers: vec![
            (connect::CONNECTOR_NAME, "clickhouse-sink".to_owned()),
            (connect::EXCEPTION_MESSAGE, "a\x1b[2Jb".to_owned()),
            (ERROR_KIND, kind.to_owned()),
            (FIRST_FAILED_AT, at.to_owned()),
        ],
    };
    let now = Micros(service::clock::now()).to_string();
    send(
        &topic,
        0,
        &[
            letter("malformed", "2026-01-01T00:00:00Z"),
            letter("unstorable", &now),
        ],
    );
    let topics = Topics {
        cdc: topic.clone(),
        enriched: topic.clone(),
    };
    let words = ["dlq", "--topic", &topic, "--no-follow"];
    assert_eq!(objects(&printed(&topics, &words)).len(), 2);
    let recent = objects(&printed(
        &topics,
        &[&words[..], &["--since", "10m"]].concat(),
    ));
    assert_eq!(
        (recent.len(), &recent[0]["reason"]),
        (1, &Value::from("unstorable"))
    );
    let chosen = objects(&printed(
        &topics,
        &[&words[..], &["--where", "reason = malformed"]].concat(),
    ));
    assert_eq!(
        (chosen.len(), &chosen[0]["service"]),
        (1, &Value::from("clickhouse-sink"))
    );
    // what a record says reaches no terminal as a control sequence
    let mut terminal = Terminal::start(with_topics(&topics).arg("tail").args(words));
    assert!(terminal.ended().success());
    assert!(
        terminal.seen.contains("unstorable") && !terminal.seen.contains('\x1b'),
        "{:?}",
        terminal.seen
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_there_is_not_is_78_with_what_to_do() {
    let topics = Topics {
        cdc: unique("none"),
        enriched: unique("none"),
    };
    for words in [&["tail", "enriched"][..], &["lag"]] {
        let output = with_topics(&topics).args(words).output().unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(78), "{err}");
        assert!(
            err.contains("there is no topic none-") && err.contains("engagectl init"),
            "{err}"
        );
    }
}
