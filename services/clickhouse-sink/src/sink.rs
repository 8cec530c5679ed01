//! One partition's lane: collect a batch, deliver it, then move the offset.
//!
//! Invariant: an offset is committed only after every row of every record below it is in the table, or the record is in
//! the dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::{EnrichedEvent, Micros, Position, Source};
use opentelemetry::trace::SpanContext;
use stream::dead_letter::{DeadLetters, Reject, RejectBudget};
use stream::lineage::{Reader, Verdict};
use stream::resume::{StartPolicy, resolve_start, source_position};
use stream::{LaneError, LaneHandle, Record, trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::batch::{Batch, Limits};
use crate::decode::decode;
use crate::deliver::Deliverer;
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::plan::Entry;
use crate::pulse::Pulse;
use crate::row::EventIdType;
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

/// The lane of one partition, from assignment to revocation.
///
/// # Errors
/// `Retry`: begin again at the committed offset. `Stop`: a human must repair.
pub async fn lane(sink: Arc<Sink>, mut handle: LaneHandle) -> Result<(), LaneError> {
    let (start, reader) = resolve_start(&handle, StartPolicy::Earliest).await?;
    let foreign = handle
        .committed()
        .map(|_| Instant::now() + sink.insert_deadline);
    handle.start(start).await?;
    let deliverer = Deliverer::new(Arc::clone(&sink), &handle, foreign);
    let before = reader.checkpoint().before;
    let lane = Lane {
        sink,
        handle,
        deliverer,
        reader,
        before,
        rejects: RejectBudget::default(),
    };
    lane.run().await
}

struct Lane {
    sink: Arc<Sink>,
    handle: LaneHandle,
    deliverer: Deliverer,
    reader: Reader,
    /// Position of the last record taken, if it carries one: the next owner proves its start by it.
    before: Option<Position>,
    rejects: RejectBudget,
}

/// A closed batch, and how the lane goes on after it.
struct Closed {
    batch: Batch,
    links: Vec<SpanContext>,
    then: Then,
}

enum Then {
    Continue,
    /// The partition is taken away, or the process stops.
    End,
    /// What the record after the batch says.
    Fail(LaneError),
}

impl Lane {
    async fn run(mut self) -> Result<(), LaneError> {
        loop {
            let Closed { batch, links, then } = self.collect().await;
            if !self.deliverer.deliver(&self.handle, &batch, links).await? {
                return Ok(());
            }
            if let Some(next) = batch.next() {
                let mut checkpoint = self.reader.checkpoint();
                checkpoint.before = self.before;
                self.handle.commit(next, checkpoint.to_string());
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
        let limits = self.sink.limits;
        let mut closed = Closed {
            batch: Batch::default(),
            links: Vec::new(),
            then: Then::Continue,
        };
        let Some(mut memory) = self.reserve().await else {
            closed.then = Then::End;
            return closed;
        };
        let mut records = Vec::new();
        loop {
            let taken = match closed.batch.due(&limits) {
                None => self.handle.recv_many(&mut records, TAKE).await,
                Some(due) => {
                    let taken = tokio::time::timeout_at(
                        due.into(),
                        self.handle.recv_many(&mut records, TAKE),
                    )
                    .await;
                    let Ok(taken) = taken else { return closed };
                    taken
                }
            };
            if taken == 0 {
                closed.then = Then::End;
                return closed;
            }
            for record in records.drain(..) {
                if let Err(error) = self.accept(&record, &mut closed).await {
                    closed.then = Then::Fail(error);
                    return closed;
                }
            }
            if closed.batch.is_full(&limits) || !self.covers(&mut memory, closed.batch.bytes()) {
                return closed;
            }
        }
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
        let now = Instant::now();
        match self.judge(record) {
            Judged::Entry(entry) => {
                closed.batch.push(*entry, now);
                if closed.links.len() < LINKS {
                    closed
                        .links
                        .extend(trace::extract(&record.headers).filter(SpanContext::is_sampled));
                }
                let _ = self.rejects.note(false);
            }
            Judged::Duplicate => {
                self.sink.metrics.duplicate();
                closed.batch.pass(record.offset, now);
            }
            Judged::Reject(reject) => {
                self.sink
                    .letters
                    .send(record, &reject, Micros((self.sink.clock)()))
                    .await?;
                tracing::warn!(
                    partition = record.partition,
                    offset = record.offset,
                    reason = reject.message,
                    "record dead-lettered"
                );
                closed.batch.pass(record.offset, now);
                self.before = source_position(record);
                self.rejects.spend(record, &reject)?;
            }
            Judged::Hole(error) => return Err(error),
        }
        self.before = source_position(record);
        Ok(())
    }

    fn judge(&mut self, record: &Record) -> Judged {
        let event = match decode(record) {
            Ok(event) => event,
            Err(poison) => {
                self.pass_over(record);
                return Judged::Reject(Reject::new(
                    "malformed",
                    "decode",
                    "clickhouse_sink::decode",
                    poison.to_string(),
                ));
            }
        };
        match self.reader.check(&event.source) {
            Verdict::Duplicate => Judged::Duplicate,
            Verdict::Hole { last, prev, found } => Judged::Hole(hole(record, last, prev, found)),
            Verdict::Apply | Verdict::Redriven => {
                entry(&event, record.offset, self.sink.writer.id_type())
            }
        }
    }

    /// A record that cannot be read still holds its place in the chain, by its header.
    fn pass_over(&mut self, record: &Record) {
        let Some(Position {
            lane,
            epoch,
            partition,
            offset,
        }) = source_position(record)
        else {
            return;
        };
        let mark = self.reader.checkpoint().mark;
        let source = Source {
            lane,
            epoch,
            partition,
            offset,
            prev: self
                .reader
                .last()
                .filter(|last| last.epoch == epoch)
                .map_or(-1, |last| last.offset),
            commit_lsn: mark.map_or(0, |mark| mark.commit_lsn),
            lsn: mark.map_or(0, |mark| mark.lsn),
            tx_id: None,
            committed_at: mark.map_or(Micros(0), |mark| mark.committed_at),
            snapshot: false,
        };
        let _ = self.reader.check(&source);
    }
}

/// What a record turned out to be.
enum Judged {
    Entry(Box<Entry>),
    Duplicate,
    Reject(Reject),
    Hole(LaneError),
}

fn entry(event: &EnrichedEvent, offset: i64, id_type: EventIdType) -> Judged {
    match Entry::of(event, offset, id_type) {
        Ok(entry) => Judged::Entry(Box::new(entry)),
        Err(error) => Judged::Reject(Reject::new(
            "unstorable",
            "encode",
            "clickhouse_sink::row",
            error.to_string(),
        )),
    }
}

fn hole(record: &Record, last: Position, prev: i64, found: Position) -> LaneError {
    service::metrics::lineage_violation();
    LaneError::stop(
        format!(
            "topic {} partition {} offset {}: records are missing between {last} and {found}, whose predecessor is {prev}",
            record.topic, record.partition, record.offset
        ),
        "see `engagectl lineage show`; then `engagectl verify` names the missing events and `engagectl backfill` brings them",
    )
}

fn kib(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
