//! `engagectl reset`.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use stream::settings::InboxLimits;

use crate::broker::{Tool, Wanted, append, commit, committed, create, eventually, settings};

/// Twenty records in partition 0, made from the change records 0 to 19.
async fn topic(name: &str) -> Tool {
    create(name, 2).await;
    let source = |number| vec![("engagement-source", format!("live/0/0/{number}"))];
    let records: Vec<Wanted<'_>> = (0..20)
        .map(|number| ("k", &b"v"[..], source(number)))
        .collect();
    append(name, 0, &records).await;
    Tool::new("it-reset.cdc", name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_back_with_the_commit_it_would_have_written_there() {
    let name = "it-back.enriched";
    let tool = topic(name).await;
    let stored = "stored=live/0/0/18@5";
    let at_end = format!("engage1 epoch=0 position=live/0/0/19 before=live/0/0/19 {stored}");
    commit("clickhouse-sink", name, 0, 20, &at_end);
    let back = [
        "reset",
        "--group",
        "clickhouse-sink",
        "--partition",
        "0",
        "--to-offset",
        "5",
    ];

    let plan = tool.json(&back);
    assert_eq!(
        (&plan["partitions"][0]["old"], &plan["partitions"][0]["new"]),
        (&20.into(), &5.into())
    );
    assert!(
        plan["meaning"]
            .as_str()
            .unwrap()
            .contains("not written again")
    );
    assert_eq!(committed("clickhouse-sink", name, 0), Some((20, at_end)));

    tool.text(&[&back[..], &["--execute"]].concat());
    let there = format!("engage1 epoch=0 position=live/0/0/4 before=live/0/0/4 {stored}");
    assert_eq!(committed("clickhouse-sink", name, 0), Some((5, there)));

    let ahead = tool.json(&[
        "reset",
        "--group",
        "clickhouse-sink",
        "--to-datetime",
        "now",
    ]);
    assert_eq!(
        ahead["partitions"][0]["new"], 20,
        "nothing was written since"
    );
    let (code, error) = tool.refused(&[
        "reset",
        "--group",
        "clickhouse-sink",
        "--partition",
        "0",
        "--to-offset",
        "99",
    ]);
    assert!(code == 64 && error.contains("0 to 20"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_at_work_is_left_alone_and_so_are_those_that_do_not_go_by_their_offset() {
    let name = "it-busy.enriched";
    let tool = topic(name).await;
    let group = "webhook-forwarder.it-busy";
    commit(group, name, 0, 20, "engage1 epoch=0");
    let reset = ["reset", "--group", group, "--to-earliest", "--execute"];

    let member = settings().consumer_config(group, InboxLimits::default());
    let member: BaseConsumer = member.create().unwrap();
    member.subscribe(&[name]).unwrap();
    eventually("it is a member", async || {
        let _ = member.poll(Duration::from_millis(50));
        let plan = tool.json(&reset[..4]);
        let members = plan["members"].as_array().unwrap().len();
        (members == 1).then_some(()).ok_or_else(|| plan.to_string())
    })
    .await;
    let (code, error) = tool.refused(&reset);
    assert!(code == 75 && error.contains("has members"), "{error}");
    assert_eq!(committed(group, name, 0).unwrap().0, 20);
    member.unsubscribe();
    drop(member);
    eventually("the group is empty again", async || {
        let output = tool.run(&reset);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(error)
    })
    .await;
    assert_eq!(
        committed(group, name, 0),
        Some((0, "engage1 epoch=0".to_owned()))
    );

    for (group, says) in [
        ("enricher", "tail of its own output"),
        ("redis-aggregator", "stands in Redis"),
    ] {
        let words = [
            "reset",
            "--group",
            group,
            "--topic",
            name,
            "--to-earliest",
            "--execute",
        ];
        let (code, error) = tool.refused(&words);
        assert!(code == 64 && error.contains(says), "{error}");
        assert_eq!(committed(group, name, 0), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_group_of_an_endpoint_is_moved_where_it_reads() {
    let (live, beside) = ("it-beside.enriched", "it-beside.backfill");
    let tool = topic(live).await.and("KAFKA_BACKFILL_TOPIC", beside);
    create(beside, 2).await;
    let records: Vec<Wanted<'_>> = (0..3)
        .map(|number| {
            let source = ("engagement-source", format!("backfill/0/0/{number}"));
            ("k", &b"v"[..], vec![source])
        })
        .collect();
    append(beside, 0, &records).await;
    let group = "webhook-forwarder.it-beside.backfill";
    commit(group, beside, 0, 3, "engage1 epoch=0");
    tool.text(&["reset", "--group", group, "--to-earliest", "--execute"]);
    let found = committed(group, beside, 0).map(|(offset, _)| offset);
    assert_eq!(found, Some(0));
    assert_eq!(committed(group, live, 0), None, "it does not read that");
}
