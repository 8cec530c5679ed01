//! A broker that goes away and comes back.
//!
//! A commit that was in flight is in doubt afterwards, so a lane is opened again from an older one. What is promised is what a
//! sink gets that reads its own effects back, and a chain of copies without a hole, of which a run may be there twice.

use std::time::{Duration, Instant};

use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::{LaneError, LaneHandle, OutRecord, Producer, RunErrorKind};

use crate::support::{
    Member, Seen, WAIT, collect, create_at, eventually, fill_at, number, options, read,
    settings_at, unique,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_waited_for_and_nothing_is_lost_or_repeated() {
    let stack = devstack::Stack::builder()
        .kafka()
        .private()
        .start()
        .await
        .unwrap();
    let settings = settings_at(&stack.kafka().bootstrap);
    let (topic, output, group, seen) = (
        unique("outage"),
        unique("copy"),
        unique("g"),
        Seen::default(),
    );
    create_at(&settings, &topic, 2, &[]).await;
    create_at(&settings, &output, 2, &[]).await;
    (0..2).for_each(|partition| fill_at(&settings, &topic, partition, 0..100));
    let producer = Producer::new(
        &settings,
        ProducerOptions {
            stall: Duration::from_secs(3),
            ..ProducerOptions::default()
        },
    );
    let probe = Probe::new(&settings, &group);
    let (producer, sink, target) = (producer.unwrap(), seen.clone(), output.clone());
    let mut slow = options(settings.clone(), &group, &topic);
    slow.retry_max = Duration::from_secs(1);
    let member = Member::start(slow, move |lane| {
        copy(lane, producer.clone(), target.clone(), sink.clone())
    });
    let through = async |total: usize| {
        eventually(&format!("{total} records"), async || match seen.total() {
            found if found == total => Ok(()),
            found => Err(format!("{found}; {:?}", member.status.readiness())),
        })
        .await;
    };
    through(200).await;
    member.ready().await;

    stack.kafka().kill9().await.unwrap();
    eventually("not ready", async || match member.status.readiness() {
        Err(text) if text.contains("no broker reachable") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(member.status.liveness(), Ok(()));
    stack.kafka().start().await.unwrap();

    (0..2).for_each(|partition| fill_at(&settings, &topic, partition, 100..200));
    through(400).await;
    member.ready().await;
    member.stop().await;
    for partition in 0..2 {
        assert_eq!(seen.of(partition), (0..200).collect::<Vec<_>>());
        let copies = read(&probe, &output, partition, 0..i64::MAX).await;
        let mut next = 0;
        for copy in copies.iter().map(number) {
            assert!(copy <= next, "copies {next}..{copy} are missing");
            next = next.max(copy + 1);
        }
        assert_eq!(next, 200, "copies of partition {partition}");
    }
}

/// A broker that has stood still may say that the cluster has no broker at all; librdkafka then has nobody left to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stood_still_is_reached_again_or_the_member_asks_for_a_new_start() {
    let stack = devstack::Stack::builder()
        .kafka()
        .private()
        .start()
        .await
        .unwrap();
    let settings = settings_at(&stack.kafka().bootstrap);
    let (topic, group) = (unique("frozen"), unique("g"));
    create_at(&settings, &topic, 4, &[]).await;
    let seen = Seen::default();
    let join = || {
        let sink = seen.clone();
        let options = options(settings.clone(), &group, &topic);
        Member::start(options, move |lane| collect(lane, sink.clone()))
    };
    let mut members: Vec<Member> = (0..4).map(|_| join()).collect();
    for member in &members {
        member.ready().await;
    }

    stack.kafka().pause().unwrap();
    for member in &members {
        eventually("out of reach", async || match member.status.readiness() {
            Err(_) => Ok(()),
            Ok(()) => Err("ready".to_owned()),
        })
        .await;
    }
    stack.kafka().resume().unwrap();
    let begun = Instant::now();
    while let Some(reason) = members.iter().find_map(|m| m.status.readiness().err()) {
        assert!(begun.elapsed() < WAIT * 2, "{reason}");
        for member in members.iter_mut().filter(|member| member.is_over()) {
            let ended = std::mem::replace(member, join()).outcome().await;
            assert_eq!(ended.unwrap_err().kind(), RunErrorKind::TryAgain);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    (0..4).for_each(|partition| fill_at(&settings, &topic, partition, 0..10));
    eventually("40 records", async || match seen.total() {
        40 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    for member in members {
        member.stop().await;
    }
}

/// Notes a record once its copy is acknowledged, and starts behind the last that it has noted: the commit may be older.
async fn copy(
    mut lane: LaneHandle,
    producer: Producer,
    output: String,
    seen: Seen,
) -> Result<(), LaneError> {
    let mut out = producer.lane::<()>(&output, lane.partition()).await?;
    let committed = lane.committed().map_or(0, |committed| committed.offset);
    let noted = seen.of(lane.partition()).last().map_or(0, |last| last + 1);
    lane.start(committed.max(noted)).await?;
    while let Some(record) = lane.recv().await {
        let copy = OutRecord {
            topic: output.as_str().into(),
            partition: None,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: Vec::new(),
            timestamp_ms: None,
        };
        out.send(copy, record.offset, ()).await?;
        out.drained().await?;
        seen.note(&record);
        lane.commit_now(record.offset + 1, String::new()).await?;
    }
    Ok(())
}
