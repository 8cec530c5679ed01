//! The work on one partition of one endpoint.
//!
//! Invariant: the frontier passes a record only when it was delivered, skipped by choice, or is
//! acknowledged as a dead letter. What is held is bounded (`Pending`); a full lane takes
//! no more, which pauses its partition and nothing else.

mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Point;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use stream::lineage::{Checkpoint, Reader};
use stream::{LaneError, LaneHandle, Record};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::delivery::{self, Job};
use crate::intake::{self, Intake, Skip};
use crate::metrics;
use crate::pending::Pending;
use crate::position;
use crate::rejection;
use crate::runtime::Runtime;
use crate::traced::Traced;
use settle::Finished;

/// Added to the endpoint's timeout when a lane ends: time for the last dead letters.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(2);

struct Lane {
    runtime: Arc<Runtime>,
    stopping: CancellationToken,
    reader: Reader,
    pending: Pending,
    under_way: FuturesUnordered<BoxFuture<'static, Finished>>,
}

/// Works on one partition until it is told to stop.
///
/// # Errors
/// What ends the lane, see [`LaneError`].
pub async fn run(runtime: Arc<Runtime>, mut handle: LaneHandle) -> Result<(), LaneError> {
    let (next, reader) = position::find(&handle).await?;
    handle.start(next).await?;
    let mut lane = Lane {
        stopping: handle.stopping(),
        runtime,
        reader,
        pending: Pending::starting_at(next),
        under_way: FuturesUnordered::new(),
    };
    let outcome = lane.work(&mut handle).await;
    lane.drain(&handle).await;
    outcome
}

impl Lane {
    async fn work(&mut self, handle: &mut LaneHandle) -> Result<(), LaneError> {
        let stopping = self.stopping.clone();
        loop {
            self.dispatch();
            let due = self.pending.next_due().filter(|_| self.has_slots());
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(finished) = self.under_way.next() => self.settle_all(finished)?,
                () = sleep_until(due) => {}
                record = handle.recv(), if self.has_room() => match record {
                    Some(record) => self.take_all(record, handle)?,
                    None => return Ok(()),
                },
            }
            self.commit(handle);
        }
    }

    /// All records that are there are taken in one go: one turn of the loop, one commit.
    fn take_all(&mut self, first: Record, handle: &mut LaneHandle) -> Result<(), LaneError> {
        let mut next = Some(first);
        while let Some(record) = next {
            self.take(record)?;
            next = if self.has_room() {
                handle.try_recv()
            } else {
                None
            };
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.pending.has_room(self.under_way.len())
    }

    fn has_slots(&self) -> bool {
        self.under_way.len() < self.runtime.most_under_way
    }

    fn take(&mut self, record: Record) -> Result<(), LaneError> {
        let runtime = Arc::clone(&self.runtime);
        let endpoint = &runtime.endpoint;
        let (name, shape, selection) = (&endpoint.name, &endpoint.shape, endpoint.selection);
        let intake = intake::judge(&record, &mut self.reader, name, shape, selection);
        let offset = record.offset;
        // The next owner looks for its proof at this record, which may be one without a position.
        let checkpoint = Checkpoint {
            before: stream::resume::source_position(&record),
            ..self.reader.checkpoint()
        };
        self.pending.open(offset, checkpoint)?;
        match intake {
            // stays open in the ledger, so that the frontier ends before it
            Intake::Stop(error) => {
                service::metrics::lineage_violation();
                return Err(error);
            }
            Intake::Skip(skip) => {
                self.skipped(skip);
                self.pending.complete(offset)?;
            }
            Intake::Poison(reason) => {
                self.dead_letter(record, rejection::poison(endpoint, &reason), None, None);
            }
            Intake::Send(message) => {
                let now = service::clock::now();
                self.pending.enqueue(Job {
                    traced: Traced::begin(runtime.sender(), &record, &message, now),
                    record,
                    message,
                    attempts: Attempts::new(&endpoint.limits),
                    first_failed_at: None,
                });
            }
        }
        Ok(())
    }

    fn skipped(&self, skip: Skip) {
        match skip {
            Skip::Duplicate => service::metrics::duplicates_dropped(crate::NAME, "position", 1),
            Skip::Unwanted => metrics::skipped(&self.runtime.endpoint.name),
        }
    }

    /// Begins what may begin.
    fn dispatch(&mut self) {
        while self.has_slots()
            && let Some((key, job)) = self.pending.next(Instant::now())
        {
            let (runtime, stop) = (Arc::clone(&self.runtime), self.stopping.clone());
            self.under_way.push(Box::pin(async move {
                let answer = delivery::attempt(&runtime, &job, &stop).await;
                Finished::Attempted { key, job, answer }
            }));
        }
    }

    fn commit(&mut self, handle: &LaneHandle) {
        if let Some((next, checkpoint)) = self.pending.take_commit() {
            faults::reach_blocking(Point::WebhookForwarderCommitBefore);
            handle.commit(next, checkpoint);
            faults::reach_blocking(Point::WebhookForwarderCommitAfter);
        }
    }

    /// Finishes what is under way; nothing new begins.
    async fn drain(&mut self, handle: &LaneHandle) {
        self.stopping.cancel();
        let limit = self.runtime.endpoint.timeout + DRAIN_MARGIN;
        let rest = async {
            while let Some(finished) = self.under_way.next().await {
                if let Err(error) = self.settle(finished) {
                    tracing::warn!(partition = handle.partition(), %error, "while stopping");
                }
            }
        };
        if tokio::time::timeout(limit, rest).await.is_err() {
            tracing::warn!(
                partition = handle.partition(),
                "attempts under way given up; they come again"
            );
        }
        self.commit(handle);
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
