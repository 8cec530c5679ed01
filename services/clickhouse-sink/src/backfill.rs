//! The backfill's records of a lane's partition: read beside the live ones by the same owner, written between two live batches.
//!
//! Invariant: a record is written only after every live record that its row may have come from; what is wrong with this
//! topic, or with a record of it, neither ends nor stops the live lane.

mod place;
mod portion;
mod size;
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Position;
use metrics::{Counter, counter};
use service::Condition;
use stream::beside::Beside;
use stream::checkpoint::Checkpoint;
use stream::dead_letter::RejectBudget;
use stream::metrics::EVENTS_CONSUMED_TOTAL;
use stream::{LaneError, LaneHandle};
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::Batch;
use crate::sink::Sink;

use place::Place;
use size::Size;
use turns::Turns;

/// Before something that failed is tried again.
const FAILED: Duration = Duration::from_secs(5);

/// The topic, and what `/readyz` says about it.
pub struct Source {
    /// Where it ends.
    pub beside: Beside,
    /// Not ready once a partition of it has stopped.
    pub condition: Condition,
    turns: Turns,
}

impl Source {
    /// Of the partitions of one process.
    #[must_use]
    pub fn new(beside: Beside, condition: Condition) -> Self {
        Self {
            beside,
            condition,
            turns: Turns::default(),
        }
    }

    /// A live record was taken so long after its commit.
    pub(crate) fn saw_live(&self, age: Duration) {
        self.turns.saw_live(age, Instant::now());
    }
}

/// What is read of it, and in which turn.
struct Reading {
    beside: Beside,
    turns: Turns,
    consumed: Counter,
}

/// One partition of it, as long as the live one is owned.
pub(crate) struct Backfill {
    /// `None`: nothing is.
    reading: Option<Reading>,
    /// Held from the end of [`Self::due`] until the portion is written.
    turn: Option<OwnedSemaphorePermit>,
    partition: i32,
    /// Where to go on, once the group's commit is known.
    place: Option<Place>,
    /// When it is read again, unless what it waits for has come.
    not_before: Instant,
    /// The next record waits until the live lane has done everything below this.
    held: Option<i64>,
    size: Size,
    /// Since when the next portion could be read; `None`: there is none.
    waits_since: Option<Instant>,
    rejects: RejectBudget,
    stopped: bool,
}

/// Records that may be written now.
pub(crate) struct Portion {
    pub(crate) batch: Batch,
    /// Source position of its last record.
    before: Option<Position>,
    /// Given back when it is written.
    _turn: OwnedSemaphorePermit,
}

impl Backfill {
    pub(crate) fn new(source: Option<&Source>, partition: i32) -> Self {
        let reading = |source: &Source| Reading {
            beside: source.beside.clone(),
            turns: source.turns.clone(),
            consumed: counter!(EVENTS_CONSUMED_TOTAL, "topic" => source.beside.topic().to_string()),
        };
        Self {
            reading: source.map(reading),
            turn: None,
            partition,
            place: None,
            not_before: Instant::now(),
            held: None,
            size: Size::default(),
            waits_since: None,
            rejects: RejectBudget::default(),
            stopped: false,
        }
    }

    /// Waits until there is something to read and this partition has its turn, when everything live below `done` is in the table;
    /// for ever where nothing is read. Safe to cancel.
    pub(crate) async fn due(&mut self, done: i64) {
        while self.turn.is_none() {
            let (waits_since, not_before) = (self.waits_since(), self.not_before(done));
            let Some(reading) = self.reading.as_mut().filter(|_| !self.stopped) else {
                return std::future::pending().await;
            };
            if reading.beside.is_gone() {
                // positions of this topic begin anew with it, so those of the next one would prove a place in the last one
                self.place = None;
            }
            if let Some(since) = waits_since {
                tokio::time::sleep_until(not_before.into()).await;
                self.turn = Some(reading.turns.wait(since).await);
            } else {
                reading.beside.changed().await;
            }
        }
    }

    /// Whether there is something to read now, when everything live below `done` is in the table.
    pub(crate) fn is_due(&mut self, done: i64) -> bool {
        let (now, since) = (Instant::now(), self.waits_since());
        let Some((since, reading)) = since.zip(self.reading.as_ref()) else {
            return false;
        };
        now >= self.not_before(done) && !reading.turns.holds(since, now)
    }

    fn not_before(&self, done: i64) -> Instant {
        match self.held {
            Some(after) if done >= after => Instant::now(),
            _ => self.not_before,
        }
    }

    /// Since when there has been something to read, as far as was looked; `None`: there is nothing.
    fn waits_since(&mut self) -> Option<Instant> {
        let since = self.waits_since.unwrap_or_else(Instant::now);
        self.waits_since = self.has_more().then_some(since);
        self.waits_since
    }

    /// A topic that ends before the place is another one, which is to be read.
    fn has_more(&self) -> bool {
        let next = self.place.map_or(0, |place| place.next);
        !self.stopped && self.end() > 0 && self.end() != next
    }

    fn end(&self) -> i64 {
        let reading = self.reading.as_ref();
        reading.map_or(0, |reading| reading.beside.end(self.partition))
    }

    /// What may be written now, when everything live below `done` is in the table. `None`: nothing, or not at once.
    pub(crate) async fn gather(
        &mut self,
        sink: &Sink,
        handle: &LaneHandle,
        done: i64,
    ) -> Option<Portion> {
        // behind a live batch nothing waits for a turn: the next one may be due
        let turns = &self.reading.as_ref()?.turns;
        let turn = self.turn.take().or_else(|| turns.try_take())?;
        self.waits_since = None;
        match self.portion(sink, handle, done, turn).await {
            Ok(portion) => portion,
            Err(error) => {
                self.failed(sink, error);
                None
            }
        }
    }

    /// Commits a portion that is written. It may be read again when that fails, which changes nothing.
    pub(crate) async fn written(&mut self, sink: &Sink, handle: &LaneHandle, portion: Portion) {
        let (Some(reading), Some(next)) = (&self.reading, portion.batch.next()) else {
            return;
        };
        let checkpoint = Checkpoint {
            before: portion.before,
            ..Checkpoint::default()
        };
        let topic = Arc::clone(reading.beside.topic());
        let commit = handle.commit_beside(&topic, next, checkpoint.to_string());
        match commit.await {
            Ok(()) => {
                self.size.written();
                self.place = Some(Place {
                    next,
                    before: portion.before,
                });
            }
            Err(error) => self.failed(sink, error),
        }
    }

    /// A portion was not written: perhaps it is more than the server can do at once.
    pub(crate) fn unwritten(&mut self, sink: &Sink, error: LaneError) {
        self.size.unwritten();
        self.failed(sink, error);
    }

    /// Reads again later, or not any more; the live lane goes on.
    pub(crate) fn failed(&mut self, sink: &Sink, error: LaneError) {
        self.place = None;
        (self.held, self.not_before) = (None, Instant::now() + FAILED);
        let partition = self.partition;
        match error {
            LaneError::Retry { reason } => {
                tracing::warn!(partition, reason, "the backfill's records are read again");
            }
            LaneError::Stop { reason, remedy } => {
                self.stopped = true;
                tracing::error!(
                    partition,
                    reason,
                    remedy,
                    "backfill stopped, the live lane goes on"
                );
                if let Some(source) = &sink.backfill {
                    let why =
                        format!("backfill of partition {partition} stopped: {reason}; {remedy}");
                    source.condition.not_ready(why);
                }
            }
        }
    }
}
