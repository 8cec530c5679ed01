//! Services die, stop and freeze.
//!
//! Invariant: the fleet starts again whatever ended; nothing here waits for the pipeline to be idle.

use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::points::{any_replica, log_from};
use super::{Class, Company};
use crate::{Arena, ReplicaId, wait};

/// How long a service may take to work again before that is a failure of its own.
const WORKS_WITHIN: Duration = Duration::from_secs(60);
/// After this time the broker takes a member for dead (`session.timeout.ms` of the services).
const SESSION: Duration = Duration::from_secs(6);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "process.kill",
        about: "kill -9 of one replica; how long until it works again",
        company: Company::Any,
        weight: 12,
        inject: |arena, rng| Box::pin(kill(arena, rng)),
    },
    Class {
        name: "process.term",
        about: "SIGTERM of one replica under load",
        company: Company::Any,
        weight: 6,
        inject: |arena, rng| Box::pin(terminate(arena, rng)),
    },
    Class {
        name: "process.freeze",
        about: "SIGSTOP for less than a session, then SIGCONT",
        company: Company::Any,
        weight: 5,
        inject: |arena, rng| Box::pin(freeze(arena, rng)),
    },
    Class {
        name: "process.zombie",
        about: "SIGSTOP until its partitions have moved, then SIGCONT",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(zombie(arena, rng)),
    },
];

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    kill_one(arena, choose(arena, rng)?).await
}

async fn kill_one(arena: &Arena, id: ReplicaId) -> anyhow::Result<String> {
    let (since, killed) = (arena.measures.now(), Instant::now());
    arena.fleet.kill9(id).await?;
    let what = format!("{id} works again");
    let worked = wait::until(&what, WORKS_WITHIN, || async {
        if has_effect(arena, id).await {
            Ok(())
        } else {
            Err(arena.fleet.ready(id).await)
        }
    });
    let worked = worked.await;
    let took = killed.elapsed();
    if !arena.measures.still_alone(since) {
        return Ok(format!("{id}, among other faults"));
    }
    worked?;
    arena.measures.recovered(took);
    Ok(format!("{id}, works again after {} ms", took.as_millis()))
}

/// Kills each service so often, nothing else happening, and measures how long each takes to work again.
///
/// # Errors
/// A service that does not.
pub async fn measure_recovery(arena: &Arena, rounds: usize) -> anyhow::Result<()> {
    for round in 0..rounds {
        for service in arena.fleet.services() {
            let id = ReplicaId {
                service,
                number: round % 2 + 1,
            };
            arena.measures.begin();
            let done = kill_one(arena, id).await;
            arena.measures.end();
            crate::run::say(&format!("process.kill: {}", done?));
            arena.measures.count("process.kill");
        }
    }
    Ok(())
}

/// Whether the present process of a replica has made an event visible in its sink.
pub async fn has_effect(arena: &Arena, id: ReplicaId) -> bool {
    let page = arena.fleet.metrics(id).await.unwrap_or_default();
    page.lines()
        .filter(|line| line.starts_with("engage_freshness_seconds_count"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .any(|count| count > 0.0)
}

async fn terminate(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let id = choose(arena, rng)?;
    let (since, (_, before)) = (arena.measures.now(), arena.fleet.history(id));
    arena.fleet.terminate(id);
    let what = format!("{id} ends");
    let ended = wait::until(&what, Duration::from_secs(40), || async {
        let (_, ends) = arena.fleet.history(id);
        (ends.len() > before.len())
            .then(|| ends[0].how.clone())
            .ok_or("it still runs")
    });
    match ended.await {
        Ok(how) => {
            let undisturbed = arena.measures.still_alone(since);
            anyhow::ensure!(
                how == "exit status: 0" || !undisturbed,
                "{id} ended with {how} after SIGTERM"
            );
            Ok(format!("{id}, {how}"))
        }
        Err(_) if !arena.measures.still_alone(since) => Ok(format!("{id}, among other faults")),
        Err(error) => Err(error),
    }
}

async fn freeze(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let id = choose(arena, rng)?;
    let frozen = Duration::from_millis(rng.random_range(500..5500));
    arena.fleet.pause(id);
    tokio::time::sleep(frozen).await;
    arena.fleet.resume(id);
    Ok(format!("{id} for {} ms", frozen.as_millis()))
}

async fn zombie(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let id = choose(arena, rng)?;
    let longest = arena.longest_freeze.max(SESSION * 2);
    let frozen = Duration::from_millis(
        rng.random_range(9_000..=u64::try_from(longest.as_millis()).unwrap_or(60_000)),
    );
    let others: Vec<(ReplicaId, u64)> = arena
        .fleet
        .replicas_of(id.service)
        .into_iter()
        .filter(|other| *other != id)
        .map(|other| {
            (
                other,
                std::fs::metadata(arena.fleet.log(other)).map_or(0, |m| m.len()),
            )
        })
        .collect();
    let (since, begun) = (arena.measures.now(), Instant::now());
    arena.fleet.pause(id);
    let what = format!("another replica takes over from frozen {id}");
    let moved = wait::until(&what, frozen.max(SESSION * 3), || async {
        let took = |(other, offset): &(ReplicaId, u64)| {
            log_from(arena, *other, *offset).contains("partitions assigned")
        };
        others
            .iter()
            .any(took)
            .then_some(())
            .ok_or("nobody was assigned anything")
    });
    let moved = moved.await;
    tokio::time::sleep(frozen.saturating_sub(begun.elapsed())).await;
    arena.fleet.resume(id);
    if arena.measures.still_alone(since) {
        moved?;
        return Ok(format!(
            "{id} for {} ms, its partitions moved",
            begun.elapsed().as_millis()
        ));
    }
    Ok(format!(
        "{id} for {} ms, among other faults",
        begun.elapsed().as_millis()
    ))
}

/// One of the replicas with a stable name, of any service.
fn choose(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<ReplicaId> {
    let services = arena.fleet.services();
    any_replica(arena, services[rng.random_range(0..services.len())], rng)
}
