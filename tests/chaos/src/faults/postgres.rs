//! Postgres: killed with all its backends, and frozen.
//!
//! Invariant: each fault heals what it broke before it returns.

use std::time::Duration;

use devstack::Kind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company, turn};
use crate::Arena;

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "postgres.restart",
        about: "an immediate end of Postgres and its recovery",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(restart(arena, rng)),
    },
    Class {
        name: "postgres.freeze",
        about: "SIGSTOP of Postgres and all its backends",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(freeze(arena, rng)),
    },
];

async fn restart(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_millis(rng.random_range(0..2000));
    let _turn = turn::at(Kind::Postgres).await;
    let server = arena.stack.postgres();
    server.kill9().await?;
    tokio::time::sleep(down).await;
    server.start().await?;
    Ok(format!("ended Postgres at once, down for {down:?}"))
}

async fn freeze(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let frozen = Duration::from_millis(rng.random_range(500..4000));
    let _turn = turn::at(Kind::Postgres).await;
    let server = arena.stack.postgres();
    server.pause()?;
    tokio::time::sleep(frozen).await;
    server.resume()?;
    server.wait_ready().await?;
    Ok(format!("froze Postgres for {frozen:?}"))
}
