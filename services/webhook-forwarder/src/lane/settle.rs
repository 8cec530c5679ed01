//! What came back of a lane's attempts and dead letters, and what follows from it.
//!
//! Invariant: a record is completed only here: when it was delivered, or when its dead letter is acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Micros;
use faults::Point;
use futures_util::{FutureExt, StreamExt};
use service::traces::{InContext as _, Kept, TraceSpan};
use stream::dead_letter::Reject;
use stream::{LaneError, Record};

use super::Lane;
use crate::attempts::Next;
use crate::client::Answer;
use crate::delivery::Job;
use crate::rejection;
use crate::schedule::OrderKey;
use crate::traced;

/// What came back.
pub(super) enum Finished {
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

impl Lane {
    /// What has come back meanwhile is settled in one go: one turn of the loop, one commit.
    pub(super) fn settle_all(&mut self, first: Finished) -> Result<(), LaneError> {
        let mut next = Some(first);
        while let Some(finished) = next {
            self.settle(finished)?;
            next = self.under_way.next().now_or_never().flatten();
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, finished: Finished) -> Result<(), LaneError> {
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
                    self.pending.release(&key, bytes);
                }
                self.pending.complete(record.offset)?;
                // a letter that fails again says nothing about the stream
                if stream::redrive::is_copy(&record) {
                    return Ok(());
                }
                self.runtime.spend(&record, &reject)
            }
        }
    }

    fn answered(&mut self, key: OrderKey, mut job: Job, answer: &Answer) -> Result<(), LaneError> {
        let deliveries = self.runtime.gate.deliveries();
        let random = service::backoff::random();
        let limits = &self.runtime.endpoint.limits;
        job.first_failed_at.get_or_insert(Micros(answer.at));
        let made = job.attempts.made();
        let next = job
            .attempts
            .record(&answer.outcome, deliveries, limits, random);
        let sender = self.runtime.sender();
        let attempt = (made, answer);
        match next {
            Next::Finished => {
                let (bytes, offset) = (job.size(), job.record.offset);
                job.traced
                    .delivered(sender, &job.record, &job.message, answer);
                self.runtime.taken(&job.record);
                self.pending.release(&key, bytes);
                faults::reach_blocking(Point::WebhookForwarderSettleBefore);
                self.pending.complete(offset)?;
                faults::reach_blocking(Point::WebhookForwarderSettleAfter);
            }
            Next::Retry(_) | Next::Hold => {
                job.traced
                    .failed(sender, &job.record, &job.message, attempt, Kept::Retry);
                let wait = match next {
                    Next::Retry(wait) => wait,
                    _ => Duration::ZERO,
                };
                self.pending.retry(&key, job, Instant::now() + wait);
            }
            Next::GiveUp => {
                let why = Kept::DeadLetter;
                job.traced
                    .failed(sender, &job.record, &job.message, attempt, why);
                let reject = rejection::undelivered(&self.runtime.endpoint, &job, answer);
                let delivery = Some((key, job.size()));
                self.dead_letter(job.record, reject, delivery, job.traced.given_up());
            }
        }
        Ok(())
    }

    /// Writes a dead letter, as the end of `span`, which is the record's.
    pub(super) fn dead_letter(
        &mut self,
        record: Record,
        reject: Reject,
        delivery: Option<(OrderKey, usize)>,
        span: Option<TraceSpan>,
    ) {
        let runtime = Arc::clone(&self.runtime);
        self.under_way.push(Box::pin(async move {
            let inside = traced::context_of(span.as_ref());
            let letter = runtime.dead_letter(&record, &reject);
            let outcome = letter.with_context(inside).await;
            traced::gave_up(span, reject.kind, service::clock::now());
            Finished::DeadLettered {
                record,
                reject,
                delivery,
                outcome,
            }
        }));
    }
}
