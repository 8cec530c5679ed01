//! Exits 78 that a fault has made necessary.
//!
//! Invariant: who stopped so is left down until the last guard of its service is gone, then started again.

use std::sync::Arc;

use super::{ReplicaId, State, Wanted};

/// While it lives, exits 78 of a service are no error.
#[derive(Debug)]
pub struct ExpectedStop {
    service: &'static str,
    state: Arc<State>,
}

impl ExpectedStop {
    pub(super) const fn new(service: &'static str, state: Arc<State>) -> Self {
        Self { service, state }
    }

    /// The replicas that have exited 78 since, and are down.
    #[must_use]
    pub fn stopped(&self) -> Vec<ReplicaId> {
        let table = self.state.table();
        let of_service = table
            .replicas
            .iter()
            .filter(|(id, _)| id.service == self.service);
        of_service
            .filter(|(_, replica)| replica.wanted == Wanted::Repair)
            .map(|(id, _)| *id)
            .collect()
    }
}

impl Drop for ExpectedStop {
    fn drop(&mut self) {
        let mut table = self.state.table();
        let left = table.expected.entry(self.service).or_default();
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        for (_, replica) in table
            .replicas
            .iter_mut()
            .filter(|(id, _)| id.service == self.service)
        {
            if replica.wanted == Wanted::Repair {
                replica.wanted = Wanted::Up;
            }
        }
    }
}
