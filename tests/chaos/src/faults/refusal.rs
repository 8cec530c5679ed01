//! A service must stop and say why, and the others must go on.
//!
//! Invariant: only what was logged after the refusal was announced counts.

use std::collections::BTreeMap;

use super::group::Group;
use crate::fleet::ExpectedStop;
use crate::{Arena, ReplicaId, wait};

/// An announced refusal.
#[derive(Debug)]
pub struct Refusal<'a> {
    arena: &'a Arena,
    service: &'static str,
    logged: BTreeMap<ReplicaId, usize>,
    expected: ExpectedStop,
}

impl<'a> Refusal<'a> {
    /// From now on this service may stop.
    #[must_use]
    pub fn expected(arena: &'a Arena, service: &'static str) -> Self {
        let ids = arena.fleet.replicas_of(service);
        Self {
            arena,
            service,
            logged: ids
                .into_iter()
                .map(|id| (id, log(arena, id).len()))
                .collect(),
            expected: arena.fleet.expecting_stop(service),
        }
    }

    /// Waits until a replica has logged a line with all these words, and is not ready or has ended for repair.
    ///
    /// # Errors
    /// Nobody has; with the last words of each.
    pub async fn is_named(&self, words: &[&str]) -> anyhow::Result<()> {
        let what = format!("{} names its refusal with {words:?}", self.service);
        let look = || async {
            for (id, before) in &self.logged {
                let log = log(self.arena, *id);
                let fresh = String::from_utf8_lossy(log.get(*before..).unwrap_or_default());
                let named = fresh
                    .lines()
                    .any(|line| words.iter().all(|word| line.contains(word)));
                let stands = self.expected.stopped().contains(id)
                    || self.arena.fleet.ready(*id).await.is_err();
                if named && stands {
                    return Ok(());
                }
            }
            Err(self.last_words())
        };
        wait::until(&what, self.arena.patience.refusal, look).await
    }

    /// Everything that stopped is started again: what stopped alone in a process that goes on needs a new process.
    pub fn repaired(self) {
        drop(self.expected);
        for id in self.logged.keys() {
            self.arena.fleet.terminate(*id);
        }
    }

    fn last_words(&self) -> Vec<String> {
        let tails = self.logged.keys();
        tails
            .map(|id| format!("{id}: {}", self.arena.fleet.log_tail(*id, 2)))
            .collect()
    }
}

/// G5 and G8: every other service is ready.
///
/// # Errors
/// Who is not.
pub async fn others_are_ready(arena: &Arena, stopped: &str) -> anyhow::Result<()> {
    let services = arena.fleet.services().into_iter();
    for service in services.filter(|name| *name != stopped) {
        arena
            .fleet
            .wait_ready(service, arena.patience.refusal)
            .await?;
    }
    Ok(())
}

/// Every other service has done all that its topic holds, so that nothing is taken from it before it was read.
///
/// # Errors
/// Who has not, and how far it is.
pub async fn others_have_read(arena: &Arena, stopped: &str) -> anyhow::Result<()> {
    let services = arena.fleet.services().into_iter();
    for service in services.filter(|name| *name != stopped) {
        let what = format!("{service} has read everything");
        wait::until(&what, arena.patience.refusal, || async {
            match Group::of(service).progress(arena).await {
                Ok((done, end)) if done >= end => Ok(()),
                Ok((done, end)) => Err(format!("{done} of {end}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
    }
    Ok(())
}

fn log(arena: &Arena, id: ReplicaId) -> Vec<u8> {
    std::fs::read(arena.fleet.log(id)).unwrap_or_default()
}
