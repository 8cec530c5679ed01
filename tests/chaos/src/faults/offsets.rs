//! Group offsets deleted, rewound, forwarded.
//!
//! Invariant: a group is changed only while no member of it runs; a position that a service must refuse is put back
//! after it was refused.

use std::time::Duration;

use anyhow::Context as _;
use devstack::Kind;
use futures_util::future::try_join_all;
use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::group::{COMMIT_READERS, Commit, DELIVERS, Group};
use super::refusal::Refusal;
use super::{Class, Company, turn};
use crate::{Arena, wait};

/// A member that was killed keeps its place until its session ends.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What is delivered again is work of a millisecond each: more than this would make a drain long.
const DELIVERED_AGAIN: i64 = 15_000;

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "offsets.deleted",
        about: "the committed offsets of a group are gone",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(deleted(arena, rng)),
    },
    Class {
        name: "offsets.rewound",
        about: "a group's offsets go back to earlier commits of its own",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(rewound(arena, rng)),
    },
    Class {
        name: "offsets.forwarded",
        about: "a tool sets every group to the end: ignored by those with a position of their own, refused by the others",
        company: Company::None,
        weight: 1,
        inject: |arena, _| Box::pin(forwarded(arena)),
    },
];

async fn deleted(arena: &Arena, _: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let _members = turn::over_members().await;
    let _broker = turn::at(Kind::Kafka).await;
    let mut groups = Group::all(arena);
    groups.retain(|group| !group.delivers());
    let webhooks = Group::of(DELIVERS);
    let delivered = webhooks.committed(arena).await?;
    let few = delivered.iter().map(|commit| commit.offset).sum::<i64>() <= DELIVERED_AGAIN;
    if few && arena.fleet.runs(DELIVERS) {
        groups.push(webhooks);
    }
    let each = groups.iter().map(|group| async move {
        arena.fleet.hold(group.service).await?;
        let outcome = group.delete(arena).await;
        arena.fleet.release(group.service);
        outcome
    });
    try_join_all(each).await?;
    let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
    Ok(format!("deleted the offsets of {}", names.join(", ")))
}

async fn rewound(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let _members = turn::over_members().await;
    let _broker = turn::at(Kind::Kafka).await;
    let seed: u64 = rng.random();
    let each = Group::all(arena).into_iter().map(|group| async move {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        arena.fleet.hold(group.service).await?;
        let outcome = rewind(arena, group, &mut rng).await;
        arena.fleet.release(group.service);
        outcome
    });
    let records: i64 = try_join_all(each).await?.into_iter().sum();
    Ok(format!("rewound every group, by {records} records in all"))
}

/// To commits as the service itself would have made them: its checkpoint speaks of the record before.
async fn rewind(arena: &Arena, group: Group, rng: &mut ChaCha8Rng) -> anyhow::Result<i64> {
    let mut commits = group.committed(arena).await?;
    let mut records = 0;
    for commit in &mut commits {
        let mut low = group.low(arena, commit.partition).await?;
        if group.delivers() {
            low = low.max(commit.offset - DELIVERED_AGAIN / 100);
        }
        let to = rng.random_range(low.min(commit.offset)..=commit.offset);
        records += commit.offset - to;
        *commit = group.commit_at(arena, commit.partition, to).await?;
    }
    group.commit(arena, commits).await?;
    Ok(records)
}

async fn forwarded(arena: &Arena) -> anyhow::Result<String> {
    let _members = turn::over_members().await;
    let _broker = turn::at(Kind::Kafka).await;
    // At once, because each waits for the session of a member that has left.
    let each = Group::all(arena).into_iter().map(|group| async move {
        let outcome = match group.trusts_its_commit() {
            true => refuses_a_foreign_position(arena, group).await,
            false => ignores_a_foreign_position(arena, group).await,
        };
        outcome.with_context(|| format!("{} forwarded", group.name))
    });
    try_join_all(each).await?;
    Ok(format!(
        "forwarded every group; {COMMIT_READERS:?} refused by name"
    ))
}

async fn ignores_a_foreign_position(arena: &Arena, group: Group) -> anyhow::Result<()> {
    arena.fleet.hold(group.service).await?;
    let outcome = forward(arena, group).await;
    arena.fleet.release(group.service);
    outcome?;
    arena.fleet.wait_ready(group.service, READY_WITHIN).await
}

/// As `kafka-consumer-groups --reset-offsets --to-latest` does: without any metadata. Returns what was there.
async fn forward(arena: &Arena, group: Group) -> anyhow::Result<Vec<Commit>> {
    let before = group.committed(arena).await?;
    let mut commits = Vec::new();
    for commit in &before {
        let high = group.high(arena, commit.partition).await?;
        // Where nothing was ever written, no position of its own outweighs the commit.
        if high > 0 {
            commits.push(Commit {
                offset: high,
                metadata: String::new(),
                ..*commit
            });
        }
    }
    group.commit(arena, commits).await?;
    Ok(before)
}

async fn refuses_a_foreign_position(arena: &Arena, group: Group) -> anyhow::Result<()> {
    has_a_position(arena, group).await?;
    let refusal = Refusal::expected(arena, group.service);
    arena.fleet.hold(group.service).await?;
    let before = forward(arena, group).await;
    arena.fleet.release(group.service);
    let before = before?;
    let named = refusal
        .is_named(&["carries no usable checkpoint", "engagectl lineage adopt"])
        .await;
    arena.fleet.hold(group.service).await?;
    let put_back = group.commit(arena, before).await;
    arena.fleet.release(group.service);
    refusal.repaired();
    put_back?;
    named
}

/// A group whose offsets were deleted has none until it has done something again.
async fn has_a_position(arena: &Arena, group: Group) -> anyhow::Result<()> {
    let what = format!("{} commits again", group.name);
    let committed = || async {
        let commits = group.committed(arena).await;
        let commits = commits.map_err(|error| format!("{error:#}"))?;
        let some = !commits.is_empty();
        some.then_some(()).ok_or_else(|| "no commit".to_owned())
    };
    wait::until(&what, READY_WITHIN, committed).await
}
