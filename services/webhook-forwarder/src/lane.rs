//! The work on one partition of one endpoint.
//!
//! Invariant: the frontier passes a record only when it was delivered, skipped by choice, or is
//! acknowledged as a dead letter. What is held is bounded in records and bytes; a full lane takes
//! no more, which pauses its partition and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Micros;
use faults::Point;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use stream::dead_letter::Reject;
use stream::ledger::Ledger;
use stream::lineage::{Checkpoint, Reader};
use stream::{LaneError, LaneHandle, Record};
use tokio_util::sync::CancellationToken;

use crate::attempts::{Attempts, Next};
use crate::client::Answer;
use crate::delivery::{self, Job};
use crate::intake::{self, Intake, Skip};
use crate::metrics;
use crate::position;
use crate::rejection;
use crate::runtime::Runtime;
use crate::schedule::{OrderKey, Schedule};

/// Records held at once, per partition.
const HELD_RECORDS: usize = 256;
/// Bytes of records and bodies held at once, per partition.
const HELD_BYTES: usize = 1 << 20;
/// Records between the frontier and the newest one taken.
const SPAN: usize = 4096;
/// Added to the endpoint's timeout when a lane ends: time for the last dead letters.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// What came back.
enum Finished {
    Attempted {
        key: OrderKey,
        job: Job,
        answer: Option<Answer>,
    },
    DeadLettered {
        record: Record,
        reject: Reject,
        /// Of a record that was to be delivered: its place in the schedule, and its bytes.
        delivery: Option<(OrderKey, usize)>,
        outcome: Result<(), LaneError>,
    },
}

struct Lane {
    runtime: Arc<Runtime>,
    stopping: CancellationToken,
    reader: Reader,
    ledger: Ledger<Checkpoint>,
    schedule: Schedule<Job>,
    held_bytes: usize,
    committed: i64,
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
        ledger: Ledger::new(),
        schedule: Schedule::default(),
        held_bytes: 0,
        committed: next,
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
            let due = self.schedule.next_due().filter(|_| self.has_slots());
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

    /// What has come back meanwhile is settled in one go: one turn of the loop, one commit.
    fn settle_all(&mut self, first: Finished) -> Result<(), LaneError> {
        let mut next = Some(first);
        while let Some(finished) = next {
            self.settle(finished)?;
            next = self.under_way.next().now_or_never().flatten();
        }
        Ok(())
    }

    /// The same with the records that are there.
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
        self.schedule.held() + self.under_way.len() < HELD_RECORDS
            && self.held_bytes < HELD_BYTES
            && self.ledger.open() < SPAN
    }

    fn has_slots(&self) -> bool {
        self.under_way.len() < self.runtime.most_under_way
    }

    fn take(&mut self, record: Record) -> Result<(), LaneError> {
        let runtime = Arc::clone(&self.runtime);
        let endpoint = &runtime.endpoint;
        let (shape, selection) = (&endpoint.shape, endpoint.selection);
        let intake = intake::judge(&record, &mut self.reader, shape, selection);
        let offset = record.offset;
        // The next owner looks for its proof at this record, which may be one without a position.
        let checkpoint = Checkpoint {
            before: stream::resume::source_position(&record),
            ..self.reader.checkpoint()
        };
        self.ledger.record(offset, checkpoint).map_err(defect)?;
        match intake {
            // stays open in the ledger, so that the frontier ends before it
            Intake::Stop(error) => {
                service::metrics::lineage_violation();
                return Err(error);
            }
            Intake::Skip(skip) => {
                self.skipped(skip);
                self.ledger.complete(offset).map_err(defect)?;
            }
            Intake::Poison(reason) => {
                self.dead_letter(record, rejection::poison(endpoint, &reason), None);
            }
            Intake::Send(message) => self.enqueue(Job {
                record,
                message,
                attempts: Attempts::new(&endpoint.limits),
                first_failed_at: None,
            }),
        }
        Ok(())
    }

    fn enqueue(&mut self, job: Job) {
        self.held_bytes += job.size();
        self.schedule.push(Arc::clone(&job.message.key), job);
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
            && let Some((key, job)) = self.schedule.next(Instant::now())
        {
            let (runtime, stop) = (Arc::clone(&self.runtime), self.stopping.clone());
            self.under_way.push(Box::pin(async move {
                let answer = delivery::attempt(&runtime, &job, &stop).await;
                Finished::Attempted { key, job, answer }
            }));
        }
    }

    fn settle(&mut self, finished: Finished) -> Result<(), LaneError> {
        match finished {
            // not begun: it comes again with the next start of this lane
            Finished::Attempted { answer: None, .. } => Ok(()),
            Finished::Attempted {
                key,
                job,
                answer: Some(answer),
            } => self.answered(key, job, &answer),
            Finished::DeadLettered {
                record,
                reject,
                delivery,
                outcome,
            } => {
                outcome?;
                if let Some((key, bytes)) = delivery {
                    self.release(&key, bytes);
                }
                self.ledger.complete(record.offset).map_err(defect)?;
                self.runtime.spend(&record, &reject)
            }
        }
    }

    fn answered(&mut self, key: OrderKey, mut job: Job, answer: &Answer) -> Result<(), LaneError> {
        let deliveries = self.runtime.gate.deliveries();
        let random = service::backoff::random();
        let limits = &self.runtime.endpoint.limits;
        job.first_failed_at.get_or_insert(Micros(answer.at));
        match job
            .attempts
            .record(&answer.outcome, deliveries, limits, random)
        {
            Next::Finished => {
                self.runtime.taken();
                self.release(&key, job.size());
                faults::reach_blocking(Point::WebhookForwarderSettleBefore);
                self.ledger.complete(job.record.offset).map_err(defect)?;
                faults::reach_blocking(Point::WebhookForwarderSettleAfter);
            }
            Next::Retry(wait) => self.schedule.retry(&key, job, Instant::now() + wait),
            Next::Hold => self.schedule.retry(&key, job, Instant::now()),
            Next::GiveUp => {
                let reject = rejection::undelivered(&self.runtime.endpoint, &job, answer);
                let delivery = Some((key, job.size()));
                self.dead_letter(job.record, reject, delivery);
            }
        }
        Ok(())
    }

    fn dead_letter(&mut self, record: Record, reject: Reject, delivery: Option<(OrderKey, usize)>) {
        let runtime = Arc::clone(&self.runtime);
        self.under_way.push(Box::pin(async move {
            let outcome = runtime.dead_letter(&record, &reject).await;
            Finished::DeadLettered {
                record,
                reject,
                delivery,
                outcome,
            }
        }));
    }

    fn release(&mut self, key: &OrderKey, bytes: usize) {
        self.schedule.done(key);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    fn commit(&mut self, handle: &LaneHandle) {
        if let Some(frontier) = self.ledger.frontier()
            && frontier.next > self.committed
        {
            self.committed = frontier.next;
            faults::reach_blocking(Point::WebhookForwarderCommitBefore);
            handle.commit(frontier.next, frontier.value.to_string());
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

fn defect(error: stream::ledger::LedgerError) -> LaneError {
    LaneError::retry(format!("a defect in the ledger's use: {error}"))
}
