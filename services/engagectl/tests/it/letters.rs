//! `engagectl dlq`.

mod redrive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stream::Record;
use stream::dead_letter::LETTER;

use crate::broker::{Tool, Wanted, append, create, give_up, read};

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
