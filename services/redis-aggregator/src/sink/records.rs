//! What one record does to the batch that is being gathered.
//!
//! Invariant: a record that is not counted is a duplicate, historical by the rule, or acknowledged by the dead letters.

use engagement::event::{EnrichedEvent, Micros};
use stream::dead_letter::Reject;
use stream::{LaneError, Record};

use super::{Lane, Next, Pending};
use crate::chain::Step;
use crate::decode::{Poison, check_duration};
use crate::history::{History, Verdict};
use crate::metrics;
use crate::write::Written;

impl Lane {
    /// Adds an event to the batch, if the chain and the history say that it counts.
    pub(super) async fn take(
        &mut self,
        pending: &mut Pending,
        record: &Record,
        event: &EnrichedEvent,
    ) -> Result<Next, LaneError> {
        let counts = self.follows(event)?;
        if counts {
            let (verdict, history) = pending.history.judge(event);
            if verdict == Verdict::Replace && self.replace(pending, history).await? == Next::End {
                return Ok(Next::End);
            }
            pending.history = history;
            match verdict {
                Verdict::Skip => metrics::historical_skipped(),
                Verdict::Count | Verdict::Replace => {
                    self.count(pending, record, event).await?;
                    pending.watched.received(record, event, service::clock::now);
                }
            }
        }
        pending.applied = self.chain.applied(record.offset);
        pending.records += 1;
        Ok(Next::Continue)
    }

    async fn count(
        &mut self,
        pending: &mut Pending,
        record: &Record,
        event: &EnrichedEvent,
    ) -> Result<(), LaneError> {
        match check_duration(event) {
            // it still takes away what it replaces
            Err(poison) => self.reject(record, &poison).await?,
            Ok(()) => {
                // within the budget: a record that counts never exceeds it
                let _ = self.budget.note(false);
            }
        }
        pending.batch.add(event, record.offset);
        pending.newest_commit = pending.newest_commit.max(Some(event.source.committed_at));
        Ok(())
    }

    /// A newer snapshot holds everything again: what the older one brought goes.
    async fn replace(
        &mut self,
        pending: &mut Pending,
        history: History,
    ) -> Result<Next, LaneError> {
        let partition = self.handle.partition();
        let before = std::mem::replace(pending, self.pending());
        if self.flush(before).await? == Next::End {
            return Ok(Next::End);
        }
        tracing::warn!(partition, %history, "a snapshot was taken again, counting it instead of the one before");
        metrics::snapshot_replaced();
        let written = self.writer.reset(history).await?;
        *pending = self.pending();
        Ok(if written == Written::Stopped {
            Next::End
        } else {
            Next::Continue
        })
    }

    /// Whether the record is the next of the chain; `false`: a duplicate.
    fn follows(&mut self, event: &EnrichedEvent) -> Result<bool, LaneError> {
        match self.chain.follow(&event.source) {
            Ok(Step::Next) => Ok(true),
            Ok(Step::Duplicate) => {
                service::metrics::duplicates_dropped(metrics::SERVICE, "lineage", 1);
                Ok(false)
            }
            Err(hole) => {
                service::metrics::lineage_violation();
                let (topic, partition) = (self.handle.topic(), self.handle.partition());
                Err(LaneError::stop(
                    format!("topic {topic} partition {partition}: {hole}"),
                    "see `engagectl lineage show`; `engagectl verify` names the missing events, `engagectl lineage adopt` goes on \
                     behind the hole",
                ))
            }
        }
    }

    pub(super) async fn reject(
        &mut self,
        record: &Record,
        poison: &Poison,
    ) -> Result<(), LaneError> {
        let reject = Reject::new(
            poison.kind(),
            "decode",
            "redis_aggregator::decode",
            poison.to_string(),
        );
        self.shared
            .dead_letters
            .send(record, &reject, Micros(service::clock::now()))
            .await?;
        self.budget.spend(record, &reject)
    }
}
