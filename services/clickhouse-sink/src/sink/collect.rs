//! How a batch is gathered: records from the inbox, each judged once.
//!
//! Invariant: whatever ends a batch, what was taken before is delivered first.

use std::time::Instant;

use engagement::event::EnrichedEvent;
use stream::trace::Watched;
use stream::{LaneError, Record};

use super::{Closed, Lane, Then, spend};
use crate::batch::Batch;
use crate::intake::Judged;
use crate::memory::Share;

/// Records taken from the inbox at once.
const TAKE: usize = 256;

/// How a batch begins.
enum First {
    /// With a record, and memory for it.
    Record(Share),
    /// Not: something else is to be done.
    Instead(Then),
}

impl Lane {
    /// Takes records until the batch is due. Whatever ends it, what was taken before is delivered first.
    pub(super) async fn collect(&mut self) -> Closed {
        let mut closed = Closed {
            watched: Watched::of(&self.group),
            then: Then::End,
            ..Closed::default()
        };
        let mut records = Vec::new();
        match self.first(&mut records).await {
            First::Record(mut share) => {
                closed.then = self.fill(&mut closed, &mut share, records).await;
                closed.memory = Some(share);
            }
            First::Instead(then) => closed.then = then,
        }
        closed
    }

    /// Waits for a record, then for memory: one record is all that a lane holds without a share.
    async fn first(&mut self, records: &mut Vec<Record>) -> First {
        tokio::select! {
            biased;
            taken = self.handle.recv_many(records, 1) => if taken == 0 {
                return First::Instead(Then::End);
            },
            () = self.backfill.due(self.done) => return First::Instead(Then::Beside),
        }
        let (budget, stopping) = (&self.sink.memory, self.handle.stopping());
        let share = stopping.run_until_cancelled(budget.share()).await;
        share.map_or(First::Instead(Then::End), First::Record)
    }

    async fn fill(
        &mut self,
        closed: &mut Closed,
        share: &mut Share,
        mut records: Vec<Record>,
    ) -> Then {
        let limits = self.sink.limits;
        loop {
            for record in records.drain(..) {
                if let Err(error) = self.accept(&record, closed).await {
                    return Then::Fail(error);
                }
            }
            let covered = share.covers(&self.sink.memory, closed.batch.bytes());
            if closed.batch.is_full(&limits) || !covered {
                return Then::Continue;
            }
            let taking = self.handle.recv_many(&mut records, TAKE);
            let taken = match closed.batch.due(&self.sink.pace) {
                None => taking.await,
                Some(due) => match tokio::time::timeout_at(due.into(), taking).await {
                    Ok(taken) => taken,
                    Err(_) => return self.after(&closed.batch),
                },
            };
            if taken == 0 {
                return Then::End;
            }
        }
    }

    /// How it goes on behind a batch that is closed because of its age.
    fn after(&mut self, batch: &Batch) -> Then {
        let done = batch.next().unwrap_or(self.done);
        match self.backfill.is_due(done) {
            true => Then::Beside,
            false => Then::Continue,
        }
    }

    /// Puts a record into the batch, drops it as a duplicate, or dead-letters it.
    async fn accept(&mut self, record: &Record, closed: &mut Closed) -> Result<(), LaneError> {
        let (clock, watched) = (self.sink.clock, &mut closed.watched);
        let watch = |event: &EnrichedEvent| watched.received(record, event, clock);
        let judged = self.intake.judge(record, watch);
        let checkpoint = self.intake.checkpoint(record);
        let now = Instant::now();
        match judged {
            Judged::Entry(entry) => {
                let age = self.sink.age(entry.committed_at);
                if let Some(source) = &self.sink.backfill {
                    source.saw_live(age);
                }
                closed.batch.push(*entry, now, age);
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
                return spend(&mut self.rejects, record, &reject);
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
