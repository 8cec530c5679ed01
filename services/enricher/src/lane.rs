//! The life of one partition: resume, take batches, commit what is acknowledged, give it back.
//!
//! Invariant: an offset is committed only when everything below it is acknowledged: as an enriched event, as a dead
//! letter, or as nothing because it needs none.

use std::sync::Arc;
use std::time::Duration;

use faults::Point;
use stream::ledger::Frontier;
use stream::lineage::Database;
use stream::{LaneError, LaneHandle, Record};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::identity;
use crate::resume;
use crate::state::Shared;
use crate::work::{Flow, Reached, Work};

/// How long the end of a lane waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs one partition until it is taken away.
pub(crate) async fn run(mut handle: LaneHandle, shared: Arc<Shared>) -> Result<(), LaneError> {
    let opened = {
        let Some(_turn) = turn(&shared.opening, &handle.stopping()).await else {
            return Ok(());
        };
        resume::open(&handle, &shared).await?
    };
    let out = shared
        .producer
        .lane(&shared.config.output.topic, handle.partition())
        .await?;
    handle.start(opened.next).await?;
    let work = Work::new(&handle, Arc::clone(&shared), opened.chain, out);
    let mut lane = Lane {
        shared,
        work,
        database: opened.database,
    };
    let max = lane.shared.config.input.batch.get();
    let mut batch = Vec::with_capacity(max);
    loop {
        tokio::select! {
            biased;
            frontier = lane.work.out.advanced() => lane.commit(&handle, &frontier?),
            taken = handle.recv_many(&mut batch, max) => {
                if taken == 0 {
                    break;
                }
                match lane.process(&mut batch).await {
                    Ok(Flow::On) => {}
                    Ok(Flow::Stopping) => break,
                    Err(error) => return Err(lane.fail(&handle, error).await),
                }
            }
        }
    }
    lane.finish(&handle).await
}

/// Waits until this partition may open; `None`: it was taken away meanwhile, and nothing is to be given back.
async fn turn<'a>(
    opening: &'a Semaphore,
    stopping: &CancellationToken,
) -> Option<SemaphorePermit<'a>> {
    // The semaphore is never closed.
    stopping.run_until_cancelled(opening.acquire()).await?.ok()
}

struct Lane {
    shared: Arc<Shared>,
    work: Work,
    database: Option<Database>,
}

impl Lane {
    async fn process(&mut self, batch: &mut Vec<Record>) -> Result<Flow, LaneError> {
        self.same_database(&batch[0])?;
        self.work.process(batch).await
    }

    /// The database may be found to be another one while the lane runs.
    fn same_database(&mut self, record: &Record) -> Result<(), LaneError> {
        match (self.database, *self.shared.database.borrow()) {
            (Some(noted), Some(now)) if noted != now => {
                let Record {
                    topic, partition, ..
                } = record;
                let reason = format!(
                    "{topic} partition {partition}: {}",
                    identity::changed(noted, now)
                );
                return Err(LaneError::stop(reason, identity::REMEDY));
            }
            (None, Some(now)) => self.database = Some(now),
            _ => {}
        }
        Ok(())
    }

    fn commit(&mut self, handle: &LaneHandle, frontier: &Frontier<Reached>) {
        self.work.spans.acknowledged(frontier.next);
        let Reached {
            progress,
            committed_at,
        } = frontier.value;
        faults::reach_blocking(Point::EnricherCommitBefore);
        handle.commit(
            frontier.next,
            self.work
                .chain
                .checkpoint(progress, self.database)
                .to_string(),
        );
        faults::reach_blocking(Point::EnricherCommitAfter);
        if let Some(at) = committed_at {
            let micros = service::clock::now().saturating_sub(at.0).max(0);
            self.shared
                .meters
                .freshness
                .record(Duration::from_micros(micros.unsigned_abs()).as_secs_f64());
        }
    }

    /// What is done stays done: it is committed before the lane ends with `error`.
    async fn fail(&self, handle: &LaneHandle, error: LaneError) -> LaneError {
        if let Some(frontier) = self.work.out.frontier() {
            let metadata = self
                .work
                .chain
                .checkpoint(frontier.value.progress, self.database)
                .to_string();
            if let Err(refused) = handle.commit_now(frontier.next, metadata).await {
                tracing::warn!(partition = handle.partition(), %refused, "the last commit failed; the output's tail decides anyway");
            }
        }
        error
    }

    /// Waits for what is in flight and commits it. What is not acknowledged in time is found by the next owner.
    async fn finish(mut self, handle: &LaneHandle) -> Result<(), LaneError> {
        let drained = tokio::time::timeout(DRAIN, self.work.out.drained()).await;
        if let Some(frontier) = self.work.out.frontier() {
            self.commit(handle, &frontier);
        }
        let clean = matches!(drained, Ok(Ok(())));
        tracing::info!(
            partition = handle.partition(),
            clean,
            "partition given back"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_taken_away_does_not_wait_for_its_turn_to_open() {
        let opening = Semaphore::new(1);
        let stopping = CancellationToken::new();
        let other = turn(&opening, &stopping).await.unwrap();
        let wait = tokio::time::timeout(DRAIN, turn(&opening, &stopping)).await;
        assert!(wait.is_err(), "the only turn is taken");
        stopping.cancel();
        let wait = tokio::time::timeout(DRAIN, turn(&opening, &stopping)).await;
        assert!(wait.unwrap().is_none());
        drop(other);
    }
}
