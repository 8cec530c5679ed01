//! Services die, stop and freeze.
//!
//! Invariant: the fleet starts again whatever ended; nothing here waits for the pipeline to be idle.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company};
use crate::{Arena, ReplicaId};

/// The classes of this module.
pub const CLASSES: &[Class] = &[Class {
    name: "process.kill",
    about: "kill -9 of one replica",
    company: Company::Any,
    weight: 10,
    inject: |arena, rng| Box::pin(kill(arena, rng)),
}];

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let replica = choose(arena, rng);
    arena.fleet.kill9(replica).await?;
    Ok(format!("killed {replica}"))
}

/// One of the replicas that exist now.
fn choose(arena: &Arena, rng: &mut ChaCha8Rng) -> ReplicaId {
    let replicas = arena.fleet.replicas();
    replicas[rng.random_range(0..replicas.len())]
}
