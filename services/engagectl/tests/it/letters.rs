//! `engagectl dlq`.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stream::Record;
use stream::dead_letter::{LETTER, REDRIVE_COUNT};
use stream::headers::{last_text, set};
use stream::redrive::{TO, epoch};

use crate::broker::{Tool, Wanted, append, commit, create, eventually, give_up, read};

const CHANGE: &[u8] = br#"{"op":"c","before":null,"after":{"id":7,"content_id":"c1","event_type":"play","event_ts":"2026-01-08T14:21:52Z","duration_ms":7000},"source":{"lsn":500,"sequence":"[\"400\",\"500\"]","txId":5,"ts_ms":1767882112000}}"#;

/// Records of one partition of `topic`, given up by a service.
async fn given_up(service: &'static str, topic: &str, partition: i32, count: usize) {
    let payloads: Vec<String> = (0..count)
        .map(|number| format!("\u{0}bytes {number}"))
        .collect();
    let headers = |number: usize| {
        let source = format!("live/0/{partition}/{number}");
        vec![("engagement-source", source), ("x", "y".to_owned())]
    };
    let numbered = payloads.iter().enumerate();
    let wanted: Vec<Wanted<'_>> = numbered
        .map(|(number, payload)| ("c1", payload.as_bytes(), headers(number)))
        .collect();
    append(topic, partition, &wanted).await;
    give_up(service, &read(topic, partition).await, "refused").await;
}

/// The copies of letters in a topic, as they stand there.
async fn copies(topic: &str, partition: i32) -> Vec<Record> {
    let mut records = read(topic, partition).await;
    records.retain(|record| record.header(LETTER).is_some());
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_counted_shown_and_exported_as_they_were_written() {
    let (service, topic) = ("redis-aggregator", "it-listed.enriched");
    create(topic, 4).await;
    create("engagement.dlq.redis-aggregator", 4).await;
    given_up(service, topic, 2, 3).await;
    let tool = Tool::new("it-listed.cdc", topic);
    let only = ["--service", service];
    let with = |words: &[&'static str]| [words, &only].concat();

    let listed = tool.json(&with(&["dlq", "ls", "--limit", "2"]));
    assert_eq!(listed["letters"].as_array().unwrap().len(), 2);
    assert_eq!(listed["left_out"], 1);
    assert_eq!(listed["letters"][1]["origin"], "it-listed.enriched/2/2");
    assert_eq!(listed["letters"][1]["content_id"], "c1");

    let stats = tool.json(&with(&["dlq", "stats"]));
    let group = &stats["groups"][0];
    assert_eq!(
        (&group["reason"], &group["letters"]),
        (&"refused".into(), &3.into())
    );
    let narrowed = tool.json(&with(&["dlq", "stats", "--until", "-1h"]));
    assert_eq!(narrowed["groups"].as_array().unwrap().len(), 0);

    let shown = tool.text(&with(&["dlq", "show", "2:1"]));
    assert!(shown.contains("0x006279746573"), "{shown}");
    assert!(shown.contains("record         it-listed.enriched/2/1"));
    let by_record = tool.json(&["dlq", "show", "it-listed.enriched/2/1"]);
    assert_eq!(by_record[0]["at"], "engagement.dlq.redis-aggregator/2/1");
    let (code, error) = tool.refused(&with(&["dlq", "show", "2:99"]));
    assert!(code == 64 && error.contains("dlq ls"), "{error}");

    let exported = tool.text(&with(&["dlq", "export"]));
    let lines: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let values: Vec<Vec<u8>> = lines
        .iter()
        .map(|line| bytes(&line["value_base64"]))
        .collect();
    assert_eq!(
        values,
        [b"\0bytes 0", b"\0bytes 1", b"\0bytes 2"].map(|text| text.to_vec())
    );

    // and they cannot be counted twice
    let plan = tool.json(&with(&["dlq", "redrive", "--execute"]));
    assert_eq!((&plan["to_send"], &plan["sent"]), (&0.into(), &0.into()));
    assert!(
        plan["refused"][0]["why"]
            .as_str()
            .unwrap()
            .contains("keeps no ids")
    );
    assert!(copies(topic, 2).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_killed_goes_on_and_sends_every_letter_once() {
    const LETTERS: usize = 80;
    let (service, topic) = ("clickhouse-sink", "it-killed.enriched");
    create(topic, 4).await;
    create("engagement.dlq.clickhouse-sink", 4).await;
    given_up(service, topic, 1, LETTERS).await;
    let tool = Tool::new("it-killed.cdc", topic);
    let redrive = |more: &[&'static str]| {
        let words = ["dlq", "redrive", "--service", service, "--wait", "0s"];
        [&words, more].concat()
    };

    let unread = tool.json(&redrive(&[]));
    assert!(
        unread["refused"][0]["why"]
            .as_str()
            .unwrap()
            .contains("nobody reads"),
        "{unread}"
    );
    commit("clickhouse-sink", topic, 1, 80, "engage1 epoch=0");
    let plan = tool.json(&redrive(&[]));
    assert_eq!(
        (&plan["to_send"], &plan["executed"]),
        (&LETTERS.into(), &false.into())
    );
    assert!(copies(topic, 1).await.is_empty(), "a plan sends nothing");

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
    assert_eq!(last_text(&first.headers, TO), Some("clickhouse-sink"));
    assert_eq!(
        last_text(&first.headers, "engagement-source"),
        Some("live/0/1/0")
    );
    assert_eq!(last_text(&first.headers, "x"), Some("y"));

    let nothing = tool.json(&redrive(&["--execute"]));
    assert_eq!(
        (&nothing["to_send"], &nothing["redriven_before"]),
        (&0.into(), &LETTERS.into())
    );
    let stats = tool.json(&["dlq", "stats", "--service", service]);
    assert_eq!(stats["groups"][0]["redriven"], LETTERS);
    tokio::join!(
        one_that_stands_still_is_overtaken_and_sends_nothing_more(
            "engagectl.redrive-mark.before",
            2
        ),
        one_that_stands_still_is_overtaken_and_sends_nothing_more(
            "engagectl.redrive-mark.after",
            3
        ),
    );
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
        let words = ["dlq", "redrive", "--service", service, "--wait", "0s"];
        [&words, &["--origin", topic, "--execute"][..], more].concat()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_says_what_goes_and_deletes_it_only_when_told_to() {
    let (service, topic) = ("webhook-forwarder", "it-purged.enriched");
    let letters = "engagement.dlq.webhook-forwarder";
    create(topic, 4).await;
    create(letters, 4).await;
    given_up(service, topic, 0, 5).await;
    let tool = Tool::new("it-purged.cdc", topic);
    let purge = ["dlq", "purge", "--service", service, "--to-offset", "0:3"];

    let plan = tool.json(&purge);
    assert_eq!(
        (&plan["partitions"][0]["letters"], &plan["executed"]),
        (&3.into(), &false.into())
    );
    assert_eq!(read(letters, 0).await.len(), 5);
    let text = tool.text(&[&purge[..], &["--execute"]].concat());
    assert!(text.contains("3 letters deleted"), "{text}");
    let left: Vec<i64> = read(letters, 0)
        .await
        .iter()
        .map(|record| record.offset)
        .collect();
    assert_eq!(left, [3, 4]);
    let nothing = tool.text(&[
        "dlq",
        "purge",
        "--service",
        service,
        "--before",
        "-1h",
        "--execute",
    ]);
    assert!(nothing.contains("nothing to delete"), "{nothing}");
    let (code, error) =
        tool.refused(&["dlq", "purge", "--service", service, "--to-offset", "0:99"]);
    assert!(code == 64 && error.contains("behind it"), "{error}");
}
