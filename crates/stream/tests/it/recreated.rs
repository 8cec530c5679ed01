//! A topic that is deleted and created again, or trimmed, while a lane reads it.

use stream::LaneHandle;
use stream::checkpoint::Checkpoint;
use stream::lineage::Reader;
use stream::resume::{StartPolicy, resolve_start};

use crate::support::{
    Member, Seen, collect, create, delete, eventually, expire, fill, options, settings, topic,
    unique,
};

async fn stopped(member: &Member, needle: &str) {
    eventually(
        &format!("a stop that says {needle:?}"),
        async || match member.status.readiness() {
            Err(text) if text.contains("is stopped") && text.contains(needle) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

/// Keeps the process alive beside the stopped lane: with every lane stopped it would end.
async fn with_an_idle_lane_beside(lane: LaneHandle, seen: Seen) -> Result<(), stream::LaneError> {
    if lane.partition() == 1 {
        lane.stopping().cancelled().await;
        return Ok(());
    }
    collect(lane, seen).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_under_a_running_lane_stops_it() {
    let (topic, group, seen) = (topic("recreated", 2).await, unique("g"), Seen::default());
    fill(&topic, 0, 0..100);
    let sink = seen.clone();
    let member = Member::start(options(settings(), &group, &topic), move |lane| {
        with_an_idle_lane_beside(lane, sink.clone())
    });
    eventually("100 records", async || {
        if seen.total() == 100 {
            Ok(())
        } else {
            Err(seen.total().to_string())
        }
    })
    .await;
    eventually("committed", async || match member.status.lanes().first() {
        Some(lane) if lane.done == 100 => Ok(()),
        lanes => Err(format!("{lanes:?}")),
    })
    .await;
    delete(&topic).await;
    create(&topic, 2, &[]).await;
    fill(&topic, 0, 0..10);
    stopped(&member, "partition 0").await;
    assert_eq!(
        seen.total(),
        100,
        "nothing of the new topic was taken for the old one"
    );
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_of_the_log_stops_the_lane_and_resets_nothing() {
    let (topic, group) = (topic("range", 2).await, unique("g"));
    fill(&topic, 0, 0..100);
    expire(&topic, 0, 50).await;
    let member = Member::start(
        options(settings(), &group, &topic),
        |mut lane: LaneHandle| async move {
            if lane.partition() == 0 {
                lane.start(10).await?;
                assert_eq!(lane.recv().await, None);
            }
            lane.stopping().cancelled().await;
            Ok(())
        },
    );
    stopped(&member, "offset 10 is outside of the log").await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_commit_does_not_fit_the_topic_is_refused() {
    let (topic, group) = (topic("proof", 2).await, unique("g"));
    let position = |offset: i64| format!("live/0/0/{offset}");
    let write = |range: std::ops::Range<i64>| crate::lineage::fill_enriched(&topic, 0, range);
    write(0..20).await;
    let read = |group: String| options(settings(), &group, &topic);
    let member = Member::start(read(group.clone()), |mut lane: LaneHandle| async move {
        let (start, mut reader) = resolve_start(&lane, StartPolicy::Earliest).await?;
        lane.start(start).await?;
        while let Some(record) = lane.recv().await {
            reader.check(&crate::lineage::source_of(&record));
            lane.commit(record.offset + 1, reader.checkpoint().to_string());
        }
        Ok(())
    });
    eventually("20 read", async || match member.status.lanes().first() {
        Some(lane) if lane.done == 20 => Ok(()),
        lanes => Err(format!("{lanes:?}")),
    })
    .await;
    member.stop().await;

    // same topic: the proof holds, and the reader continues with its last position
    let (resumed, seen) = tokio::sync::oneshot::channel();
    let resumed = std::sync::Mutex::new(Some(resumed));
    let member = Member::start(read(group.clone()), move |lane: LaneHandle| {
        let resumed = (lane.partition() == 0)
            .then(|| resumed.lock().unwrap().take())
            .flatten();
        async move {
            let start = resolve_start(&lane, StartPolicy::Latest).await?;
            if let Some(resumed) = resumed {
                resumed.send(start).unwrap();
            }
            lane.stopping().cancelled().await;
            Ok(())
        }
    });
    let (start, reader): (i64, Reader) = seen.await.unwrap();
    assert_eq!(
        (start, reader.last().map(|last| last.to_string())),
        (20, Some(position(19)))
    );
    member.stop().await;

    // the metadata names another record before offset 20: as if the topic had been created anew and filled again
    let forged = Checkpoint {
        before: Some(position(77).parse().unwrap()),
        ..reader.checkpoint()
    };
    let forged = forged.to_string();
    let other = unique("g");
    let member = Member::start(read(other.clone()), move |lane: LaneHandle| {
        let forged = forged.clone();
        async move {
            lane.commit_now(20, forged).await?;
            lane.stopping().cancelled().await;
            Ok(())
        }
    });
    eventually("forged", async || match member.status.lanes().first() {
        Some(lane) if lane.done == 20 => Ok(()),
        lanes => Err(format!("{lanes:?}")),
    })
    .await;
    member.stop().await;
    let member = Member::start(read(other), |lane: LaneHandle| async move {
        if lane.partition() == 0 {
            resolve_start(&lane, StartPolicy::Earliest).await?;
        }
        lane.stopping().cancelled().await;
        Ok(())
    });
    stopped(&member, "was made from live/0/0/19, not from live/0/0/77").await;
    member.stop().await;
}
