//! The fault points inside the services: each one is reached, in each service that passes it.
//!
//! Invariant: what is drawn at random is in the table, and only a fault beside it excuses a point that was not reached.

mod table;
mod visiting;

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub use table::{Visit, all, first_starts};
pub(crate) use visiting::log_from;
pub use visiting::{first_starts_done, visit_all, visit_once};

use super::trigger::Trigger;
use super::{Class, Company};
use crate::{Arena, ReplicaId};

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "point.kill",
        about: "a replica kills itself between two particular statements",
        company: Company::Any,
        weight: 12,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "kill".to_owned())),
    },
    Class {
        name: "point.pause",
        about: "one task of a replica stalls between two particular statements",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| {
            let pause = format!("pause:{}ms", rng.random_range(200..8000));
            Box::pin(at_random(arena, rng, pause))
        },
    },
    Class {
        name: "point.stop",
        about: "a replica freezes between two particular statements",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "stop".to_owned())),
    },
    Class {
        name: "point.fail",
        about: "one step of a replica answers its error",
        company: Company::Any,
        weight: 6,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "fail".to_owned())),
    },
];

async fn at_random(arena: &Arena, rng: &mut ChaCha8Rng, action: String) -> anyhow::Result<String> {
    let mut visits = all();
    visits.retain(|visit| {
        arena.fleet.runs(visit.service)
            && visit.trigger != Trigger::FirstStart
            && (action != "fail" || visit.point.can_fail())
    });
    let visit = visits[rng.random_range(0..visits.len())];
    let arrival = match visit.trigger {
        Trigger::Load => rng.random_range(1..=4),
        _ => 1,
    };
    let id = any_replica(arena, visit.service, rng)?;
    let frozen = Duration::from_millis(rng.random_range(200..12_000)).min(arena.longest_freeze);
    let since = arena.measures.now();
    let done = visit_once(arena, id, visit, &action, arrival, frozen).await;
    match done {
        Ok(()) => Ok(format!("{id} at {}: {action}@{arrival}", visit.point)),
        // Somebody else killed or replaced the armed process, or keeps it from getting there.
        Err(error) if !arena.measures.still_alone(since) => Ok(format!(
            "{id} at {}: {action}@{arrival}, overtaken ({error})",
            visit.point
        )),
        Err(error) => Err(error),
    }
}

/// A replica with a stable name.
pub(crate) fn any_replica(
    arena: &Arena,
    service: &'static str,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<ReplicaId> {
    let mut replicas = arena.fleet.replicas_of(service);
    replicas.retain(|id| id.number <= 2);
    anyhow::ensure!(!replicas.is_empty(), "{service} has no replica");
    Ok(replicas[rng.random_range(0..replicas.len())])
}
