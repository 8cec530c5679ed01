//! Brings a batch into the table: does what [`Delivery`] says, and waits where the server is away.
//!
//! Invariant: it ends with every row in the table or its record in the dead letters, or says that it did not.

mod same_table;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Micros;
use opentelemetry::trace::SpanContext;
use service::Backoff;
use stream::checkpoint::Stored;
use stream::dead_letter::{Reject, RejectBudget};
use stream::headers::{self, TRACEPARENT};
use stream::{LaneError, LaneHandle, trace};
use tracing::{Instrument as _, Span};

use crate::batch::Batch;
use crate::delivery::{Delivery, Step};
use crate::error::{Reaction, ServerError};
use crate::fence::Fence;
use crate::owner::Owner;
use crate::plan::{Held, Planned, plan};
use crate::server::TableError;
use crate::sink::Sink;
use crate::witness;
use crate::write::Insert;

/// The writing half of a lane.
pub struct Deliverer {
    sink: Arc<Sink>,
    partition: i32,
    owner: Owner,
    /// An insert failed, and the table was not looked at since.
    suspicious: bool,
    /// A row that the table must hold, unless retention has taken it.
    stored: Option<Stored>,
    backoff: Backoff,
    /// Rows that the server refused, among those delivered.
    refused: RejectBudget,
}

/// Why a step was not done.
enum Trouble {
    /// Wait, then read back and try again.
    Wait(String),
    /// The lane ends.
    End(LaneError),
}

impl Deliverer {
    /// For a partition that was just assigned; `stored` is what its commit says of the table.
    #[must_use]
    pub fn new(sink: Arc<Sink>, partition: i32, stored: Option<Stored>) -> Self {
        Self {
            owner: Owner::Unknown,
            suspicious: false,
            stored,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            refused: RejectBudget::default(),
            partition,
            sink,
        }
    }

    /// Whether the table has to be asked before anything is written.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        matches!(self.owner, Owner::Unknown)
    }

    /// Delivers a batch. `false`: the lane was told to stop before that was done.
    ///
    /// # Errors
    /// The lane cannot go on.
    pub async fn deliver(
        &mut self,
        handle: &LaneHandle,
        batch: &Batch,
        links: Vec<SpanContext>,
    ) -> Result<bool, LaneError> {
        if batch.entries().is_empty() {
            return Ok(true);
        }
        let span = tracing::info_span!(
            "write batch",
            otel.kind = "client",
            db.system.name = "clickhouse",
            db.collection.name = self.sink.writer.table().name,
            messaging.destination.partition.id = self.partition,
            rows = batch.entries().len(),
        );
        trace::join(&span, links);
        let done = self.steps(handle, batch).instrument(span).await;
        self.sink.outage.ends(self.partition);
        done
    }

    async fn steps(&mut self, handle: &LaneHandle, batch: &Batch) -> Result<bool, LaneError> {
        let mut delivery = self.begin(batch);
        loop {
            let outcome = match delivery.next() {
                Step::Done => break,
                Step::Resolve { settle } => {
                    self.resolve(settle, handle, batch, &mut delivery).await
                }
                Step::Bury(entry, reason) => self
                    .bury(handle, batch, entry, reason)
                    .await
                    .map(|()| delivery.buried())
                    .map_err(Trouble::End),
                Step::Insert(run) => self.insert(run, batch, &mut delivery).await,
            };
            match outcome {
                Ok(()) => {}
                Err(Trouble::End(error)) => return Err(error),
                Err(Trouble::Wait(reason)) => {
                    self.sink.outage.begins(self.partition, reason);
                    if !self.backoff.wait(&handle.stopping()).await {
                        return Ok(false);
                    }
                }
            }
        }
        self.backoff.reset();
        self.stored = witness::among(delivery.held(batch.entries())).or(self.stored);
        let visible = batch
            .entries()
            .iter()
            .enumerate()
            .filter(|(index, _)| !delivery.buried_entries().contains(index));
        self.sink
            .metrics
            .visible(visible.map(|(_, entry)| entry), Micros((self.sink.clock)()));
        tracing::debug!(
            partition = self.partition,
            rows = batch.entries().len(),
            "batch written"
        );
        Ok(true)
    }

    /// Nothing has to be asked for a batch of which nobody else can have written a part.
    fn begin(&self, batch: &Batch) -> Delivery {
        let mut delivery = Delivery::new(self.in_doubt());
        if !self.owner.may_have_written(batch.entries()) {
            delivery.resolved(plan(
                batch.entries(),
                Held::default(),
                delivery.buried_entries(),
            ));
        }
        delivery
    }

    async fn resolve(
        &mut self,
        settle: bool,
        handle: &LaneHandle,
        batch: &Batch,
        delivery: &mut Delivery,
    ) -> Result<(), Trouble> {
        if settle {
            self.owner = Owner::Unknown;
        }
        if self.in_doubt() {
            // What is missing is then for the next owner to write; taking the partition would only disturb it.
            if handle.stopping().is_cancelled() {
                return Err(Trouble::Wait("told to stop while in doubt".into()));
            }
            self.owner = self.take().await?;
        }
        let held = self.sink.writer.read_back(batch).await;
        let held = held.map_err(|error| self.trouble(error))?;
        self.sink.metrics.read_back(held.positions.len());
        delivery.resolved(plan(batch.entries(), held, delivery.buried_entries()));
        Ok(())
    }

    /// Makes this lane the only one that can write its partition.
    async fn take(&mut self) -> Result<Owner, Trouble> {
        let (writer, partition) = (&self.sink.writer, self.partition);
        let fence = writer.take(partition).await;
        let fence = fence.map_err(|error| self.trouble(error))?;
        if self.suspicious {
            let checked = writer.check(partition, fence).await;
            checked.map_err(|error| self.trouble(error))?;
            self.suspicious = false;
        }
        let highest = self.sink.writer.highest(partition).await;
        let highest = highest.map_err(|error| self.trouble(error))?;
        self.is_same_table(&highest).await?;
        Ok(Owner::Holds(fence, highest))
    }

    async fn insert(
        &mut self,
        run: Range<usize>,
        batch: &Batch,
        delivery: &mut Delivery,
    ) -> Result<(), Trouble> {
        let Owner::Holds(fence, _) = self.owner else {
            delivery.doubted();
            return Ok(());
        };
        let rows = run.len();
        let Err(error) = self.send(delivery.rows(run), batch, fence).await else {
            delivery.inserted();
            for _ in 0..rows {
                let _ = self.refused.note(false);
            }
            return Ok(());
        };
        self.suspicious = true;
        if error.reaction() == Reaction::Halve {
            self.sink.metrics.failed(error.kind());
            tracing::warn!(partition = self.partition, rows, %error, "a row was refused, halving");
            delivery.refused_for_a_row(error.to_string());
            return Ok(());
        }
        delivery.doubted();
        Err(self.trouble(error))
    }

    async fn send(&self, rows: &[Planned], batch: &Batch, fence: Fence) -> Result<(), ServerError> {
        // The semaphore is never closed; without a slot the insert would only be one more at a time.
        let _slot = self.sink.inserts.acquire().await.ok();
        let bytes = rows.iter().map(|row| row.size(batch.entries())).sum();
        let mut data = Vec::with_capacity(bytes);
        rows.iter()
            .for_each(|row| row.write(batch.entries(), &mut data));
        let (parent, started) = (traceparent(), Instant::now());
        let insert = Insert {
            partition: self.partition,
            fence,
            stored: self.stored,
            rows: rows.len() as u64,
            data: data.into(),
        };
        let writer = &self.sink.writer;
        writer.insert(insert, parent.as_deref()).await?;
        self.sink.metrics.inserted(rows.len(), started.elapsed());
        Ok(())
    }

    /// The row is alone and refused: its record goes to the dead letters before anything else happens.
    async fn bury(
        &mut self,
        handle: &LaneHandle,
        batch: &Batch,
        entry: usize,
        reason: String,
    ) -> Result<(), LaneError> {
        let (topic, partition, offset) = (
            handle.topic(),
            self.partition,
            batch.entries()[entry].offset,
        );
        let record = handle.read_one(topic, partition, offset).await?.ok_or_else(|| {
            LaneError::stop(
                format!("topic {topic} partition {partition} offset {offset} was refused ({reason}) and has expired since"),
                "`engagectl verify` names the missing event",
            )
        })?;
        let reject = Reject::new("refused", "write", "clickhouse_sink::deliver", reason);
        self.sink.bury(&record, &reject).await?;
        self.refused.spend(&record, &reject)
    }

    fn trouble(&self, error: impl Into<TableError>) -> Trouble {
        let error = error.into();
        self.sink.metrics.failed(error.kind());
        let (reaction, remedy) = (error.reaction(), error.remedy());
        if reaction == Reaction::Stop {
            return Trouble::End(LaneError::stop(error.to_string(), remedy));
        }
        tracing::warn!(partition = self.partition, %error, "insert in doubt, reading back");
        Trouble::Wait(match reaction {
            Reaction::Missing => format!("{error}; {remedy}"),
            _ => error.to_string(),
        })
    }
}

/// The current span as a `traceparent`, if it is exported.
fn traceparent() -> Option<String> {
    let mut carrier = Vec::new();
    trace::inject_span(&Span::current(), &mut carrier);
    headers::last_text(&carrier, TRACEPARENT).map(str::to_owned)
}
