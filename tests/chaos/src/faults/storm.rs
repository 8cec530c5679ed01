//! Rebalance storms: members join and leave faster than a group comes to rest.
//!
//! Invariant: after a storm the service has the replicas and the protocol that it had before.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company, turn};
use crate::{Arena, ReplicaId};

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "storm.cooperative",
        about: "members join and leave every 1-3 s, cooperative protocol",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(cooperative(arena, rng)),
    },
    Class {
        name: "storm.kip848",
        about: "members join and leave every 1-3 s, group.protocol=consumer",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(kip848(arena, rng)),
    },
];

/// How long a newcomer may take to be a member.
const READY_WITHIN: Duration = Duration::from_secs(120);

async fn cooperative(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let _members = turn::over_members().await;
    let services = arena.fleet.services();
    let service = services[rng.random_range(0..services.len())];
    let turns = storm(arena, service, rng).await?;
    Ok(format!("{service}, {turns} joins and leaves"))
}

/// The members of a group change its protocol one after the other, and back. A broker that makes a consumer group a
/// classic one again, because the last static member came back as such, does not share out what was still moving between
/// members (seen with Kafka 4: three partitions of sixteen had no owner for minutes); the next newcomer brings that about.
async fn kip848(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let _members = turn::over_members().await;
    let services = arena.fleet.services();
    let service = services[rng.random_range(0..services.len())];
    let protocol = (
        "KAFKA_PROP_GROUP_PROTOCOL".to_owned(),
        "consumer".to_owned(),
    );
    arena.fleet.set_service_env(service, vec![protocol]);
    restart_all(arena, service).await?;
    let turns = storm(arena, service, rng).await;
    arena.fleet.set_service_env(service, Vec::new());
    restart_all(arena, service).await?;
    let newcomer = arena.fleet.add(service)?;
    let joined = arena.fleet.wait_ready(service, READY_WITHIN).await;
    arena.fleet.remove(newcomer).await?;
    joined?;
    Ok(format!("{service}, {} joins and leaves", turns?))
}

async fn restart_all(arena: &Arena, service: &'static str) -> anyhow::Result<()> {
    arena.fleet.hold(service).await?;
    arena.fleet.release(service);
    Ok(())
}

/// Guests come and go, old members are killed or told to stop; at the end no guest is left.
async fn storm(
    arena: &Arena,
    service: &'static str,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<usize> {
    let turns = rng.random_range(5..10);
    let mut guests: Vec<ReplicaId> = Vec::new();
    for _ in 0..turns {
        match rng.random_range(0..6) {
            0..=2 if guests.len() < 3 => guests.push(arena.fleet.add(service)?),
            3 => {
                let id = super::points::any_replica(arena, service, rng)?;
                arena.fleet.terminate(id);
            }
            _ => match guests.pop() {
                Some(guest) => arena.fleet.remove(guest).await?,
                None => guests.push(arena.fleet.add(service)?),
            },
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1000..3000))).await;
    }
    for guest in guests {
        arena.fleet.remove(guest).await?;
    }
    Ok(turns)
}
