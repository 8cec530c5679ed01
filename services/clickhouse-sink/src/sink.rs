//! One partition's lane: collect a batch, deliver it, then move the offset.
//!
//! Invariant: an offset is committed only after every row of every record below it is in the table, or the record is in
//! the dead letters.

mod collect;

use std::sync::Arc;
use std::time::Duration;

use engagement::event::Micros;
use faults::{Point, Rule};
use stream::checkpoint::Checkpoint;
use stream::dead_letter::{DeadLetters, Reject, RejectBudget};
use stream::resume::{StartPolicy, resolve_start};
use stream::trace::Watched;
use stream::{LaneError, LaneHandle, Record};

use crate::backfill::{Backfill, Source};
use crate::batch::{Batch, Limits};
use crate::deliver::Deliverer;
use crate::intake::Intake;
use crate::memory::{Budget, Share};
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::pace::Pace;
use crate::write::Writer;

/// What all lanes of the process share.
pub struct Sink {
    /// The table.
    pub writer: Writer,
    /// Where records go that cannot be stored.
    pub letters: DeadLetters,
    /// When a batch is full.
    pub limits: Limits,
    /// When batches leave.
    pub pace: Pace,
    /// What batches may hold together.
    pub memory: Budget,
    /// What `/readyz` says.
    pub outage: Outage,
    /// What a backfill brings; `None`: nothing is read of it.
    pub backfill: Option<Source>,
    /// What is counted.
    pub metrics: Metrics,
    /// Wall clock: microseconds since 1970 UTC.
    pub clock: fn() -> i64,
}

impl Sink {
    /// How long ago that was; nothing for what is in the future.
    fn age(&self, committed_at: Micros) -> Duration {
        let age = (self.clock)().saturating_sub(committed_at.0);
        Duration::from_micros(u64::try_from(age).unwrap_or(0))
    }

    /// Dead-letters a record; it is acknowledged when this succeeds.
    ///
    /// # Errors
    /// It is not.
    pub async fn bury(&self, record: &Record, reject: &Reject) -> Result<(), LaneError> {
        self.letters
            .send(record, reject, Micros((self.clock)()))
            .await
    }
}

/// The lane of one partition, from assignment to revocation.
///
/// # Errors
/// `Retry`: begin again at the committed offset. `Stop`: a human must repair.
pub async fn lane(sink: Arc<Sink>, mut handle: LaneHandle) -> Result<(), LaneError> {
    let (start, reader) = resolve_start(&handle, StartPolicy::Earliest).await?;
    let committed = handle
        .committed()
        .and_then(|commit| commit.metadata.parse::<Checkpoint>().ok());
    let known = committed.unwrap_or_default();
    let stored = known.stored;
    let mut deliverer = Deliverer::new(Arc::clone(&sink), handle.partition(), &known);
    handle.start(start).await?;
    if !deliverer.open(&handle).await? {
        return Ok(());
    }
    if let Some(checkpoint) = committed.filter(|_| deliverer.stored() != stored) {
        // what was found to have passed is not asked about again, when less may be there to explain it
        let checkpoint = Checkpoint {
            stored: None,
            ..checkpoint
        };
        handle.commit(start, checkpoint.to_string());
    }
    let intake = Intake::new(reader, sink.writer.id_type());
    let lane = Lane {
        backfill: Backfill::new(sink.backfill.as_ref(), handle.partition()),
        done: start,
        sink,
        group: handle.group().into(),
        handle,
        deliverer,
        intake,
        rejects: RejectBudget::default(),
    };
    lane.run().await
}

struct Lane {
    sink: Arc<Sink>,
    group: Arc<str>,
    handle: LaneHandle,
    deliverer: Deliverer,
    intake: Intake,
    rejects: RejectBudget,
    /// Every record below it is in the table.
    done: i64,
    backfill: Backfill,
}

/// Counts a dead letter, unless it was one before: then it says nothing about the stream.
pub(crate) fn spend(
    budget: &mut RejectBudget,
    record: &Record,
    reject: &Reject,
) -> Result<(), LaneError> {
    if stream::redrive::is_copy(record) {
        return Ok(());
    }
    budget.spend(record, reject)
}

/// A closed batch, and how the lane goes on after it.
#[derive(Default)]
struct Closed {
    batch: Batch,
    /// State at the batch's last record: a record that failed to be taken has no part in it.
    checkpoint: Checkpoint,
    watched: Watched,
    then: Then,
    /// Given back when the batch is written.
    memory: Option<Share>,
}

#[derive(Default)]
enum Then {
    #[default]
    Continue,
    /// Nothing live waits, and a backfill has brought something.
    Beside,
    /// The partition is taken away, or the process stops.
    End,
    /// What the record after the batch says.
    Fail(LaneError),
}

impl Lane {
    async fn run(mut self) -> Result<(), LaneError> {
        loop {
            let Closed {
                mut batch,
                checkpoint,
                watched,
                then,
                memory: _held,
            } = self.collect().await;
            if faults::is_broken(Rule::EffectFirst) {
                self.commit(&batch, checkpoint).await;
            }
            let delivering = self.deliverer.deliver(&self.handle, &mut batch, watched);
            if !delivering.await? {
                return Ok(());
            }
            self.commit(&batch, checkpoint).await;
            self.done = batch.next().unwrap_or(self.done);
            match then {
                Then::Continue => {}
                Then::Beside => {
                    if !self.beside().await {
                        return Ok(());
                    }
                }
                Then::End => return Ok(()),
                Then::Fail(error) => return Err(error),
            }
        }
    }

    /// Writes what may be written of the backfill, once. `false`: told to stop before that was done. What is wrong with its records
    /// is the backfill's alone; what is wrong with the table, the next live batch meets by itself.
    async fn beside(&mut self) -> bool {
        let (sink, handle) = (&self.sink, &self.handle);
        let Some(mut portion) = self.backfill.gather(sink, handle, self.done).await else {
            return true;
        };
        let watched = Watched::of(&self.group);
        let delivering = self.deliverer.deliver(handle, &mut portion.batch, watched);
        match delivering.await {
            Ok(true) => self.backfill.written(sink, handle, portion).await,
            Ok(false) => return false,
            Err(error) => {
                self.deliverer.gave_up();
                self.backfill.unwritten(sink, error);
            }
        }
        true
    }

    async fn commit(&self, batch: &Batch, checkpoint: Checkpoint) {
        if let Some(next) = batch.next() {
            let checkpoint = Checkpoint {
                stored: self.deliverer.stored(),
                ..checkpoint
            };
            faults::reach(Point::ClickhouseSinkCommitBefore).await;
            self.handle.commit(next, checkpoint.to_string());
            faults::reach(Point::ClickhouseSinkCommitAfter).await;
        }
    }
}
