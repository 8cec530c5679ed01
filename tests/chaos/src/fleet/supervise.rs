//! Starts again what has ended.
//!
//! Invariant: it never sleeps while it holds the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::replica::{Ended, Replica, Wanted};
use super::{ReplicaId, State, Table, service_env};

const LOOK: Duration = Duration::from_millis(20);
/// How often memory is looked at.
const MEASURE: Duration = Duration::from_secs(1);
/// A process that ended by itself (a dependency is down) is given this long before the next one; as a container runtime
/// does, but shorter.
const BACKOFF: Duration = Duration::from_millis(500);

pub(super) async fn run(state: Arc<State>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    let mut measured = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let mut table = state.table();
        if measured.elapsed() >= MEASURE {
            measured = Instant::now();
            note_memory(&mut table);
        }
        let ids: Vec<ReplicaId> = table.replicas.keys().copied().collect();
        for id in ids {
            look(id, &mut table, &state);
        }
    }
}

/// The kernel keeps the highest resident size of a process; one that has just become another program starts anew.
fn note_memory(table: &mut Table) {
    let running: Vec<(&'static str, u32)> = table
        .replicas
        .iter()
        .filter_map(|(id, replica)| Some((id.service, replica.pid()?)))
        .collect();
    for (service, pid) in running {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0);
        let known = table.peak_kib.entry(service).or_default();
        *known = peak.max(*known);
    }
}

fn look(id: ReplicaId, table: &mut Table, state: &State) {
    let expected = table
        .expected
        .get(id.service)
        .is_some_and(|count| *count > 0);
    let env = service_env(table, id.service);
    let Some(replica) = table.replicas.get_mut(&id) else {
        return;
    };
    let mut errors = Vec::new();
    if let Some(ended) = replica.take_end() {
        tracing::debug!(replica = %id, how = ended.how, "ended");
        if ended.needs_repair() {
            note_repair(id, replica, expected, &mut errors);
        }
    }
    if replica.wanted == Wanted::Up
        && replica.is_down()
        && is_due(replica)
        && let Err(error) = replica.start(id, state, env)
    {
        errors.push(format!("{id} cannot be started: {error:#}"));
        replica.wanted = Wanted::Down;
    }
    table.errors.extend(errors);
}

fn note_repair(id: ReplicaId, replica: &mut Replica, expected: bool, errors: &mut Vec<String>) {
    if expected {
        replica.wanted = Wanted::Repair;
    } else {
        errors.push(format!(
            "{id} exited 78: it wants a repair that no fault made necessary"
        ));
    }
}

/// At once after a signal; after an exit of its own a little later.
fn is_due(replica: &Replica) -> bool {
    let by_itself = |ended: &Ended| ended.how.starts_with("exit status");
    match replica.ends.last() {
        Some(ended) if by_itself(ended) && ended.how != "exit status: 0" => {
            Instant::now() >= ended.at + BACKOFF
        }
        _ => true,
    }
}
