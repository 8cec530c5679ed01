//! Writes pages into the lane topic, in order, and notes them when the broker has all of them.
//!
//! Invariant: a page is noted only while nothing is in flight, and a note names only places below which everything is acknowledged.
//! What is written and not noted is found in the topic by whoever resumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engagement::enrich::Place;
use engagement::event::{EnrichedEvent, Lane, Micros, Position};
use engagement::wire::{self, Format};
use futures_util::future::try_join_all;
use platform::Schema;
use service::Failure;
use stream::backfill::{BACKFILL, Ticket};
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};
use stream::{OutRecord, ProducerLane, SendError};

use super::ledger::{Found, Note, Run, Spec};
use super::log::{Log, unsent};
use super::notes::Notes;
use super::route;
use super::rows::Row;
use super::source::Read;

/// Pages are noted so often: each time nothing may be in flight, which costs as much as a page does.
const NOTED: Duration = Duration::from_millis(500);

/// Nobody waits for a single record: batches of some fifty cost the broker and the sink a fraction of what those of a few do.
const LINGER: Duration = Duration::from_millis(30);

/// What all records of one snapshot have in common.
pub(super) struct Moment {
    /// Per partition: where the live topic ended.
    pub(super) after: Vec<i64>,
    /// Where the log was when the snapshot was taken.
    pub(super) lsn: u64,
}

impl Moment {
    /// When a record of a partition may be applied.
    fn ticket(&self, spec: &Spec, range: u32, partition: usize) -> Ticket {
        Ticket {
            run: spec.run,
            range,
            after: self.after.get(partition).copied().unwrap_or(0),
            lsn: self.lsn,
            sinks: spec.sinks.clone(),
        }
    }
}

/// The writing side of a run.
pub(super) struct Emitter {
    log: Log,
    notes: Notes,
    schema: Schema,
    lanes: Vec<Chain>,
    /// Per partition: everything below it is acknowledged.
    settled: Vec<i64>,
    found: Found,
    /// The last page of each range that is written and not noted.
    unnoted: BTreeMap<u32, Note>,
    noted: Instant,
    /// Records acknowledged by this process.
    pub(super) written: u64,
    /// Events that are too large to be written, with their size.
    pub(super) too_large: Vec<(String, usize)>,
}

/// One partition of the lane topic.
struct Chain {
    lane: ProducerLane<()>,
    epoch: u8,
    /// The offset at which the next record is expected; nothing is ever below it.
    next: i64,
}

impl Emitter {
    /// Goes on at the end of each partition; what was `found` is not written again.
    pub(super) async fn open(
        log: Log,
        notes: Notes,
        schema: Schema,
        found: Found,
    ) -> Result<Self, Failure> {
        let (ends, producer) = (log.ends(&log.lane).await?, log.producer(LINGER)?);
        let settled = ends.clone();
        let count = i32::try_from(ends.len()).unwrap_or(i32::MAX);
        let epochs = log.epochs(count).await?;
        let mut lanes = Vec::with_capacity(ends.len());
        for ((partition, next), epoch) in (0..count).zip(ends).zip(epochs) {
            let lane = producer.lane(&log.lane, partition).await;
            lanes.push(Chain {
                lane: lane.map_err(|error| unsent(&log.lane, &error))?,
                epoch,
                next,
            });
        }
        Ok(Self {
            log,
            notes,
            schema,
            lanes,
            settled,
            found,
            unnoted: BTreeMap::new(),
            noted: Instant::now(),
            written: 0,
            too_large: Vec::new(),
        })
    }

    /// Writes a page, and notes it with others now and then.
    pub(super) async fn emit(
        &mut self,
        run: &mut Run,
        read: Read,
        at: &Moment,
    ) -> Result<(), Failure> {
        let range = read.page.range;
        if !run.has_begun(range) {
            // what is in flight may be lost, and a place behind it would be beyond the end of the topic
            let note = run.begin(range, &self.settled);
            self.notes.range(run, range, note).await?;
        }
        let before = self.too_large.len();
        for row in read.rows {
            if self.found.is_new(range, &row.event_id) {
                self.send(run, range, row, at).await?;
            }
        }
        let left_out = self.too_large.len() - before;
        run.leave_out(range, u64::try_from(left_out).unwrap_or(u64::MAX));
        let ends = (!self.found.has_more_of(range)).then(|| self.ends());
        let note = run.advance(&read.page, ends);
        self.unnoted.insert(range, note);
        if self.noted.elapsed() >= NOTED {
            self.note_pages(run).await?;
        }
        Ok(())
    }

    /// Waits until the broker has everything, and notes it.
    pub(super) async fn note_pages(&mut self, run: &Run) -> Result<(), Failure> {
        for chain in &mut self.lanes {
            let drained = chain.lane.drained().await;
            drained.map_err(|error| unsent(&self.log.lane, &error))?;
        }
        self.settled = self.ends();
        let unnoted = std::mem::take(&mut self.unnoted).into_iter();
        let notes = unnoted.map(|(range, note)| self.notes.range(run, range, note));
        try_join_all(notes).await?;
        self.noted = Instant::now();
        Ok(())
    }

    /// Per partition: nothing that is written from now on comes below it.
    fn ends(&self) -> Vec<i64> {
        self.lanes.iter().map(|chain| chain.next).collect()
    }

    async fn send(&mut self, run: &Run, range: u32, row: Row, at: &Moment) -> Result<(), Failure> {
        let spec = &run.spec;
        let key = route::key(row.content_id.as_deref(), self.schema);
        let partition = route::partition(&key, spec.partitions);
        let index = usize::try_from(partition).unwrap_or(0);
        let chain = &mut self.lanes[index];
        let position = Position {
            lane: Lane::Backfill,
            epoch: chain.epoch,
            partition,
            offset: chain.next,
        };
        let place = Place {
            position,
            prev: chain.next - 1,
            commit_lsn: at.lsn,
            lsn: spec.revision_lsn,
        };
        let event = row.enrich(place, spec.revision_lsn, Micros::from_millis(spec.run));
        let ticket = at.ticket(spec, range, index);
        match chain
            .lane
            .send(record(&event, &ticket), position.offset, ())
            .await
        {
            Ok(()) => {
                chain.next += 1;
                self.written += 1;
                Ok(())
            }
            Err(SendError::TooLarge { size, .. }) => {
                self.too_large.push((event.event_id, size));
                Ok(())
            }
            Err(error) => Err(unsent(&self.log.lane, &error)),
        }
    }
}

/// An event of a backfill as a record; topic and partition are filled in by the producer's lane.
fn record(event: &EnrichedEvent, ticket: &Ticket) -> OutRecord {
    let format = Format::Protobuf;
    let text = |text: String| Some(Bytes::from(text));
    OutRecord {
        topic: Arc::from(""),
        partition: None,
        key: event
            .content_id
            .as_ref()
            .map(|id| Bytes::copy_from_slice(id.as_bytes())),
        payload: Some(Bytes::from(wire::encode(event, format))),
        headers: vec![
            (
                ENGAGEMENT_SOURCE.to_owned(),
                text(event.source.position().to_string()),
            ),
            (
                CONTENT_TYPE.to_owned(),
                Some(Bytes::from_static(format.content_type().as_bytes())),
            ),
            (BACKFILL.to_owned(), text(ticket.to_string())),
        ],
        timestamp_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;
    use stream::backfill::Addressee;
    use stream::headers::last_text;

    use super::*;

    #[test]
    fn a_record_says_where_it_stands_what_it_is_and_when_it_may_be_applied() {
        let ticket = Ticket {
            run: 7,
            range: 1,
            after: 42,
            lsn: 0x1f,
            sinks: vec![Addressee::Clickhouse],
        };
        let event = Sample::new().at_position(3, 9).lane(Lane::Backfill).build();
        let record = record(&event, &ticket);
        let header = |name| last_text(&record.headers, name);
        assert_eq!(header(ENGAGEMENT_SOURCE), Some("backfill/0/3/9"));
        assert_eq!(
            header(BACKFILL),
            Some("run=7 range=1 after=42 lsn=1f for=clickhouse")
        );
        assert_eq!(
            record.key.as_deref(),
            event.content_id.as_deref().map(str::as_bytes)
        );
        let payload = record.payload.as_deref().unwrap();
        let format = Format::from_content_type(header(CONTENT_TYPE).unwrap()).unwrap();
        assert_eq!(wire::decode(payload, format).unwrap(), event);
    }
}
