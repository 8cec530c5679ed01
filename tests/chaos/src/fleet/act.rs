//! What is done to replicas.
//!
//! Invariant: the table is never held while a process is waited for: everything else, the proxies among it, must go on.

use std::time::Duration;

use devstack::{Process, StackError};

use super::{Fleet, ReplicaId, Wanted};

/// Longer than a service's own drain deadline.
const STOP_WITHIN: Duration = Duration::from_secs(30);

fn stop(process: &mut Process) -> Result<(), StackError> {
    process.stop(STOP_WITHIN)
}

impl Fleet {
    /// SIGTERM, and the replica is gone for good. Returns when it has ended (SIGKILL after 30 s).
    ///
    /// # Errors
    /// Where not even SIGKILL ends it.
    pub async fn remove(&self, id: ReplicaId) -> anyhow::Result<()> {
        self.with(id, |replica| replica.wanted = Wanted::Down);
        self.end_with(id, stop).await?;
        self.state.table().replicas.remove(&id);
        Ok(())
    }

    /// `kill -9`; it is started again at once. Returns when the old process is gone.
    ///
    /// # Errors
    /// Where the process stays.
    pub async fn kill9(&self, id: ReplicaId) -> anyhow::Result<()> {
        self.end_with(id, Process::kill9).await
    }

    /// Ends the process of a replica; nobody else starts, ends or looks at it meanwhile.
    async fn end_with(
        &self,
        id: ReplicaId,
        how: fn(&mut Process) -> Result<(), StackError>,
    ) -> anyhow::Result<()> {
        let Some(mut process) = self.with(id, super::Replica::lend).flatten() else {
            return Ok(());
        };
        let (process, ended) = tokio::task::spawn_blocking(move || {
            let ended = how(&mut process);
            (process, ended)
        })
        .await?;
        self.with(id, |replica| replica.give_back(process));
        Ok(ended?)
    }

    /// SIGTERM; it is started again once it has ended. Does not wait.
    pub fn terminate(&self, id: ReplicaId) {
        self.with(id, |replica| replica.terminate());
    }

    /// SIGSTOP.
    pub fn pause(&self, id: ReplicaId) {
        self.with(id, |replica| replica.pause());
    }

    /// SIGCONT.
    pub fn resume(&self, id: ReplicaId) {
        self.with(id, |replica| replica.resume());
    }

    /// SIGTERM to every replica of a service; they stay down until [`Fleet::release`]. Returns when they have ended.
    ///
    /// # Errors
    /// Where a process stays.
    pub async fn hold(&self, service: &'static str) -> anyhow::Result<()> {
        for id in self.replicas_of(service) {
            self.with(id, |replica| replica.wanted = Wanted::Down);
        }
        let ends = self
            .replicas_of(service)
            .into_iter()
            .map(|id| self.end_with(id, stop));
        futures_util::future::try_join_all(ends).await.map(drop)
    }

    /// Starts what [`Fleet::hold`] has stopped.
    pub fn release(&self, service: &str) {
        for (_, replica) in self
            .state
            .table()
            .replicas
            .iter_mut()
            .filter(|(id, _)| id.service == service)
        {
            replica.wanted = Wanted::Up;
        }
    }
}
