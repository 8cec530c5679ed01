//! The clock of a process jumps.
//!
//! Invariant: only the wall clock of one process jumps, not its monotonic clock and nobody else's; the replica runs with
//! the machine's clock again when the fault returns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rand::Rng;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company};
use crate::{Arena, ReplicaId};

/// Where Debian's package `faketime` has its library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The classes of this module.
pub const CLASSES: &[Class] = &[Class {
    name: "clock.jump",
    about: "the wall clock of one replica jumps by seconds to years, forth and back",
    company: Company::Any,
    weight: 2,
    inject: |arena, rng| Box::pin(jump(arena, rng)),
}];

/// How far: within what commit times tolerate, beyond it, and absurdly.
const JUMPS: [&str; 8] = [
    "+3s", "-3s", "+90s", "-90s", "+2h", "-2h", "+3650d", "-3650d",
];

async fn jump(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    anyhow::ensure!(
        Path::new(LIBRARY).exists(),
        "{LIBRARY} is missing; next: deploy/provision/provision.sh --dev"
    );
    let replicas = arena.fleet.replicas();
    let id = *replicas.choose(rng).context("there is no replica")?;
    let jumps: Vec<&str> = JUMPS.choose_multiple(rng, 3).copied().collect();
    let file = start_with_own_clock(arena, id).await?;
    for jump in &jumps {
        set(&file, jump)?;
        let held = Duration::from_millis(rng.random_range(500..2500));
        tokio::time::sleep(held).await;
    }
    set(&file, "+0")?;
    // Its next start has no clock of its own.
    arena.fleet.kill9(id).await?;
    Ok(format!("the clock of {id} jumped to {}", jumps.join(", ")))
}

async fn start_with_own_clock(arena: &Arena, id: ReplicaId) -> anyhow::Result<PathBuf> {
    let file = arena.stack.dir().join(format!("{id}.clock"));
    set(&file, "+0")?;
    for (name, value) in [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_RESET", "1"),
    ] {
        arena.fleet.env_next_start(id, name, value);
    }
    arena.fleet.kill9(id).await?;
    crate::wait::until(&format!("{id} is ready"), READY_WITHIN, || {
        arena.fleet.ready(id)
    })
    .await?;
    Ok(file)
}

fn set(file: &Path, offset: &str) -> anyhow::Result<()> {
    // Written beside and renamed: the library may read at any time.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, format!("{offset}\n"))?;
    std::fs::rename(&draft, file).with_context(|| format!("cannot write {}", file.display()))
}
