//! Brings a batch into the table: does what [`Delivery`] says, and waits where the server is away.
//!
//! Invariant: it ends with every row in the table or its record in the dead letters, or says that it did not.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::{Lane, Micros};
use opentelemetry::trace::SpanContext;
use service::Backoff;
use stream::dead_letter::{Reject, RejectBudget};
use stream::headers::{self, TRACEPARENT};
use stream::{LaneError, LaneHandle, trace};
use tracing::{Instrument as _, Span};

use crate::batch::Batch;
use crate::delivery::{Delivery, Step};
use crate::error::{Reaction, ServerError};
use crate::owner::Owner;
use crate::plan::{Held, Planned, plan};
use crate::server::TableError;
use crate::sink::Sink;
use crate::write::Insert;

/// The writing half of a lane.
pub struct Deliverer {
    sink: Arc<Sink>,
    partition: i32,
    /// What the ids of this lane's inserts begin with.
    prefix: String,
    /// Who owned the partition before us may still have inserts on the way.
    owner: Owner,
    /// Until when an insert of ours that was never answered may still begin.
    unanswered: Option<Instant>,
    standstills: u64,
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
    /// For a partition that was just assigned. `foreign`: until when an insert of its last owner could still begin.
    #[must_use]
    pub fn new(sink: Arc<Sink>, handle: &LaneHandle, foreign: Option<Instant>) -> Self {
        let partition = handle.partition();
        Self {
            prefix: sink
                .writer
                .table()
                .query_prefix(Lane::Live.name(), partition),
            standstills: sink.pulse.standstills(Instant::now()),
            owner: Owner::Unknown(foreign),
            unanswered: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            refused: RejectBudget::default(),
            partition,
            sink,
        }
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
    fn begin(&mut self, batch: &Batch) -> Delivery {
        self.note_standstill();
        let mut delivery = Delivery::new(matches!(self.owner, Owner::Unknown(_)));
        if !self.owner.may_have_written(batch.entries()) {
            delivery.resolved(plan(
                batch.entries(),
                Held::default(),
                delivery.buried_entries(),
            ));
        }
        delivery
    }

    /// While the process stood still another one may have taken the partition over, written, and be writing yet.
    fn note_standstill(&mut self) {
        let standstills = self.sink.pulse.standstills(Instant::now());
        if std::mem::replace(&mut self.standstills, standstills) != standstills {
            tracing::warn!(
                partition = self.partition,
                "the process stood still, reading back"
            );
            self.owner = Owner::Unknown(Some(Instant::now() + self.sink.insert_deadline));
        }
    }

    async fn resolve(
        &mut self,
        settle: bool,
        handle: &LaneHandle,
        batch: &Batch,
        delivery: &mut Delivery,
    ) -> Result<(), Trouble> {
        self.note_standstill();
        let writer = &self.sink.writer;
        if settle {
            let until = self.owner.may_begin_until().max(self.unanswered);
            writer
                .settle(&self.prefix, until)
                .await
                .map_err(|error| self.table_trouble(error))?;
            self.unanswered = None;
        }
        // Whoever stood still may have lost the partition meanwhile; what is missing is then for another to write.
        if matches!(self.owner, Owner::Unknown(_)) && handle.stopping().is_cancelled() {
            return Err(Trouble::Wait("told to stop while in doubt".into()));
        }
        if let Owner::Unknown(_) = self.owner {
            let highest = writer
                .highest(self.partition)
                .await
                .map_err(|error| self.trouble(&error))?;
            self.owner = Owner::Reached(highest);
        }
        let held = writer
            .read_back(batch)
            .await
            .map_err(|error| self.trouble(&error))?;
        self.sink.metrics.read_back(held.positions.len());
        delivery.resolved(plan(batch.entries(), held, delivery.buried_entries()));
        Ok(())
    }

    async fn insert(
        &mut self,
        run: Range<usize>,
        batch: &Batch,
        delivery: &mut Delivery,
    ) -> Result<(), Trouble> {
        let rows = run.len();
        match self.send(delivery.rows(run), batch).await {
            Ok(()) => {
                self.unanswered = None;
                delivery.inserted();
                for _ in 0..rows {
                    let _ = self.refused.note(false);
                }
                Ok(())
            }
            Err(error) if error.reaction() == Reaction::Halve => {
                self.sink.metrics.failed(&error);
                tracing::warn!(partition = self.partition, rows, %error, "a row was refused, halving");
                self.unanswered = None;
                delivery.refused_for_a_row(error.to_string());
                Ok(())
            }
            Err(error) => {
                delivery.doubted();
                if error.is_answer() {
                    self.unanswered = None;
                }
                Err(self.trouble(&error))
            }
        }
    }

    async fn send(&mut self, rows: &[Planned], batch: &Batch) -> Result<(), ServerError> {
        // The semaphore is never closed; without a slot the insert would only be one more at a time.
        let _slot = self.sink.inserts.acquire().await.ok();
        let mut data = Vec::with_capacity(batch.bytes());
        rows.iter()
            .for_each(|row| row.write(batch.entries(), &mut data));
        let (parent, started) = (traceparent(), Instant::now());
        let writer = &self.sink.writer;
        // The deadline first: a standstill before the check is noticed by it, and after one behind the check the
        // deadline has passed. Waiting for the slot, or for the runs before, may have taken any time.
        let deadline_ms = writer.deadline_ms();
        if self.sink.pulse.standstills(Instant::now()) != self.standstills {
            return Err(ServerError::Expired(self.sink.insert_deadline));
        }
        self.unanswered = Some(Instant::now() + self.sink.insert_deadline);
        let insert = Insert {
            rows: rows.len() as u64,
            data: data.into(),
            deadline_ms,
        };
        writer
            .insert(&self.prefix, insert, parent.as_deref())
            .await?;
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
                "`engagectl verify` names the missing event and `engagectl backfill` brings it",
            )
        })?;
        let reject = Reject::new("refused", "write", "clickhouse_sink::deliver", reason);
        self.sink.bury(&record, &reject).await?;
        self.refused.spend(&record, &reject)
    }

    fn table_trouble(&self, error: TableError) -> Trouble {
        match error {
            TableError::Server(error) => self.trouble(&error),
            TableError::Schema(error) => {
                service::metrics::sink_error(crate::metrics::SINK, "configuration");
                Trouble::End(LaneError::stop(error.to_string(), error.remedy()))
            }
        }
    }

    fn trouble(&self, error: &ServerError) -> Trouble {
        self.sink.metrics.failed(error);
        if error.reaction() == Reaction::Stop {
            return Trouble::End(LaneError::stop(error.to_string(), error.remedy()));
        }
        tracing::warn!(partition = self.partition, %error, "insert in doubt, reading back");
        Trouble::Wait(error.to_string())
    }
}

/// The current span as a `traceparent`, if it is exported.
fn traceparent() -> Option<String> {
    let mut carrier = Vec::new();
    trace::inject_span(&Span::current(), &mut carrier);
    headers::last_text(&carrier, TRACEPARENT).map(str::to_owned)
}
