//! What a record of the enriched topic is to this sink: rows to write, a duplicate, a dead letter, or the sign of a hole.
//! Pure.
//!
//! Invariant: the checkpoint of a record counts every record up to it and none after it.

use engagement::event::{EnrichedEvent, Lane, Micros, Position, Source};
use stream::checkpoint::Checkpoint;
use stream::dead_letter::Reject;
use stream::lineage::{Reader, Verdict};
use stream::redrive::{self, Address};
use stream::resume::source_position;
use stream::{LaneError, Record};

use crate::decode::decode;
use crate::metrics::SERVICE;
use crate::plan::Entry;
use crate::row::EventIdType;

/// Judges the records of one partition in their order.
#[derive(Debug)]
pub struct Intake {
    reader: Reader,
    id_type: EventIdType,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Judged {
    /// It has rows to write.
    Entry(Box<Entry>),
    /// It was applied before.
    Duplicate,
    /// It never will have rows.
    Reject(Reject),
    /// Records before it are missing.
    Hole(LaneError),
}

impl Intake {
    /// Continues where `reader` is, for a table whose `event_id` is of this type.
    #[must_use]
    pub fn new(reader: Reader, id_type: EventIdType) -> Self {
        Self { reader, id_type }
    }

    /// What to do with the next record. `watch` sees the event of one that turns out to have rows.
    pub fn judge(&mut self, record: &Record, watch: impl FnOnce(&EnrichedEvent)) -> Judged {
        match redrive::address(record, SERVICE, None) {
            Address::Everyone => {}
            Address::Me => return self.redriven(record),
            Address::Other => return Judged::Duplicate,
        }
        let event = match read(record) {
            Ok(event) => event,
            Err(reject) => {
                self.pass_over(record);
                return Judged::Reject(reject);
            }
        };
        match self.reader.check(&event.source) {
            Verdict::Duplicate => Judged::Duplicate,
            Verdict::Hole { last, prev, found } => Judged::Hole(hole(record, last, prev, found)),
            Verdict::Apply | Verdict::Redriven => {
                let judged = entry(&event, record.offset, self.id_type);
                if matches!(judged, Judged::Entry(_)) {
                    watch(&event);
                }
                judged
            }
        }
    }

    /// A letter of this sink that was sent back. Its position was passed long ago, so it is applied by id and revision, beside
    /// the chain.
    fn redriven(&self, record: &Record) -> Judged {
        match read(record).and_then(|event| encode(&event, record.offset, self.id_type)) {
            Ok(mut entry) => {
                entry.by_id = true;
                Judged::Entry(Box::new(entry))
            }
            Err(reject) => Judged::Reject(reject),
        }
    }

    /// What to commit once the record judged last, and all before it, are done.
    #[must_use]
    pub fn checkpoint(&self, record: &Record) -> Checkpoint {
        // Where the next owner looks for its proof there may be a record without a position.
        Checkpoint {
            before: source_position(record),
            ..self.reader.checkpoint()
        }
    }

    /// A record that cannot be read still holds its place in the chain, by its header.
    fn pass_over(&mut self, record: &Record) {
        let Some(Position {
            lane,
            epoch,
            partition,
            offset,
        }) = source_position(record)
        else {
            return;
        };
        let last = self.reader.last().filter(|last| last.epoch == epoch);
        let mark = self.reader.checkpoint().mark;
        let source = Source {
            lane,
            epoch,
            partition,
            offset,
            prev: last.map_or(-1, |last| last.offset),
            commit_lsn: mark.map_or(0, |mark| mark.commit_lsn),
            lsn: mark.map_or(0, |mark| mark.lsn),
            tx_id: None,
            committed_at: mark.map_or(Micros(0), |mark| mark.committed_at),
            snapshot: false,
        };
        // A duplicate of a readable record may be unreadable; either way there is nothing else to do with it.
        let _ = self.reader.check(&source);
    }
}

/// The entry of a record that stands in no chain: of a backfill.
///
/// # Errors
/// It never will have rows.
pub fn beside(record: &Record, id_type: EventIdType) -> Result<Entry, Reject> {
    let event = read(record)?;
    if event.source.lane == Lane::Live {
        let message = format!("{} is a position of the live lane", event.source.position());
        return Err(Reject::new(
            "malformed",
            "decode",
            "clickhouse_sink::intake",
            message,
        ));
    }
    encode(&event, record.offset, id_type)
}

fn read(record: &Record) -> Result<EnrichedEvent, Reject> {
    decode(record).map_err(|poison| {
        let class = "clickhouse_sink::decode";
        Reject::new("malformed", "decode", class, poison.to_string())
    })
}

fn encode(event: &EnrichedEvent, offset: i64, id_type: EventIdType) -> Result<Entry, Reject> {
    Entry::of(event, offset, id_type).map_err(|error| {
        let class = "clickhouse_sink::row";
        Reject::new("unstorable", "encode", class, error.to_string())
    })
}

fn entry(event: &EnrichedEvent, offset: i64, id_type: EventIdType) -> Judged {
    match encode(event, offset, id_type) {
        Ok(entry) => Judged::Entry(Box::new(entry)),
        Err(reject) => Judged::Reject(reject),
    }
}

fn hole(record: &Record, last: Position, prev: i64, found: Position) -> LaneError {
    LaneError::stop(
        format!(
            "topic {} partition {} offset {}: records are missing between {last} and {found}, whose predecessor is {prev}",
            record.topic, record.partition, record.offset
        ),
        "see `engagectl lineage show`; \
         `engagectl verify` names the missing events, `engagectl lineage adopt` goes on behind the hole",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::Sample;
    use engagement::wire::{Format, encode};
    use stream::dead_letter::{Entry as InTopic, letter_headers};
    use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

    use super::*;

    fn record(offset: i64, payload: Option<Vec<u8>>) -> Record {
        let texts = [
            (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
            (ENGAGEMENT_SOURCE, format!("live/0/0/{offset}")),
        ];
        Record {
            topic: "engagement.enriched.v1".into(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            payload: payload.map(Bytes::from),
            headers: texts
                .map(|(name, text)| (name.to_owned(), Some(Bytes::from(text))))
                .to_vec(),
        }
    }

    fn at(offset: i64) -> Record {
        let event = Sample::new().at_position(0, offset).build();
        record(offset, Some(encode(&event, Format::Protobuf)))
    }

    /// The copy of what `service` gave up.
    fn redriven(service: &str, original: &Record) -> Record {
        let reject = Reject::new("refused", "write", "x", "y");
        let letter = Record {
            headers: letter_headers(service, original, &reject, Micros(0)),
            ..original.clone()
        };
        let InTopic::Letter(letter) = InTopic::of(letter) else {
            panic!("no mark")
        };
        let out = redrive::to_reader(&letter, &original.topic, 0, Micros(0));
        Record {
            offset: 99,
            headers: out.headers,
            ..original.clone()
        }
    }

    #[test]
    fn a_letter_sent_back_to_this_sink_is_applied_by_id_and_moves_nothing() {
        let mut intake = Intake::new(Reader::new(), EventIdType::Int64);
        for offset in [5, 6] {
            assert!(
                matches!(intake.judge(&at(offset), |_| ()), Judged::Entry(entry) if !entry.by_id)
            );
        }
        let again = redriven(SERVICE, &at(5));
        assert!(matches!(intake.judge(&again, |_| ()), Judged::Entry(entry) if entry.by_id));
        assert!(matches!(intake.judge(&at(7), |_| ()), Judged::Entry(_)));
        assert!(matches!(intake.judge(&at(5), |_| ()), Judged::Duplicate));
    }

    #[test]
    fn a_letter_of_another_sink_has_no_effect_even_for_a_reader_that_has_seen_nothing() {
        let mut intake = Intake::new(Reader::new(), EventIdType::Int64);
        let other = redriven("webhook-forwarder", &at(5));
        assert!(matches!(intake.judge(&other, |_| ()), Judged::Duplicate));
        assert!(matches!(intake.judge(&at(900), |_| ()), Judged::Entry(_)));
    }

    #[test]
    fn a_letter_that_still_cannot_be_read_is_given_up_again() {
        let mut intake = Intake::new(Reader::new(), EventIdType::Int64);
        let broken = redriven(SERVICE, &record(5, Some(b"\xff\xff".to_vec())));
        assert!(matches!(intake.judge(&broken, |_| ()), Judged::Reject(_)));
    }
}
