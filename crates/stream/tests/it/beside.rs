//! A second topic, read by whoever owns the same partition of the first.

use std::sync::{Arc, Mutex};

use stream::LaneHandle;
use stream::beside::Beside;
use stream::probe::Most;
use tokio_util::sync::CancellationToken;

use crate::support::{Member, Seen, eventually, fill, number, options, settings, topic, unique};

const MOST: Most = Most {
    records: 40,
    bytes: 1 << 20,
};

/// Reads the other topic to its end, from the group's commit, and commits after each portion.
async fn read_beside(
    mut lane: LaneHandle,
    mut beside: Beside,
    seen: Seen,
    portions: Arc<Mutex<Vec<usize>>>,
) -> Result<(), stream::LaneError> {
    let (topic, partition) = (Arc::clone(beside.topic()), lane.partition());
    lane.start(0).await?;
    let committed = lane.committed_beside(&topic).await?;
    let mut next = committed.map_or(0, |committed| committed.offset);
    let stopping = lane.stopping();
    loop {
        if beside.end(partition) <= next {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = beside.changed() => continue,
            }
        }
        let records = lane.read_some(&topic, partition, next, MOST).await?;
        portions.lock().unwrap().push(records.len());
        for record in &records {
            seen.note(record);
            next = record.offset + 1;
            assert!(number(record) >= 0);
        }
        lane.commit_beside(&topic, next, format!("after {}", next - 1))
            .await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_partition_reads_the_other_topic_once_and_the_next_owner_goes_on() {
    let (main, other) = (topic("main", 2).await, topic("other", 2).await);
    let group = unique("g");
    let (seen, portions) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
    for round in 0..2_i64 {
        fill(&other, 1, round * 100..round * 100 + 100);
        let stop = CancellationToken::new();
        let beside = Beside::watch(&settings(), &group, &other, stop.clone());
        let (sink, sizes) = (seen.clone(), Arc::clone(&portions));
        let member = Member::start(options(settings(), &group, &main), move |lane| {
            read_beside(lane, beside.clone(), sink.clone(), Arc::clone(&sizes))
        });
        let wanted = usize::try_from(round * 100 + 100).unwrap();
        eventually("everything of the other topic", async || {
            if seen.total() >= wanted {
                Ok(())
            } else {
                Err(seen.total().to_string())
            }
        })
        .await;
        member.stop().await;
        stop.cancel();
    }
    assert_eq!(seen.of(1), (0..200).collect::<Vec<_>>());
    assert!(portions.lock().unwrap().iter().all(|size| *size <= 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_later_is_found() {
    let group = unique("g");
    let name = unique("later");
    let stop = CancellationToken::new();
    let beside = Beside::watch(&settings(), &group, &name, stop.clone());
    assert_eq!(beside.end(0), 0);
    crate::support::create(&name, 1, &[]).await;
    fill(&name, 0, 0..3);
    eventually("the end of the topic", async || match beside.end(0) {
        3 => Ok(()),
        end => Err(end.to_string()),
    })
    .await;
    stop.cancel();
}
