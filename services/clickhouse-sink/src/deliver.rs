//! Brings a batch into the table: does what [`Delivery`] says, and waits where the server is away.
//!
//! Invariant: it ends with every row in the table or its record in the dead letters, or says that it did not.

mod insert;
mod same_table;
mod traced;

use std::sync::Arc;
use std::time::Duration;

use service::Backoff;
use service::traces::{Context, InContext as _, SpanContext};
use stream::checkpoint::{Checkpoint, Stored};
use stream::dead_letter::{Reject, RejectBudget};
use stream::trace::Watched;
use stream::{LaneError, LaneHandle};

use crate::batch::Batch;
use crate::delivery::{Delivery, Step};
use crate::error::Reaction;
use crate::owner::{Owner, Since};
use crate::plan::{Held, plan};
use crate::server::TableError;
use crate::sink::{Sink, spend};
use crate::witness;

/// The writing half of a lane.
pub struct Deliverer {
    sink: Arc<Sink>,
    partition: i32,
    owner: Owner,
    /// An insert failed for no reason that its own rows explain, and the table was not looked at since.
    suspicious: bool,
    /// Inserts that were sent together were refused, perhaps for this one: until the batch is written, its inserts go alone.
    alone: bool,
    /// A row that the table must hold, unless retention has taken it.
    stored: Option<Stored>,
    /// Behind what this lane, or the owner before it, has done for certain.
    since: Option<Since>,
    /// Live changes below this LSN may stand in the table by a backfill, under positions of its own.
    backfilled: u64,
    backoff: Backoff,
    /// Rows that the server refused, among those delivered.
    refused: RejectBudget,
    /// The same of what a backfill brings, which says nothing about the stream.
    refused_beside: RejectBudget,
}

/// How often the steps of a batch are tried: those of a live one until they are done, those of a backfill a few times, so that what
/// the server cannot carry out does not keep live records from it.
struct Tries(Option<u32>);

impl Tries {
    fn of(batch: &Batch) -> Self {
        Self(batch.topic().map(|_| 4))
    }

    /// One more was in vain.
    fn are_used_up(&mut self) -> bool {
        self.0.as_mut().is_some_and(|left| {
            *left -= 1;
            *left == 0
        })
    }
}

/// Why a step was not done.
enum Trouble {
    /// Wait, then read back and try again.
    Wait(String),
    /// The lane ends.
    End(LaneError),
}

impl Deliverer {
    /// For a partition that was just assigned, as its commit says.
    #[must_use]
    pub fn new(sink: Arc<Sink>, partition: i32, committed: &Checkpoint) -> Self {
        Self {
            owner: Owner::Unknown,
            suspicious: false,
            alone: false,
            stored: committed.stored,
            since: Since::committed(committed),
            backfilled: 0,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            refused: RejectBudget::default(),
            refused_beside: RejectBudget::default(),
            partition,
            sink,
        }
    }

    /// Whether the table has to be asked before anything is written.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        matches!(self.owner, Owner::Unknown)
    }

    /// Takes the partition, and looks whether the table is the one that was written into, while the first records are on their way.
    /// `false`: the lane was told to stop before the server answered.
    ///
    /// # Errors
    /// The table lacks what was written into it, or cannot be used.
    pub async fn open(&mut self, handle: &LaneHandle) -> Result<bool, LaneError> {
        let opened = loop {
            match self.take().await {
                Ok(owner) => {
                    self.owner = owner;
                    break Ok(true);
                }
                Err(trouble) => match self.waits(trouble, handle).await {
                    Ok(true) => {}
                    ended => break ended,
                },
            }
        };
        self.backoff.reset();
        self.sink.outage.ends(self.partition);
        opened
    }

    async fn steps(
        &mut self,
        handle: &LaneHandle,
        batch: &mut Batch,
        watched: Watched,
        span: Option<&SpanContext>,
    ) -> Result<bool, LaneError> {
        batch.compare_by_id(self.backfilled);
        self.owner.prepare(&mut self.since, batch.entries());
        let mut delivery = self.begin(batch);
        let mut tries = Tries::of(batch);
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
            let Err(trouble) = outcome else { continue };
            if let Trouble::Wait(reason) = &trouble
                && tries.are_used_up()
            {
                return Err(LaneError::retry(reason.clone()));
            }
            if !self.waits(trouble, handle).await? {
                return Ok(false);
            }
        }
        self.backoff.reset();
        self.alone = false;
        self.stored = witness::among(delivery.held(batch.entries())).or(self.stored);
        self.backfilled = self.backfilled.max(batch.backfilled());
        self.since = Since::after(batch.entries()).or(self.since);
        self.visible(batch, delivery.buried_entries(), watched, span);
        tracing::debug!(
            partition = self.partition,
            rows = batch.entries().len(),
            "batch written"
        );
        Ok(true)
    }

    /// Waits after a step that was not done, if waiting helps. `false`: the lane was told to stop meanwhile.
    async fn waits(&mut self, trouble: Trouble, handle: &LaneHandle) -> Result<bool, LaneError> {
        match trouble {
            Trouble::End(error) => Err(error),
            Trouble::Wait(reason) => {
                self.sink.outage.begins(self.partition, reason);
                Ok(self.backoff.wait(&handle.stopping()).await)
            }
        }
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
        batch: &mut Batch,
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
            batch.compare_by_id(self.backfilled);
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
        let (fence, standing) = tokio::join!(writer.take(partition), self.standing());
        let fence = fence.map_err(|error| self.trouble(error))?;
        let standing = standing.map_err(|error| self.trouble(error))?;
        if self.suspicious {
            let checked = writer.check(partition, fence).await;
            checked.map_err(|error| self.trouble(error))?;
            self.suspicious = false;
        }
        self.is_same_table(standing)?;
        let reached = self.sink.writer.reached(partition, self.since).await;
        let reached = reached.map_err(|error| self.trouble(error))?;
        self.backfilled = self.backfilled.max(reached.backfilled);
        Ok(Owner::Holds(fence, reached))
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
            batch.topic().unwrap_or_else(|| handle.topic()),
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
        // in the trace of the record, not in that of the batch
        let burying = self.sink.bury(&record, &reject);
        burying.with_context(Context::new()).await?;
        spend(self.budget(batch), &record, &reject)
    }

    fn budget(&mut self, batch: &Batch) -> &mut RejectBudget {
        match batch.topic() {
            None => &mut self.refused,
            Some(_) => &mut self.refused_beside,
        }
    }

    /// A batch was left in the middle, and the lane goes on with another one: what became of its last insert is not known.
    pub fn gave_up(&mut self) {
        self.owner = Owner::Unknown;
        self.alone = false;
        self.backoff.reset();
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
