//! Order, commits, restarts, back pressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stream::settings::InboxLimits;
use stream::status::LaneState;
use stream::{LaneError, LaneHandle};

use crate::support::{
    Member, Seen, collect, eventually, fill, number, options, settings, topic, unique,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_arrives_whole_and_in_order() {
    let (topic, group, seen) = (topic("order", 4).await, unique("g"), Seen::default());
    for partition in 0..4 {
        fill(&topic, partition, 0..500);
    }
    let sink = seen.clone();
    let member = Member::start(options(settings(), &group, &topic), move |lane| {
        collect(lane, sink.clone())
    });
    eventually("2000 records", async || {
        if seen.total() >= 2000 {
            Ok(())
        } else {
            Err(seen.total().to_string())
        }
    })
    .await;
    member.ready().await;
    member.stop().await;
    for partition in 0..4 {
        assert_eq!(seen.of(partition), (0..500).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_at_the_exact_offset_with_its_metadata() {
    let (topic, group) = (topic("restart", 1).await, unique("g"));
    fill(&topic, 0, 0..100);
    let first = Seen::default();
    let sink = first.clone();
    let member = Member::start(
        options(settings(), &group, &topic),
        move |mut lane: LaneHandle| {
            let sink = sink.clone();
            async move {
                assert_eq!(lane.committed(), None);
                lane.start(0).await?;
                while let Some(record) = lane.recv().await {
                    sink.note(&record);
                    if record.offset < 42 {
                        lane.commit(record.offset + 1, format!("mark-{}", record.offset));
                    }
                }
                Ok(())
            }
        },
    );
    eventually("100 records", async || {
        if first.total() == 100 {
            Ok(())
        } else {
            Err(first.total().to_string())
        }
    })
    .await;
    member.stop().await;

    let second = Seen::default();
    let sink = second.clone();
    let member = Member::start(
        options(settings(), &group, &topic),
        move |mut lane: LaneHandle| {
            let sink = sink.clone();
            async move {
                let committed = lane.committed().cloned().unwrap();
                assert_eq!(
                    (committed.offset, committed.metadata.as_str()),
                    (42, "mark-41")
                );
                lane.start(committed.offset).await?;
                while let Some(record) = lane.recv().await {
                    sink.note(&record);
                }
                Ok(())
            }
        },
    );
    eventually("58 records", async || {
        if second.total() == 58 {
            Ok(())
        } else {
            Err(second.total().to_string())
        }
    })
    .await;
    member.stop().await;
    assert_eq!(second.of(0), (42..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_reach_the_broker_while_the_lane_runs() {
    let (topic, group) = (topic("commit", 1).await, unique("g"));
    fill(&topic, 0, 0..10);
    let member = Member::start(options(settings(), &group, &topic), |lane| {
        collect(lane, Seen::default())
    });
    let reader: rdkafka::consumer::BaseConsumer = settings().probe_config(&group).create().unwrap();
    eventually("commit of offset 10", async || {
        use rdkafka::consumer::Consumer;
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition(&topic, 0);
        let list = reader
            .committed_offsets(list, Duration::from_secs(5))
            .map_err(|error| error.to_string())?;
        let element = list.find_partition(&topic, 0).unwrap();
        let found = (element.offset(), element.metadata().to_owned());
        if found == (rdkafka::Offset::Offset(10), "after 9".to_owned()) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
    eventually("lag 0", async || match member.status.lanes().as_slice() {
        [lane] if lane.lag == 0 && lane.done == 10 => Ok(()),
        lanes => Err(format!("{lanes:?}")),
    })
    .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_can_go_elsewhere_and_gets_nothing_stale() {
    let (topic, group) = (topic("reseek", 1).await, unique("g"));
    fill(&topic, 0, 0..3000);
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let member = Member::start(
        options(settings(), &group, &topic),
        move |mut lane: LaneHandle| {
            let done = Arc::clone(&flag);
            async move {
                for start in [0, 2500, 10, 1000, 10] {
                    lane.start(start).await?;
                    for expected in start..start + 200 {
                        match lane.recv().await {
                            Some(record) => {
                                assert_eq!(number(&record), expected, "started at {start}");
                            }
                            None => return Ok(()),
                        }
                    }
                }
                done.store(true, Ordering::SeqCst);
                lane.stopping().cancelled().await;
                Ok(())
            }
        },
    );
    eventually("all starts", async || {
        if done.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(format!("{:?}", member.status.lanes()))
        }
    })
    .await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_takes_nothing_holds_back_its_own_fetches_only() {
    let (topic, group, seen) = (topic("pressure", 2).await, unique("g"), Seen::default());
    for partition in 0..2 {
        fill(&topic, partition, 0..20_000);
    }
    let (sink, open) = (seen.clone(), Arc::new(AtomicBool::new(false)));
    let gate = Arc::clone(&open);
    let mut options = options(settings(), &group, &topic);
    options.inbox = InboxLimits {
        records: 100,
        kib: 64,
        fetch_kib: 16,
    };
    let member = Member::start(options, move |mut lane: LaneHandle| {
        let (seen, gate) = (sink.clone(), Arc::clone(&gate));
        async move {
            lane.start(0).await?;
            let stopping = lane.stopping();
            while lane.partition() == 0 && !gate.load(Ordering::SeqCst) {
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
            while let Some(record) = lane.recv().await {
                seen.note(&record);
            }
            Ok(())
        }
    });
    eventually("the other lane is through", async || {
        if seen.of(1).len() == 20_000 {
            Ok(())
        } else {
            Err(seen.of(1).len().to_string())
        }
    })
    .await;
    assert_eq!(seen.of(0).len(), 0);
    // librdkafka's own numbers, refreshed every 5 s; the first may be older than the first fetch
    let held = eventually("statistics", async || match member.status.lanes()[0].held {
        None | Some(0) => Err("none yet".to_owned()),
        Some(held) => Ok(held),
    })
    .await;
    assert!(
        (1..15_000).contains(&held),
        "{held} records held by a lane that takes none"
    );
    open.store(true, Ordering::SeqCst);
    eventually("the slow lane is through", async || {
        if seen.of(0).len() == 20_000 {
            Ok(())
        } else {
            Err(seen.of(0).len().to_string())
        }
    })
    .await;
    assert_eq!(seen.of(0), (0..20_000).collect::<Vec<_>>());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_fails_is_opened_again_from_its_commit() {
    let (topic, group, seen) = (topic("retry", 1).await, unique("g"), Seen::default());
    fill(&topic, 0, 0..50);
    let (sink, attempts) = (seen.clone(), Arc::new(AtomicU32::new(0)));
    let tried = Arc::clone(&attempts);
    let member = Member::start(
        options(settings(), &group, &topic),
        move |mut lane: LaneHandle| {
            let (seen, attempts) = (sink.clone(), Arc::clone(&tried));
            async move {
                let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                let start = lane.committed().map_or(0, |committed| committed.offset);
                lane.start(start).await?;
                while let Some(record) = lane.recv().await {
                    if attempt < 2 && record.offset == 20 {
                        // what the commit is about must be sure before it is relied on
                        while lane.commit_now(20, String::new()).await.is_err() {}
                        return Err(LaneError::retry("a store is away"));
                    }
                    seen.note(&record);
                }
                Ok(())
            }
        },
    );
    eventually("50 records", async || {
        if seen.total() == 50 {
            Ok(())
        } else {
            Err(format!("{:?}", seen.of(0)))
        }
    })
    .await;
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    assert_eq!(seen.of(0), (0..50).collect::<Vec<_>>());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_lane_says_so_and_the_others_go_on() {
    let (topic, group, seen) = (topic("stopped", 2).await, unique("g"), Seen::default());
    let sink = seen.clone();
    let member = Member::start(
        options(settings(), &group, &topic),
        move |lane: LaneHandle| {
            let sink = sink.clone();
            async move {
                if lane.partition() == 1 {
                    return Err(LaneError::stop(
                        "a hole after offset 5",
                        "run engagectl lineage show",
                    ));
                }
                collect(lane, sink).await
            }
        },
    );
    eventually("lane 1 stopped", async || match member.status.readiness() {
        Err(text)
            if text.contains("partition 1 is stopped: a hole after offset 5; run engagectl") =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    fill(&topic, 0, 0..10);
    eventually("lane 0 goes on", async || {
        if seen.total() == 10 {
            Ok(())
        } else {
            Err(seen.total().to_string())
        }
    })
    .await;
    assert!(matches!(
        member.status.lanes()[1].state,
        LaneState::Stopped { .. }
    ));
    assert_eq!(member.status.liveness(), Ok(()));
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_ends_when_no_lane_is_left_and_a_panic_is_one_of_the_ways() {
    let (topic, group) = (topic("none-left", 2).await, unique("g"));
    let member = Member::start(
        options(settings(), &group, &topic),
        |lane: LaneHandle| async move {
            if lane.partition() == 0 {
                panic!("a defect")
            }
            Err(LaneError::stop("a hole", "repair it"))
        },
    );
    let error = member.outcome().await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), stream::RunErrorKind::Repair);
    assert!(
        text.contains("partition 0")
            && text.contains("panicked")
            && text.contains("partition 1: a hole; repair it"),
        "{text}"
    );
}
