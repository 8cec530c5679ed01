//! How fresh every sink is over a stretch of time, whichever of its processes come and go meanwhile.
//!
//! Invariant: what a process has measured is counted once; of one that ends, what it measured after the last look is lost,
//! which is at most [`EVERY`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engagectl::freshness::Freshness;
use engagectl::pipeline::SINKS;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Arena, ReplicaId};

const EVERY: Duration = Duration::from_millis(200);

/// Looks at every replica until it is ended.
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
    looking: JoinHandle<Seen>,
}

/// What all processes of each sink have measured, and the last look at each process that runs.
#[derive(Debug, Default)]
struct Seen {
    sums: BTreeMap<&'static str, Freshness>,
    last: BTreeMap<(ReplicaId, u32), Freshness>,
}

impl Watch {
    /// Everything that is measured from now on counts.
    pub async fn begin(arena: &Arc<Arena>) -> Self {
        let (arena, stop) = (Arc::clone(arena), CancellationToken::new());
        let mut seen = Seen::default();
        seen.look(&arena).await;
        seen.sums.clear();
        let stopping = stop.clone();
        let looking = tokio::spawn(async move {
            while !stopping.is_cancelled() {
                tokio::time::sleep(EVERY).await;
                seen.look(&arena).await;
            }
            seen
        });
        Self { stop, looking }
    }

    /// What each sink has measured since the beginning.
    ///
    /// # Errors
    /// The looking has panicked.
    pub async fn end(self) -> anyhow::Result<BTreeMap<&'static str, Freshness>> {
        self.stop.cancel();
        Ok(self.looking.await?.sums)
    }
}

impl Seen {
    async fn look(&mut self, arena: &Arena) {
        for id in arena.fleet.replicas() {
            let Some(pid) = arena.fleet.pid(id).filter(|_| SINKS.contains(&id.service)) else {
                continue;
            };
            // A process that does not answer now is asked again.
            if let Ok(page) = arena.fleet.metrics(id).await {
                self.add(id, pid, Freshness::parse(&page, id.service));
            }
        }
    }

    fn add(&mut self, id: ReplicaId, pid: u32, now: Freshness) {
        let before = self.last.get(&(id, pid)).cloned().unwrap_or_default();
        let sum = self.sums.entry(id.service).or_default();
        *sum = sum.plus(&now.since(&before));
        self.last.insert((id, pid), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: u64) -> Freshness {
        let text = format!(
            "engage_freshness_seconds_bucket{{sink=\"redis-aggregator\",le=\"0.1\"}} {count}\n"
        );
        Freshness::parse(&text, "redis-aggregator")
    }

    #[test]
    fn a_new_process_under_an_old_name_begins_at_nothing() {
        let id = ReplicaId {
            service: "redis-aggregator",
            number: 1,
        };
        let mut seen = Seen::default();
        for (pid, count) in [(1, 10), (1, 25), (2, 7), (2, 30)] {
            seen.add(id, pid, page(count));
        }
        assert_eq!(seen.sums["redis-aggregator"].count(), 55);
    }
}
