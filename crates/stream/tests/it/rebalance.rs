//! Members that join and leave under load: nothing lost, nothing out of order, no partition with two owners.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream::{KafkaSettings, LaneError, LaneHandle};

use crate::support::{Member, eventually, fill, number, options, settings, topic, unique, with};

const PARTITIONS: i32 = 8;
const PER_PARTITION: i64 = 10_000;

/// Who owns what, and what was done: as a sink with a store of its own would see it.
#[derive(Default)]
struct World {
    owner: BTreeMap<i32, String>,
    applied: BTreeMap<i32, Vec<i64>>,
    problems: Vec<String>,
    opened: BTreeMap<String, usize>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn acquire(&self, name: &str, partition: i32) {
        let mut world = self.0.lock().unwrap();
        *world.opened.entry(name.to_owned()).or_default() += 1;
        if let Some(other) = world.owner.insert(partition, name.to_owned()) {
            world
                .problems
                .push(format!("{name} opened {partition} while {other} had it"));
        }
    }

    fn release(&self, partition: i32) {
        self.0.lock().unwrap().owner.remove(&partition);
    }

    fn apply(&self, partition: i32, value: i64) {
        self.0
            .lock()
            .unwrap()
            .applied
            .entry(partition)
            .or_default()
            .push(value);
    }

    fn owned_by(&self, name: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .owner
            .values()
            .filter(|owner| *owner == name)
            .count()
    }

    fn total(&self) -> usize {
        self.0.lock().unwrap().applied.values().map(Vec::len).sum()
    }
}

/// Applies with a delay, so that records are in hand when the partition is taken away; commits what it applied.
async fn work(mut lane: LaneHandle, shared: Shared, name: String) -> Result<(), LaneError> {
    lane.start(lane.committed().map_or(0, |committed| committed.offset))
        .await?;
    let partition = lane.partition();
    shared.acquire(&name, partition);
    let mut batch = Vec::new();
    while lane.recv_many(&mut batch, 5).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let next = batch.last().unwrap().offset + 1;
        for record in batch.drain(..) {
            shared.apply(partition, number(&record));
        }
        lane.commit(next, String::new());
    }
    shared.release(partition);
    Ok(())
}

fn member(
    settings: &KafkaSettings,
    group: &str,
    topic: &str,
    shared: &Shared,
    name: &str,
) -> Member {
    let (shared, name) = (shared.clone(), name.to_owned());
    Member::start(options(settings.clone(), group, topic), move |lane| {
        work(lane, shared.clone(), name.clone())
    })
}

async fn owns(shared: &Shared, name: &str, least: usize) {
    eventually(
        &format!("{name} owns {least} partitions"),
        async || match shared.owned_by(name) {
            owned if owned >= least => Ok(()),
            owned => Err(format!("{owned}: {:?}", shared.0.lock().unwrap().owner)),
        },
    )
    .await;
}

/// Three members come and go while the topic is being filled and read.
async fn members_come_and_go(settings: KafkaSettings) {
    let (topic, group, shared) = (
        topic("rebalance", PARTITIONS).await,
        unique("g"),
        Shared::default(),
    );
    let filled = topic.clone();
    let filler = tokio::task::spawn_blocking(move || {
        for round in 0..10 {
            for partition in 0..PARTITIONS {
                let from = round * PER_PARTITION / 10;
                fill(&filled, partition, from..from + PER_PARTITION / 10);
            }
        }
    });
    let a = member(&settings, &group, &topic, &shared, "a");
    owns(&shared, "a", 8).await;
    let b = member(&settings, &group, &topic, &shared, "b");
    owns(&shared, "b", 3).await;
    let c = member(&settings, &group, &topic, &shared, "c");
    owns(&shared, "c", 2).await;
    a.stop().await;
    eventually("b and c own all", async || {
        let owned = shared.owned_by("b") + shared.owned_by("c");
        if owned == 8 {
            Ok(())
        } else {
            Err(owned.to_string())
        }
    })
    .await;
    c.stop().await;
    owns(&shared, "b", 8).await;
    filler.await.unwrap();
    let expected = usize::try_from(i64::from(PARTITIONS) * PER_PARTITION).unwrap();
    eventually("everything is applied", async || {
        if shared.total() >= expected {
            Ok(())
        } else {
            Err(shared.total().to_string())
        }
    })
    .await;
    b.ready().await;
    b.stop().await;
    let world = shared.0.lock().unwrap();
    assert_eq!(world.problems, Vec::<String>::new());
    for partition in 0..PARTITIONS {
        let applied = &world.applied[&partition];
        let wrong = applied
            .iter()
            .zip(0..)
            .find(|(found, expected)| *found != expected);
        assert_eq!(
            (wrong, applied.len()),
            (None, usize::try_from(PER_PARTITION).unwrap()),
            "partition {partition}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_members_come_and_go_and_every_record_is_applied_once_in_order() {
    members_come_and_go(settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_members_come_and_go_and_every_record_is_applied_once_in_order() {
    members_come_and_go(with(&[("partition.assignment.strategy", "range")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_new_group_protocol_come_and_go_and_every_record_is_applied_once_in_order() {
    members_come_and_go(with(&[("group.protocol", "consumer")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_does_not_end_is_abandoned_and_its_late_commit_dropped() {
    let (topic, group) = (topic("abandon", 1).await, unique("g"));
    fill(&topic, 0, 0..10);
    let mut slow = options(settings(), &group, &topic);
    slow.drain = Duration::from_millis(500);
    let member = Member::start(slow, |mut lane: LaneHandle| async move {
        lane.start(0).await?;
        let first = lane.recv().await.unwrap();
        lane.commit_now(first.offset + 1, "in time".into()).await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    eventually("commit", async || match member.status.lanes().first() {
        Some(lane) if lane.done == 1 => Ok(()),
        lanes => Err(format!("{lanes:?}")),
    })
    .await;
    member.stop().await;
    let found = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&found);
    let next = Member::start(
        options(settings(), &group, &topic),
        move |lane: LaneHandle| {
            *seen.lock().unwrap() = lane.committed().cloned();
            async move {
                lane.stopping().cancelled().await;
                Ok(())
            }
        },
    );
    let committed = eventually("next owner", async || {
        found.lock().unwrap().clone().ok_or_else(|| "none".into())
    })
    .await;
    assert_eq!(
        (committed.offset, committed.metadata.as_str()),
        (1, "in time")
    );
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_member_is_ready_without_a_partition() {
    let (topic, group, shared) = (topic("spare", 1).await, unique("g"), Shared::default());
    let a = member(&settings(), &group, &topic, &shared, "a");
    owns(&shared, "a", 1).await;
    let b = member(&settings(), &group, &topic, &shared, "b");
    b.ready().await;
    a.ready().await;
    let spare = if shared.owned_by("a") == 1 { &b } else { &a };
    assert_eq!(spare.status.lanes().len(), 0);
    a.stop().await;
    b.stop().await;
}
