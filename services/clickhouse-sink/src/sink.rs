//! One partition's lane: collect a batch, deliver it, then move the offset.
//!
//! Invariant: an offset is committed only after every row of every record below it is in the table, or the record is in
//! the dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Micros;
use faults::Point;
use opentelemetry::trace::SpanContext;
use stream::checkpoint::Checkpoint;
use stream::dead_letter::{DeadLetters, Reject, RejectBudget};
use stream::resume::{StartPolicy, resolve_start};
use stream::{LaneError, LaneHandle, Record, trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::batch::{Batch, Limits};
use crate::deliver::Deliverer;
use crate::intake::{Intake, Judged};
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::pulse::Pulse;
use crate::write::Writer;

/// Records taken from the inbox at once.
const TAKE: usize = 256;
/// KiB that an open batch reserves at a time.
const STEP_KIB: usize = 64;
/// Links that a batch's span carries (the default limit of OpenTelemetry's SDK).
const LINKS: usize = 128;

/// What all lanes of the process share.
pub struct Sink {
    /// The table.
    pub writer: Writer,
    /// Where records go that cannot be stored.
    pub letters: DeadLetters,
    /// When a batch is closed.
    pub limits: Limits,
    /// KiB that open batches may hold together.
    pub memory: Arc<Semaphore>,
    /// Inserts that run at the same time.
    pub inserts: Semaphore,
    /// How long an insert of another owner may take to begin.
    pub insert_deadline: Duration,
    /// What `/readyz` says.
    pub outage: Outage,
    /// Whether this process stood still.
    pub pulse: Pulse,
    /// What is counted.
    pub metrics: Metrics,
    /// Wall clock: microseconds since 1970 UTC.
    pub clock: fn() -> i64,
}

impl Sink {
    /// Dead-letters a record; it is acknowledged when this succeeds.
    ///
    /// # Errors
    /// It is not.
    pub async fn bury(&self, record: &Record, reject: &Reject) -> Result<(), LaneError> {
        self.letters
            .send(record, reject, Micros((self.clock)()))
            .await?;
        let Record {
            partition, offset, ..
        } = *record;
        tracing::warn!(
            partition,
            offset,
            reason = reject.message,
            "record dead-lettered"
        );
        Ok(())
    }
}

/// The lane of one partition, from assignment to revocation.
///
/// # Errors
/// `Retry`: begin again at the committed offset. `Stop`: a human must repair.
pub async fn lane(sink: Arc<Sink>, mut handle: LaneHandle) -> Result<(), LaneError> {
    let (start, reader) = resolve_start(&handle, StartPolicy::Earliest).await?;
    // Without a commit somebody may still have written, and the commit be lost; of an empty log nobody has.
    let written = handle.committed().is_some() || handle.watermarks().await?.high > 0;
    let foreign = written.then(|| Instant::now() + sink.insert_deadline);
    handle.start(start).await?;
    let deliverer = Deliverer::new(Arc::clone(&sink), &handle, foreign);
    let intake = Intake::new(reader, sink.writer.id_type());
    let lane = Lane {
        sink,
        handle,
        deliverer,
        intake,
        rejects: RejectBudget::default(),
    };
    lane.run().await
}

struct Lane {
    sink: Arc<Sink>,
    handle: LaneHandle,
    deliverer: Deliverer,
    intake: Intake,
    rejects: RejectBudget,
}

/// A closed batch, and how the lane goes on after it.
#[derive(Default)]
struct Closed {
    batch: Batch,
    /// State at the batch's last record: a record that failed to be taken has no part in it.
    checkpoint: Checkpoint,
    links: Vec<SpanContext>,
    then: Then,
    /// Given back when the batch is written.
    memory: Option<OwnedSemaphorePermit>,
}

impl Closed {
    fn link(&mut self, record: &Record) {
        if self.links.len() < LINKS {
            let context = trace::extract(&record.headers);
            self.links.extend(context.filter(SpanContext::is_sampled));
        }
    }
}

#[derive(Default)]
enum Then {
    #[default]
    Continue,
    /// The partition is taken away, or the process stops.
    End,
    /// What the record after the batch says.
    Fail(LaneError),
}

impl Lane {
    async fn run(mut self) -> Result<(), LaneError> {
        loop {
            let Closed {
                batch,
                checkpoint,
                links,
                then,
                memory: _held,
            } = self.collect().await;
            if !self.deliverer.deliver(&self.handle, &batch, links).await? {
                return Ok(());
            }
            if let Some(next) = batch.next() {
                faults::reach(Point::ClickhouseSinkCommitBefore).await;
                self.handle.commit(next, checkpoint.to_string());
                faults::reach(Point::ClickhouseSinkCommitAfter).await;
            }
            match then {
                Then::Continue => {}
                Then::End => return Ok(()),
                Then::Fail(error) => return Err(error),
            }
        }
    }

    /// Takes records until the batch is due. Whatever ends it, what was taken before is delivered first.
    async fn collect(&mut self) -> Closed {
        let mut closed = Closed::default();
        closed.then = match self.reserve().await {
            None => Then::End,
            Some(mut memory) => {
                let then = self.fill(&mut closed, &mut memory).await;
                closed.memory = Some(memory);
                then
            }
        };
        closed
    }

    async fn fill(&mut self, closed: &mut Closed, memory: &mut OwnedSemaphorePermit) -> Then {
        let limits = self.sink.limits;
        let mut records = Vec::new();
        while !closed.batch.is_full(&limits) && self.covers(memory, closed.batch.bytes()) {
            let taking = self.handle.recv_many(&mut records, TAKE);
            let taken = match closed.batch.due(&limits) {
                None => taking.await,
                Some(due) => match tokio::time::timeout_at(due.into(), taking).await {
                    Ok(taken) => taken,
                    Err(_) => return Then::Continue,
                },
            };
            if taken == 0 {
                return Then::End;
            }
            for record in records.drain(..) {
                if let Err(error) = self.accept(&record, closed).await {
                    return Then::Fail(error);
                }
            }
        }
        Then::Continue
    }

    async fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        let wait = Arc::clone(&self.sink.memory).acquire_many_owned(kib(STEP_KIB));
        self.handle.stopping().run_until_cancelled(wait).await?.ok()
    }

    /// Reserves for what the batch holds and a step more; `false` when nothing is left.
    fn covers(&self, memory: &mut OwnedSemaphorePermit, bytes: usize) -> bool {
        let missing = (bytes / 1024 + STEP_KIB).saturating_sub(memory.num_permits());
        let more = Arc::clone(&self.sink.memory).try_acquire_many_owned(kib(missing));
        more.map(|more| memory.merge(more)).is_ok()
    }

    /// Puts a record into the batch, drops it as a duplicate, or dead-letters it.
    async fn accept(&mut self, record: &Record, closed: &mut Closed) -> Result<(), LaneError> {
        let judged = self.intake.judge(record);
        let checkpoint = self.intake.checkpoint(record);
        let now = Instant::now();
        match judged {
            Judged::Entry(entry) => {
                closed.batch.push(*entry, now);
                closed.link(record);
                let _ = self.rejects.note(false);
            }
            Judged::Duplicate => {
                self.sink.metrics.duplicate();
                closed.batch.pass(record.offset, now);
            }
            Judged::Reject(reject) => {
                self.sink.bury(record, &reject).await?;
                closed.batch.pass(record.offset, now);
                closed.checkpoint = checkpoint;
                return self.rejects.spend(record, &reject);
            }
            Judged::Hole(error) => {
                service::metrics::lineage_violation();
                return Err(error);
            }
        }
        closed.checkpoint = checkpoint;
        Ok(())
    }
}

fn kib(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
