//! `engagectl dlq redrive`.

use std::collections::BTreeSet;

use serde_json::Value;
use stream::dead_letter::{LETTER, REDRIVE_COUNT};
use stream::headers::{last_text, set};
use stream::redrive::{TO, epoch};

use super::{copies, given_up};
use crate::broker::{Tool, Wanted, append, commit, create, eventually, give_up, read};

/// Letters of the run that is killed.
const LETTERS: usize = 80;
const CHANGE: &[u8] = br#"{"op":"c","before":null,"after":{"id":7,"content_id":"c1","event_type":"play","event_ts":"2026-01-08T14:21:52Z","duration_ms":7000},"source":{"lsn":500,"sequence":"[\"400\",\"500\"]","txId":5,"ts_ms":1767882112000}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_killed_goes_on_and_sends_every_letter_once() {
    let (service, topic) = ("clickhouse-sink", "it-killed.enriched");
    create(topic, 4).await;
    create("engagement.dlq.clickhouse-sink", 4).await;
    given_up(service, topic, 1, LETTERS).await;
    let tool = Tool::new("it-killed.cdc", topic);

    let unread = tool.json(&redrive(&[]));
    let why = unread["refused"][0]["why"].as_str().unwrap();
    assert!(why.contains("nobody reads"), "{unread}");
    commit("clickhouse-sink", topic, 1, 80, "engage1 epoch=0");
    let plan = tool.json(&redrive(&[]));
    assert_eq!(
        (&plan["to_send"], &plan["executed"]),
        (&LETTERS.into(), &false.into())
    );
    assert!(copies(topic, 1).await.is_empty(), "a plan sends nothing");

    is_killed_half_way(&tool, topic).await;
    goes_on_where_it_was(&tool, topic).await;
    let nothing = tool.json(&redrive(&["--execute"]));
    assert_eq!(
        (&nothing["to_send"], &nothing["redriven_before"]),
        (&0.into(), &LETTERS.into())
    );
    let stats = tool.json(&["dlq", "stats", "--service", service]);
    assert_eq!(stats["groups"][0]["redriven"], LETTERS);

    // one test, because these are letters of the same topic, which are counted above
    tokio::join!(
        one_that_stands_still_is_overtaken_and_sends_nothing_more(
            "engagectl.redrive-mark.before",
            2
        ),
        one_that_stands_still_is_overtaken_and_sends_nothing_more(
            "engagectl.redrive-mark.after",
            3
        ),
        one_that_comes_late_gives_way_to_a_run_that_began_before_it_planned(),
    );
}

/// In two other partitions: while it sends the letters of the first, a run that had begun before goes on in the second.
async fn one_that_comes_late_gives_way_to_a_run_that_began_before_it_planned() {
    const LETTERS: usize = 30;
    let topic = "it-late.enriched";
    create(topic, 4).await;
    for partition in [0, 1] {
        given_up("clickhouse-sink", topic, partition, LETTERS).await;
        commit("clickhouse-sink", topic, partition, 30, "engage1 epoch=0");
    }
    let tool = Tool::new("it-late.cdc", topic);
    let its = |origin: &'static str, rate: &'static str| {
        redrive(&["--execute", "--origin", origin, "--rate", rate])
    };

    let mut before = tool.start(&its("it-late.enriched/1", "1/s"));
    eventually("the first run sends", async || {
        let sent = copies(topic, 1).await.len();
        (sent > 0).then_some(()).ok_or("nothing yet".to_owned())
    })
    .await;
    // longer than a run may be silent
    let words = its(topic, "2/s");
    let late = tokio::task::spawn_blocking(move || tool.refused(&words));
    let (code, error) = late.await.unwrap();
    assert!(code == 75 && error.contains("at work"), "{error}");
    let ended = tokio::task::spawn_blocking(move || before.wait().unwrap());
    assert_eq!(ended.await.unwrap().code(), Some(0));
    for partition in [0, 1] {
        assert_eq!(copies(topic, partition).await.len(), LETTERS, "{partition}");
    }
}

fn redrive(more: &[&'static str]) -> Vec<&'static str> {
    let words = [
        "dlq",
        "redrive",
        "--service",
        "clickhouse-sink",
        "--wait",
        "0s",
    ];
    [&words, more].concat()
}

async fn is_killed_half_way(tool: &Tool, topic: &str) {
    let mut killed = tool.start(&redrive(&["--execute", "--rate", "10/s"]));
    let at_work = eventually("some are sent", async || {
        match copies(topic, 1).await.len() {
            0..=4 => Err("not yet".to_owned()),
            some => Ok(some),
        }
    });
    assert!(
        at_work.await < LETTERS,
        "it was not quick enough to be killed"
    );
    killed.kill().unwrap();
    killed.wait().unwrap();
    // one that may still be at work is not overtaken
    let (code, error) = tool.refused(&redrive(&["--execute"]));
    assert!(code == 75 && error.contains("at work"), "{error}");
}

async fn goes_on_where_it_was(tool: &Tool, topic: &str) {
    let done = eventually("the run is continued", async || {
        let output = tool.run(&redrive(&["--execute", "-o", "json"]));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        output
            .status
            .success()
            .then_some(output.stdout)
            .ok_or(error)
    })
    .await;
    let done: Value = serde_json::from_slice(&done).unwrap();
    assert!(done["sent"].as_u64().unwrap() < LETTERS as u64, "{done}");
    let copies = copies(topic, 1).await;
    let letters: BTreeSet<&str> = copies
        .iter()
        .filter_map(|copy| last_text(&copy.headers, LETTER))
        .collect();
    assert_eq!(
        (copies.len(), letters.len()),
        (LETTERS, LETTERS),
        "every letter once"
    );
    let first = &copies[0];
    assert_eq!(first.payload.as_deref(), Some(&b"\0bytes 0"[..]));
    let header = |name: &str| last_text(&first.headers, name);
    assert_eq!(header(TO), Some("clickhouse-sink"));
    assert_eq!(header("engagement-source"), Some("live/0/1/0"));
    assert_eq!(header("x"), Some("y"));
}

/// In another partition of the same topic: a run that stops at `point` for as long as another one needs, and then goes on.
async fn one_that_stands_still_is_overtaken_and_sends_nothing_more(point: &str, partition: i32) {
    const LETTERS: usize = 40;
    let service = "clickhouse-sink";
    let topic = &format!("it-still-{partition}.enriched");
    create(topic, 4).await;
    given_up(service, topic, partition, LETTERS).await;
    commit(service, topic, partition, 40, "engage1 epoch=0");
    let tool = Tool::new("it-still.cdc", topic);
    let redrive = |more: &[&'static str]| {
        let its = ["--origin", topic, "--execute"];
        [&redrive(&[])[..], &its, more].concat()
    };
    let stopping =
        Tool::new("it-still.cdc", topic).and("ENGAGE_FAULTS", &format!("{point}=stop@3"));
    let mut still = stopping.start(&redrive(&["--rate", "4/s"]));
    eventually("some are sent", async || {
        let sent = copies(topic, partition).await.len();
        (sent >= 3).then_some(()).ok_or(format!("{sent} are sent"))
    })
    .await;
    eventually("another run sends the rest", async || {
        let output = tool.run(&redrive(&[]));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(error)
    })
    .await;
    assert_eq!(copies(topic, partition).await.len(), LETTERS, "{point}");
    let pid = rustix::process::Pid::from_child(&still);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let ended = tokio::task::spawn_blocking(move || still.wait().unwrap());
    assert_eq!(ended.await.unwrap().code(), Some(75), "{point}");
    assert_eq!(
        copies(topic, partition).await.len(),
        LETTERS,
        "{point}: it sent more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_back_with_its_epoch_unless_it_would_be_given_up_again_or_has_come_back_too_often()
 {
    let topic = "it-changes.cdc";
    create(topic, 4).await;
    create("it-changes.enriched", 4).await;
    create("engagement.dlq.enricher", 4).await;
    commit("enricher", topic, 3, 0, "engage1 epoch=0");
    let key = r#"{"content_id":"c1"}"#;
    let often = vec![(REDRIVE_COUNT, "3".to_owned())];
    let changes: [Wanted<'_>; 3] = [
        (key, CHANGE, vec![]),
        (key, b"{\"op\":", vec![]),
        (key, CHANGE, often),
    ];
    append(topic, 3, &changes).await;
    let mut records = read(topic, 3).await;
    for record in &mut records {
        set(&mut record.headers, stream::dead_letter::EPOCH, "0");
    }
    give_up("enricher", &records, "too_large").await;
    let tool = Tool::new(topic, "it-changes.enriched");
    let redrive = [
        "dlq",
        "redrive",
        "--service",
        "enricher",
        "--execute",
        "--wait",
        "0s",
    ];
    let done = tool.json(&redrive);
    assert_eq!((&done["sent"], &done["to_send"]), (&1.into(), &1.into()));
    let why: Vec<&str> = done["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| refused["why"].as_str().unwrap())
        .collect();
    assert!(
        why.iter()
            .any(|why| why.contains("give it up again: malformed_json")),
        "{why:?}"
    );
    assert!(
        why.iter().any(|why| why.contains("redriven 3 times")),
        "{why:?}"
    );
    let sent = copies(topic, 3).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].payload.as_deref(), epoch(&sent[0])),
        (Some(CHANGE), Some(Some(0)))
    );
    assert_eq!(
        last_text(&sent[0].headers, LETTER),
        Some("engagement.dlq.enricher/3/0")
    );
    let more = tool.json(&[&redrive[..], &["--max-redrives", "4"]].concat());
    assert_eq!(more["sent"], 1);
    assert!(
        tool.text(&["dlq", "redrive", "--service", "enricher"])
            .contains("nothing to send")
    );

    // an enricher that knows of no redrives passes the copy, and makes nothing of it
    commit("enricher", topic, 3, 6, "engage1 epoch=0");
    let again = [
        &redrive[..5],
        &["--wait", "0s", "--again", "--origin", "it-changes.cdc/3/0"],
    ];
    let dropped = tool.run(&again.concat());
    let text = String::from_utf8(dropped.stdout).unwrap();
    assert_eq!(dropped.status.code(), Some(78), "{text}");
    assert!(text.contains("1 dropped by the enricher"), "{text}");
}
