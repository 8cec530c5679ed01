//! The lane of one partition: reads, sums, applies, and moves the window when nothing comes.
//!
//! Invariant: the offset committed to Kafka is never ahead of the position in Redis, and only the latter is resumed from.

mod records;
mod traced;

use std::sync::Arc;

use engagement::event::Micros;
use faults::Point;
use stream::dead_letter::{DeadLetters, RejectBudget};
use stream::redrive::{self, Address};
use stream::trace::Watched;
use stream::{LaneError, LaneHandle, Record};
use tokio::time::{Instant, timeout_at};

use crate::batch::{Batch, Wanted};
use crate::chain::Chain;
use crate::decode::{decode, header_position};
use crate::history::History;
use crate::metrics;
use crate::position::Applied;
use crate::resume;
use crate::store::Store;
use crate::window::{Heard, bucket_of};
use crate::write::{Change, Writer, Written};

/// What all lanes of a process share.
pub struct Shared {
    /// Redis.
    pub store: Arc<Store>,
    /// Where records go that cannot be counted.
    pub dead_letters: DeadLetters,
    /// The newest commit of any partition.
    pub heard: Heard,
}

/// Runs the lane of an assigned partition until it must end.
///
/// # Errors
/// See [`LaneError`].
pub async fn run(mut handle: LaneHandle, shared: Arc<Shared>) -> Result<(), LaneError> {
    let stop = handle.stopping();
    let Some(opened) = stop
        .run_until_cancelled(resume::open(&handle, &shared.store))
        .await
    else {
        return Ok(());
    };
    let opened = opened?;
    agree(&handle, &opened.state.applied).await?;
    handle.start(opened.state.applied.enriched + 1).await?;
    Lane::new(handle, Arc::clone(&shared), opened).work().await
}

/// What Redis says, the group says too: lag is measured by it, and a wiped Redis is told from a new one.
async fn agree(handle: &LaneHandle, applied: &Applied) -> Result<(), LaneError> {
    let next = applied.enriched + 1;
    let known = handle.committed().map(|commit| commit.offset);
    if applied.source.is_none() || known == Some(next) {
        return Ok(());
    }
    handle
        .commit_now(next, Chain::after(applied).checkpoint())
        .await
}

struct Lane {
    handle: LaneHandle,
    shared: Arc<Shared>,
    writer: Writer,
    chain: Chain,
    budget: RejectBudget,
    wanted: Wanted,
    group: Arc<str>,
    freshness: ::metrics::Histogram,
}

/// Records taken but not yet applied.
struct Pending {
    batch: Batch,
    applied: Applied,
    history: History,
    newest_commit: Option<Micros>,
    records: usize,
    watched: Watched,
}

/// Whether the lane goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl Lane {
    fn new(handle: LaneHandle, shared: Arc<Shared>, opened: resume::Opened) -> Self {
        let config = &shared.store.config;
        let keys = &config.keys;
        let wanted = Wanted {
            bucket_us: config.window.bucket_us(),
            last: keys.content_last.enabled || keys.content_stats.enabled,
            recent: if keys.recent_events.enabled {
                keys.recent_events.max
            } else {
                0
            },
            users: keys.content_users.enabled,
            minutes: keys.minute_bucket.enabled,
        };
        let budget = RejectBudget::new(config.dead_letters.window.get());
        let applied = opened.state.applied;
        let writer = Writer::new(
            Arc::clone(&shared.store),
            handle.partition(),
            opened.state,
            handle.stopping(),
        );
        Self {
            group: handle.group().into(),
            handle,
            shared,
            writer,
            chain: Chain::after(&applied),
            budget,
            wanted,
            freshness: service::metrics::freshness(metrics::SINK),
        }
    }

    async fn work(mut self) -> Result<(), LaneError> {
        let tick = self.shared.store.config.window.tick;
        let mut records = Vec::new();
        let mut next_tick = Instant::now();
        loop {
            match timeout_at(next_tick, self.gather(&mut records)).await {
                Ok(Next::End) => return Ok(()),
                Ok(Next::Continue) => {
                    if self.process(&mut records).await? == Next::End {
                        return Ok(());
                    }
                }
                Err(_) => {
                    if self.tick().await? == Next::End {
                        return Ok(());
                    }
                    next_tick = Instant::now() + tick;
                }
            }
        }
    }

    /// Waits for a record, then shortly for more. Safe to cancel: what was taken stays in `records`.
    async fn gather(&mut self, records: &mut Vec<Record>) -> Next {
        let batching = &self.shared.store.config.batch;
        let (max, wait) = (batching.max_records.get(), batching.wait);
        if records.is_empty() && self.handle.recv_many(records, max).await == 0 {
            return Next::End;
        }
        let deadline = Instant::now() + wait;
        while records.len() < max {
            let room = max - records.len();
            match timeout_at(deadline, self.handle.recv_many(records, room)).await {
                Ok(0) | Err(_) => break, // told to stop: what is here is applied first
                Ok(_) => {}
            }
        }
        Next::Continue
    }

    async fn process(&mut self, records: &mut Vec<Record>) -> Result<Next, LaneError> {
        let mut pending = self.pending();
        for record in records.drain(..) {
            if redrive::address(&record, metrics::SERVICE, None) != Address::Everyone {
                self.chain.pass(header_position(&record));
                pending.applied = self.chain.applied(record.offset);
                pending.records += 1;
                continue;
            }
            match decode(&record) {
                Ok(event) => match self.take(&mut pending, &record, &event).await {
                    Ok(Next::Continue) => {}
                    Ok(Next::End) => return Ok(Next::End),
                    Err(error) => return self.stop_before(pending, error).await,
                },
                Err(poison) => {
                    self.reject(&record, &poison).await?;
                    self.chain.skip(header_position(&record));
                    pending.applied = self.chain.applied(record.offset);
                    pending.records += 1;
                }
            }
        }
        self.flush(pending).await
    }

    /// A lane that must stop at a record has applied everything before it.
    async fn stop_before(&mut self, pending: Pending, error: LaneError) -> Result<Next, LaneError> {
        if matches!(error, LaneError::Stop { .. }) {
            self.flush(pending).await?;
        }
        Err(error)
    }

    fn pending(&self) -> Pending {
        let state = self.writer.state();
        Pending {
            batch: Batch::new(self.wanted),
            applied: state.applied,
            history: state.history,
            newest_commit: state.newest_commit,
            records: 0,
            watched: Watched::of(&self.group),
        }
    }

    async fn flush(&mut self, mut pending: Pending) -> Result<Next, LaneError> {
        if pending.records == 0 {
            return Ok(Next::Continue);
        }
        if let Some(newest) = pending.newest_commit {
            self.shared.heard.events(newest);
        }
        let change = Change {
            applied: pending.applied,
            history: pending.history,
            newest_commit: pending.newest_commit,
            watermark: self.watermark(),
            payload: pending.batch.encode(),
        };
        let began = Instant::now();
        if self.traced_apply(&change, &mut pending).await? == Written::Stopped {
            return Ok(Next::End);
        }
        self.measure(&pending, began.elapsed());
        faults::reach(Point::RedisAggregatorCommitBefore).await;
        self.handle
            .commit(change.applied.enriched + 1, self.chain.checkpoint());
        faults::reach(Point::RedisAggregatorCommitAfter).await;
        Ok(Next::Continue)
    }

    /// Moves the window when time has passed a bucket without an event.
    async fn tick(&mut self) -> Result<Next, LaneError> {
        let watermark = self.watermark();
        if watermark <= self.writer.state().watermark {
            return Ok(Next::Continue);
        }
        let state = self.writer.state();
        let change = Change {
            applied: state.applied,
            history: state.history,
            newest_commit: state.newest_commit,
            watermark,
            payload: Batch::new(self.wanted).encode(),
        };
        Ok(if self.writer.apply(&change).await? == Written::Stopped {
            Next::End
        } else {
            Next::Continue
        })
    }

    /// The bucket of now, never below the stored one.
    fn watermark(&self) -> i64 {
        let bounds = self.shared.store.config.window.bounds();
        let now = self
            .shared
            .heard
            .watermark(Micros(service::clock::now()), bounds);
        let stored = self.writer.state().watermark;
        now.map_or(stored, |now| {
            bucket_of(now, self.wanted.bucket_us).max(stored)
        })
    }
}
