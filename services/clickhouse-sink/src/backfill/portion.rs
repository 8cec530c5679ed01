//! What a partition reads of a backfill at once, and which of it may be written.
//!
//! Invariant: nothing is taken behind a record that still must wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::backfill::{Addressee, Ticket};
use stream::dead_letter::Reject;
use stream::resume::source_position;
use stream::{LaneError, LaneHandle, Record};
use tokio::sync::OwnedSemaphorePermit;

use super::place::{Judged, Place, judge};
use super::{Backfill, Portion};
use crate::batch::Batch;
use crate::intake;
use crate::sink::Sink;

/// Before it is looked again where nothing was found.
const EMPTY: Duration = Duration::from_millis(500);
/// So long a record that must wait for live ones is not read again, unless they have come: only another live topic than it was
/// meant for ends its wait otherwise.
const UNREAD: Duration = Duration::from_secs(5);

impl Backfill {
    pub(super) async fn portion(
        &mut self,
        sink: &Sink,
        handle: &LaneHandle,
        done: i64,
        turn: OwnedSemaphorePermit,
    ) -> Result<Option<Portion>, LaneError> {
        let Some(reading) = &self.reading else {
            return Ok(None);
        };
        let topic = Arc::clone(reading.beside.topic());
        let place = self.find(handle, &topic).await?;
        let (from, most) = ((place.next - 1).max(0), self.size.most());
        let reading = handle.read_some(&topic, self.partition, from, most);
        let records = reading.await?;
        let Some(passed) = self.proven(&topic, place, &records) else {
            return Ok(None);
        };
        let (mut batch, mut before, mut end) = (Batch::of(topic), None, None);
        self.held = None;
        // each is dropped when it is taken: all of them and their rows together would be twice as much
        for record in records.into_iter().skip(passed) {
            let ticket = Ticket::of(&record);
            if let Some(ticket) = &ticket
                && ticket.after > done
            {
                let known = match end {
                    Some(known) => known,
                    None => handle.watermarks().await?.high,
                };
                end = Some(known);
                if !ticket.is_due(done, known) {
                    (self.held, self.not_before) = (Some(ticket.after), Instant::now() + UNREAD);
                    break;
                }
            }
            self.accept(sink, &record, ticket.as_ref(), &mut batch)
                .await?;
            before = source_position(&record);
        }
        if batch.next().is_none() {
            self.not_before = self.not_before.max(Instant::now() + EMPTY);
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
        if let Some(reading) = &self.reading {
            reading.consumed.increment(1);
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
        let place = Place::of(handle.committed_beside(topic).await?);
        self.place = Some(place);
        Ok(place)
    }

    /// How many of the records, read from the one before the place on, are not new. `None`: it is another topic, and
    /// is read from its beginning next; what the table holds of it already is not written twice.
    fn proven(&mut self, topic: &str, place: Place, records: &[Record]) -> Option<usize> {
        let (first, passed) = match judge(place, records, self.end()) {
            Judged::Same { passed } => return Some(passed),
            Judged::Expired => (
                records.first().map_or(self.end(), |record| record.offset),
                Some(0),
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
        passed
    }
}

fn no_ticket() -> Reject {
    let message = format!(
        "the header {} is missing or of another version",
        stream::backfill::BACKFILL
    );
    Reject::new("malformed", "decode", "clickhouse_sink::backfill", message)
}
