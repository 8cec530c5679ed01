//! The backfill's records of a lane's partition: read beside the live ones by the same owner, written between two live batches.
//!
//! Invariant: a record is written only after every live record that its row may have come from; what is wrong with this
//! topic, or with a record of it, neither ends nor stops the live lane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::Position;
use metrics::{Counter, counter};
use service::Condition;
use stream::backfill::{Addressee, Ticket};
use stream::beside::Beside;
use stream::checkpoint::Checkpoint;
use stream::dead_letter::{Reject, RejectBudget};
use stream::metrics::EVENTS_CONSUMED_TOTAL;
use stream::probe::Most;
use stream::resume::source_position;
use stream::{LaneError, LaneHandle, Record};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::batch::Batch;
use crate::intake;
use crate::sink::Sink;

/// What is read at once: a live batch that comes meanwhile waits for it. Each question and each insert costs the server more
/// than its rows do, so that few large portions are several times as fast as many small ones.
const MOST: Most = Most {
    records: 8192,
    bytes: 3 * 1024 * 1024,
};
/// Partitions that write a portion at the same time, which bounds what is held of them: each holds at most [`MOST`] twice.
const TURNS: usize = 2;
/// Before a partition that found no turn tries again.
const BUSY: Duration = Duration::from_millis(20);
/// Before a record that must wait for live ones is looked at again.
const HELD: Duration = Duration::from_millis(500);
/// Before something that failed is tried again.
const FAILED: Duration = Duration::from_secs(5);

/// The topic, and what `/readyz` says about it.
pub struct Source {
    /// Where it ends.
    pub beside: Beside,
    /// Not ready once a partition of it has stopped.
    pub condition: Condition,
    turns: Arc<Semaphore>,
}

impl Source {
    /// Of the partitions of one process.
    #[must_use]
    pub fn new(beside: Beside, condition: Condition) -> Self {
        Self {
            beside,
            condition,
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }
}

/// One partition of it, as long as the live one is owned.
pub(crate) struct Backfill {
    beside: Option<Beside>,
    partition: i32,
    /// Where to go on, once the group's commit is known.
    place: Option<Place>,
    not_before: Instant,
    rejects: RejectBudget,
    stopped: bool,
    consumed: Option<Counter>,
}

/// How far the topic was read, and what proves that it still is the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// The next offset.
    next: i64,
    /// Source position of the record before it.
    before: Option<Position>,
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
        let consumed = |source: &Source| counter!(EVENTS_CONSUMED_TOTAL, "topic" => source.beside.topic().to_string());
        Self {
            beside: source.map(|source| source.beside.clone()),
            partition,
            place: None,
            not_before: Instant::now(),
            rejects: RejectBudget::default(),
            stopped: false,
            consumed: source.map(consumed),
        }
    }

    /// Waits until there is something to read; for ever where nothing is read. Safe to cancel.
    pub(crate) async fn due(&mut self) {
        loop {
            if self.beside.as_ref().is_some_and(Beside::is_gone) {
                // positions of this topic begin anew with it, so those of the next one would prove a place in the last one
                self.place = None;
            }
            if self.has_more() {
                return tokio::time::sleep_until(self.not_before.into()).await;
            }
            match self.beside.as_mut().filter(|_| !self.stopped) {
                Some(beside) => beside.changed().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether there is something to read now.
    pub(crate) fn is_due(&self) -> bool {
        self.has_more() && Instant::now() >= self.not_before
    }

    /// A topic that ends before the place is another one, which is to be read.
    fn has_more(&self) -> bool {
        let next = self.place.map_or(0, |place| place.next);
        !self.stopped && self.end() > 0 && self.end() != next
    }

    fn end(&self) -> i64 {
        let beside = self.beside.as_ref();
        beside.map_or(0, |beside| beside.end(self.partition))
    }

    /// What may be written now, when everything live below `done` is in the table. `None`: nothing, or not at once.
    pub(crate) async fn gather(
        &mut self,
        sink: &Sink,
        handle: &LaneHandle,
        done: i64,
    ) -> Option<Portion> {
        let turns = sink.backfill.as_ref().map(|source| &source.turns)?;
        // the live lane must not wait for another partition's portion
        let Ok(turn) = Arc::clone(turns).try_acquire_owned() else {
            self.not_before = Instant::now() + BUSY;
            return None;
        };
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
        let (Some(beside), Some(next)) = (&self.beside, portion.batch.next()) else {
            return;
        };
        let checkpoint = Checkpoint {
            before: portion.before,
            ..Checkpoint::default()
        };
        let topic = Arc::clone(beside.topic());
        let commit = handle.commit_beside(&topic, next, checkpoint.to_string());
        match commit.await {
            Ok(()) => {
                self.place = Some(Place {
                    next,
                    before: portion.before,
                });
            }
            Err(error) => self.failed(sink, error),
        }
    }

    async fn portion(
        &mut self,
        sink: &Sink,
        handle: &LaneHandle,
        done: i64,
        turn: OwnedSemaphorePermit,
    ) -> Result<Option<Portion>, LaneError> {
        let Some(topic) = self.beside.as_ref().map(|it| Arc::clone(it.topic())) else {
            return Ok(None);
        };
        let place = self.find(handle, &topic).await?;
        let from = (place.next - 1).max(0);
        let records = handle.read_some(&topic, self.partition, from, MOST).await?;
        let Some(records) = self.proven(&topic, place, &records) else {
            return Ok(None);
        };
        let (mut batch, mut before, mut end) = (Batch::of(topic), None, None);
        for record in records {
            let ticket = Ticket::of(record);
            if let Some(ticket) = &ticket
                && ticket.after > done
            {
                let known = match end {
                    Some(known) => known,
                    None => handle.watermarks().await?.high,
                };
                end = Some(known);
                if !ticket.is_due(done, known) {
                    break;
                }
            }
            self.accept(sink, record, ticket.as_ref(), &mut batch)
                .await?;
            before = source_position(record);
        }
        if batch.next().is_none() {
            self.not_before = Instant::now() + HELD;
            return Ok(None);
        }
        Ok(Some(Portion {
            batch,
            before,
            _turn: turn,
        }))
    }

    /// Puts a record into the batch, passes it over because it is for others, or dead-letters it.
    async fn accept(
        &mut self,
        sink: &Sink,
        record: &Record,
        ticket: Option<&Ticket>,
        batch: &mut Batch,
    ) -> Result<(), LaneError> {
        if let Some(consumed) = &self.consumed {
            consumed.increment(1);
        }
        let now = Instant::now();
        let judged = match ticket {
            Some(ticket) if !ticket.is_for(Addressee::Clickhouse) => {
                batch.pass(record.offset, now);
                return Ok(());
            }
            Some(_) => intake::beside(record, sink.writer.id_type()),
            None => Err(no_ticket()),
        };
        match judged {
            Ok(entry) => {
                batch.push(entry, now, Duration::ZERO);
                let _ = self.rejects.note(false);
                Ok(())
            }
            Err(reject) => {
                sink.bury(record, &reject).await?;
                batch.pass(record.offset, now);
                self.rejects.spend(record, &reject)
            }
        }
    }

    /// After what was read last, or where the group's commit says.
    async fn find(&mut self, handle: &LaneHandle, topic: &str) -> Result<Place, LaneError> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let committed = handle.committed_beside(topic).await?;
        let place = committed.map_or(Place::default(), |committed| {
            let checkpoint = committed.metadata.parse::<Checkpoint>().ok();
            Place {
                next: committed.offset,
                before: checkpoint.and_then(|checkpoint| checkpoint.before),
            }
        });
        self.place = Some(place);
        Ok(place)
    }

    /// The records that are new, among those read from the one before the place on. `None`: it is another topic, and
    /// is read from its beginning next; what the table holds of it already is not written twice.
    fn proven<'a>(
        &mut self,
        topic: &str,
        place: Place,
        records: &'a [Record],
    ) -> Option<&'a [Record]> {
        let (first, rest) = match judge(place, records, self.end()) {
            Judged::Same(rest) => return Some(rest),
            Judged::Expired(rest) => (
                rest.first().map_or(self.end(), |record| record.offset),
                Some(rest),
            ),
            Judged::Another => (0, None),
        };
        service::metrics::lineage_violation();
        tracing::error!(
            topic,
            partition = self.partition,
            read_up_to = place.next,
            goes_on_at = first,
            "records of a backfill have expired unread, or its topic was made anew: run that backfill again if it was not complete \
             (`engagectl backfill --list`)"
        );
        self.place = Some(Place {
            next: first,
            before: None,
        });
        rest
    }

    /// Reads again later, or not any more; the live lane goes on.
    pub(crate) fn failed(&mut self, sink: &Sink, error: LaneError) {
        self.place = None;
        self.not_before = Instant::now() + FAILED;
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

/// What the topic says about the place in it.
#[derive(Debug, PartialEq, Eq)]
enum Judged<'a> {
    /// The record before it is the one that was read; or nothing had been read.
    Same(&'a [Record]),
    /// Retention has overtaken it: these are left.
    Expired(&'a [Record]),
    /// The record before it is another one, or the topic ends before it.
    Another,
}

/// `records` were read from the one before the place on; `end` is where the topic ended before that.
fn judge(place: Place, records: &[Record], end: i64) -> Judged<'_> {
    match records {
        _ if place.next == 0 => Judged::Same(records),
        [before, rest @ ..] if before.offset == place.next - 1 => {
            if source_position(before) == place.before {
                Judged::Same(rest)
            } else {
                Judged::Another
            }
        }
        [first, ..] if first.offset == place.next => Judged::Same(records),
        [] if end < place.next => Judged::Another,
        _ => Judged::Expired(records),
    }
}

fn no_ticket() -> Reject {
    let message = format!(
        "the header {} is missing or of another version",
        stream::backfill::BACKFILL
    );
    Reject::new("malformed", "decode", "clickhouse_sink::backfill", message)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stream::headers::ENGAGEMENT_SOURCE;

    use super::*;

    fn record(offset: i64) -> Record {
        let position = Bytes::from(format!("backfill/0/3/{offset}"));
        Record {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: vec![(ENGAGEMENT_SOURCE.to_owned(), Some(position))],
        }
    }

    fn place(next: i64) -> Place {
        Place {
            next,
            before: source_position(&record(next - 1)),
        }
    }

    #[test]
    fn the_record_before_the_place_proves_the_topic_and_is_not_read_again() {
        let records: Vec<Record> = (4..8).map(record).collect();
        assert_eq!(judge(place(5), &records, 8), Judged::Same(&records[1..]));
        assert_eq!(
            judge(Place::default(), &records, 8),
            Judged::Same(&records[..])
        );
    }

    #[test]
    fn a_topic_that_was_made_anew_is_recognised_longer_or_shorter() {
        let other = Place {
            next: 5,
            before: source_position(&record(9)),
        };
        let records: Vec<Record> = (4..8).map(record).collect();
        assert_eq!(judge(other, &records, 8), Judged::Another);
        assert_eq!(judge(place(5), &[], 3), Judged::Another);
    }

    #[test]
    fn what_has_expired_unread_is_told_from_what_has_expired_read() {
        let records: Vec<Record> = (5..8).map(record).collect();
        assert_eq!(judge(place(5), &records, 8), Judged::Same(&records[..]));
        assert_eq!(judge(place(3), &records, 8), Judged::Expired(&records[..]));
        assert_eq!(judge(place(3), &[], 8), Judged::Expired(&[]));
    }
}
