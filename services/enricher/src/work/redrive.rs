//! A letter that was sent back.
//!
//! Invariant: it stands beside the chain, with the revision of the epoch that it was given up in, and each copy of it becomes the
//! same message.

use engagement::envelope::EventChange;
use engagement::event::EnrichedEvent;
use stream::LaneError;

use super::{At, Reached, Work};
use crate::join::{self, Answers};

impl Work {
    /// Makes it an event, and hands that to the producer.
    pub(super) async fn redrive(
        &mut self,
        at: At<'_>,
        change: EventChange<'_>,
        epoch: u8,
        answers: Option<&Answers>,
    ) -> Result<(), LaneError> {
        let At { record, mark, now } = at;
        let now = stream::redrive::given_up_at(record).unwrap_or(now);
        let revision = engagement::enrich::revision(epoch, change.meta.lsn);
        let place = self.chain.redrive_place(record.offset, mark);
        let event = EnrichedEvent {
            revision,
            ..join::event(&self.shared, change, place, answers, now)
        };
        let reached = Reached {
            progress: self.chain.progress(mark),
            // it was late already when it was given up
            committed_at: None,
        };
        self.send(at, &event, reached).await?;
        tracing::info!(
            partition = record.partition,
            offset = record.offset,
            "redriven letter enriched"
        );
        Ok(())
    }
}
