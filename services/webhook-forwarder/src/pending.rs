//! The records of one lane that were taken and are not done: their order, their bytes, and the frontier before them.
//! Pure: time is an argument.
//!
//! Invariant: the frontier passes a record only after [`Pending::complete`]; what is held is bounded in records and bytes.

use std::sync::Arc;
use std::time::Instant;

use stream::LaneError;
use stream::ledger::{Ledger, LedgerError};
use stream::lineage::Checkpoint;

use crate::delivery::Job;
use crate::schedule::{OrderKey, Schedule};

/// Records held at once, per partition.
const HELD_RECORDS: usize = 256;
/// Bytes of records and bodies held at once, per partition.
const HELD_BYTES: usize = 1 << 20;
/// Records between the frontier and the newest one taken.
const SPAN: usize = 4096;

/// What a lane has taken and not finished.
pub(crate) struct Pending {
    ledger: Ledger<Checkpoint>,
    schedule: Schedule<Job>,
    bytes: usize,
    committed: i64,
}

impl Pending {
    /// Nothing taken; `next` is what the lane starts at.
    pub(crate) fn starting_at(next: i64) -> Self {
        Self {
            ledger: Ledger::new(),
            schedule: Schedule::default(),
            bytes: 0,
            committed: next,
        }
    }

    /// Whether a further record may be taken, besides what is under way.
    pub(crate) fn has_room(&self, under_way: usize) -> bool {
        self.schedule.held() + under_way < HELD_RECORDS
            && self.bytes < HELD_BYTES
            && self.ledger.open() < SPAN
    }

    /// A record was taken; `checkpoint` is committed with the offset behind it.
    pub(crate) fn open(&mut self, offset: i64, checkpoint: Checkpoint) -> Result<(), LaneError> {
        self.ledger.record(offset, checkpoint).map_err(defect)
    }

    /// It is done.
    pub(crate) fn complete(&mut self, offset: i64) -> Result<(), LaneError> {
        self.ledger.complete(offset).map(drop).map_err(defect)
    }

    /// It is to be delivered, behind those of its content.
    pub(crate) fn enqueue(&mut self, job: Job) {
        self.bytes += job.size();
        self.schedule.push(Arc::clone(&job.message.key), job);
    }

    /// Hands out the next delivery that may begin; it comes back by [`Self::retry`] or [`Self::release`].
    pub(crate) fn next(&mut self, now: Instant) -> Option<(OrderKey, Job)> {
        self.schedule.next(now)
    }

    /// When the next retry may begin.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.schedule.next_due()
    }

    /// It comes again, not before `at`.
    pub(crate) fn retry(&mut self, key: &OrderKey, job: Job, at: Instant) {
        self.schedule.retry(key, job, at);
    }

    /// It holds these bytes no longer, and the next of its content may begin.
    pub(crate) fn release(&mut self, key: &OrderKey, bytes: usize) {
        self.schedule.done(key);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What is to be committed, once each time that the frontier has moved.
    pub(crate) fn take_commit(&mut self) -> Option<(i64, String)> {
        let frontier = self.ledger.frontier()?;
        (frontier.next > self.committed).then(|| {
            self.committed = frontier.next;
            (frontier.next, frontier.value.to_string())
        })
    }
}

fn defect(error: LedgerError) -> LaneError {
    LaneError::retry(format!("a defect in the ledger's use: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use engagement::testing::sample;
    use stream::Record;
    use stream::trace::Subject;

    use super::*;
    use crate::attempts::{AttemptLimits, Attempts};
    use crate::message::Message;
    use crate::traced::{Sender, Traced};

    fn job(offset: i64, body: usize) -> Job {
        let limits = AttemptLimits {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(1),
            transient: 1,
            permanent: 1,
        };
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        };
        let message = Message {
            id: offset.to_string(),
            body: Bytes::from(vec![b'x'; body]),
            key: offset.to_string().into(),
            committed_at: None,
            subject: Subject::from(&sample()),
            run: None,
        };
        let sender = Sender {
            group: "g",
            endpoint: "e",
            host: "h",
        };
        Job {
            traced: Traced::begin(sender, &record, &message, 0),
            record,
            message,
            attempts: Attempts::new(&limits),
            first_failed_at: None,
        }
    }

    fn with(jobs: impl IntoIterator<Item = Job>) -> Pending {
        let mut pending = Pending::starting_at(0);
        for job in jobs {
            let opened = pending.open(job.record.offset, Checkpoint::default());
            opened.unwrap();
            pending.enqueue(job);
        }
        pending
    }

    #[test]
    fn what_is_held_is_bounded_in_records_in_bytes_and_in_the_span_of_the_ledger() {
        let mut pending = with((0..200).map(|offset| job(offset, 1)));
        assert!(pending.has_room(55) && !pending.has_room(56));
        pending.enqueue(job(200, HELD_BYTES));
        assert!(!pending.has_room(0));
        let (key, _) = pending.next(Instant::now()).unwrap();
        pending.release(&key, HELD_BYTES);
        assert!(pending.has_room(0));
        for offset in 200..i64::try_from(SPAN).unwrap() {
            pending.open(offset, Checkpoint::default()).unwrap();
        }
        assert!(!pending.has_room(0));
    }

    #[test]
    fn only_the_contiguous_end_of_what_is_done_is_committed_and_only_once() {
        let mut pending = with((0..3).map(|offset| job(offset, 1)));
        pending.complete(1).unwrap();
        assert_eq!(pending.take_commit(), None);
        pending.complete(0).unwrap();
        assert_eq!(pending.take_commit().unwrap().0, 2);
        assert_eq!(pending.take_commit(), None);
    }

    #[test]
    fn a_record_that_is_done_twice_is_named_as_a_defect() {
        let mut pending = with([job(0, 1)]);
        pending.complete(0).unwrap();
        let error = pending.complete(0).unwrap_err().to_string();
        assert!(error.contains("a defect in the ledger's use"), "{error}");
    }
}
