//! Judges a record before anything is sent. Pure.
//!
//! Invariant: every record ends as exactly one of message, skip, dead letter or stop, and the
//! reader's position moves over each of them except the last.

use engagement::event::{EnrichedEvent, Position, Source};
use engagement::wire::{Format, decode};
use stream::backfill::{Addressee, Ticket};
use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE, last_text};
use stream::lineage::{Reader, Verdict};
use stream::redrive::{self, Address};
use stream::{LaneError, Record};

use crate::endpoint::Selection;
use crate::message::{Message, MessageShape};

/// What becomes of a record.
#[derive(Debug)]
pub enum Intake {
    /// It is sent.
    Send(Message),
    /// It is not sent, for this reason.
    Skip(Skip),
    /// It cannot be read: a dead letter, with the reason.
    Poison(String),
    /// The log has a hole: a human must repair.
    Stop(LaneError),
}

/// Why a record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Its position was seen before.
    Duplicate,
    /// The endpoint does not want it.
    Unwanted,
}

/// Judges one record for this endpoint and moves `reader` on.
pub fn judge(
    record: &Record,
    reader: &mut Reader,
    endpoint: &str,
    shape: &MessageShape,
    selection: Selection,
) -> Intake {
    let ticket = Ticket::of(record);
    if ticket
        .as_ref()
        .is_some_and(|ticket| !ticket.is_for(Addressee::Webhook))
    {
        return Intake::Skip(Skip::Unwanted);
    }
    match taken(record, reader, endpoint, shape, selection) {
        Intake::Send(message) => Intake::Send(Message {
            run: ticket.map(|ticket| ticket.run),
            ..message
        }),
        other => other,
    }
}

fn taken(
    record: &Record,
    reader: &mut Reader,
    endpoint: &str,
    shape: &MessageShape,
    selection: Selection,
) -> Intake {
    match redrive::address(record, crate::NAME, Some(endpoint)) {
        Address::Everyone => {}
        Address::Me => return redriven(record, shape, selection),
        Address::Other => return Intake::Skip(Skip::Unwanted),
    }
    let event = match read(record) {
        Ok(event) => event,
        Err(reason) => return poison(record, reader, reason),
    };
    match reader.check(&event.source) {
        Verdict::Duplicate => Intake::Skip(Skip::Duplicate),
        Verdict::Hole { last, prev, found } => Intake::Stop(hole(record, last, prev, found)),
        Verdict::Apply => send(&event, shape, selection),
        Verdict::Redriven => late(send(&event, shape, selection)),
    }
}

fn send(event: &EnrichedEvent, shape: &MessageShape, selection: Selection) -> Intake {
    if !selection.wants(event) {
        return Intake::Skip(Skip::Unwanted);
    }
    match shape.message(event) {
        Ok(message) => Intake::Send(message),
        Err(error) => Intake::Poison(format!("the profile rendered no JSON: {error}")),
    }
}

/// A letter of this endpoint that was sent back: the same message, beside the chain.
fn redriven(record: &Record, shape: &MessageShape, selection: Selection) -> Intake {
    match read(record) {
        Ok(event) => late(send(&event, shape, selection)),
        Err(reason) => Intake::Poison(reason),
    }
}

/// How long a letter lay somewhere says nothing about how fast events are delivered.
fn late(intake: Intake) -> Intake {
    match intake {
        Intake::Send(message) => Intake::Send(Message {
            committed_at: None,
            ..message
        }),
        other => other,
    }
}

fn read(record: &Record) -> Result<EnrichedEvent, String> {
    let payload = record.payload.as_deref();
    let payload = payload.ok_or("an enriched record has a value, this one has none")?;
    let format = match last_text(&record.headers, CONTENT_TYPE) {
        None => Format::Protobuf,
        Some(text) => Format::from_content_type(text)
            .ok_or_else(|| format!("content-type {text:?} is neither Protobuf nor JSON"))?,
    };
    decode(payload, format).map_err(|error| error.to_string())
}

/// A record that cannot be read still has its place in the chain, named by its header.
fn poison(record: &Record, reader: &mut Reader, reason: String) -> Intake {
    let position = last_text(&record.headers, ENGAGEMENT_SOURCE).and_then(|t| t.parse().ok());
    let passed = position.map(|position| reader.check(&stand_in(position, reader)));
    match passed {
        Some(Verdict::Duplicate) => Intake::Skip(Skip::Duplicate),
        _ => Intake::Poison(reason),
    }
}

/// Lineage of a record of which only the position is known: it cannot show a hole, and repeats the mark.
fn stand_in(position: Position, reader: &Reader) -> Source {
    let mark = reader.checkpoint().mark;
    Source {
        lane: position.lane,
        epoch: position.epoch,
        partition: position.partition,
        offset: position.offset,
        prev: -1,
        commit_lsn: mark.map_or(0, |mark| mark.commit_lsn),
        lsn: mark.map_or(0, |mark| mark.lsn),
        tx_id: None,
        committed_at: mark.map_or(engagement::event::Micros(0), |mark| mark.committed_at),
        snapshot: false,
    }
}

fn hole(record: &Record, last: Position, prev: i64, found: Position) -> LaneError {
    let Record {
        topic,
        partition,
        offset,
        ..
    } = record;
    LaneError::stop(
        format!(
            "{topic}/{partition} offset {offset} ({found}) follows source offset {prev}, the last one seen is {last}: records between them are missing"
        ),
        "see `engagectl lineage show`; `engagectl verify` names the missing events, `engagectl lineage adopt` goes on behind the hole",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Order;
    use bytes::Bytes;
    use engagement::event::Origin;
    use engagement::profile::{Profile, RenderOptions};
    use engagement::testing::Sample;
    use engagement::wire::encode;

    const SELECTION: Selection = Selection {
        historical: false,
        deletions: true,
        moved: false,
    };

    fn record(event: &EnrichedEvent, format: Format) -> Record {
        let text = |name: &str, value: String| (name.to_owned(), Some(Bytes::from(value)));
        Record {
            topic: "engagement.enriched.v1".into(),
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            payload: Some(encode(event, format).into()),
            headers: vec![
                text(CONTENT_TYPE, format.content_type().to_owned()),
                text(ENGAGEMENT_SOURCE, event.source.position().to_string()),
            ],
        }
    }

    fn judge_one(record: &Record, reader: &mut Reader) -> Intake {
        let shape = MessageShape {
            order: Order::Content,
            profile: Profile::Canonical,
            envelope: true,
            render: RenderOptions::default(),
        };
        judge(record, reader, "crm", &shape, SELECTION)
    }

    /// The copy of what the endpoint of that name gave up.
    fn redriven_to(endpoint: &str, original: &Record) -> Record {
        let mut copy = original.clone();
        stream::headers::set(
            &mut copy.headers,
            redrive::TO,
            format!("webhook-forwarder.{endpoint}"),
        );
        copy
    }

    fn at(offset: i64) -> Record {
        let event = Sample::new().at_position(0, offset).build();
        record(&event, Format::Protobuf)
    }

    #[test]
    fn both_wire_formats_make_the_same_message() {
        let messages = [Format::Protobuf, Format::Json].map(|format| {
            let intake = judge_one(&record(&Sample::new().build(), format), &mut Reader::new());
            match intake {
                Intake::Send(message) => message,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(messages[0], messages[1]);
    }

    #[test]
    fn a_position_seen_before_is_skipped_and_a_hole_stops() {
        let mut reader = Reader::new();
        assert!(matches!(judge_one(&at(5), &mut reader), Intake::Send(_)));
        let again = judge_one(&at(5), &mut reader);
        assert!(matches!(again, Intake::Skip(Skip::Duplicate)));
        let Intake::Stop(error) = judge_one(&at(9), &mut reader) else {
            panic!("a hole must stop")
        };
        let text = error.to_string();
        assert!(
            text.contains("live/0/0/9") && text.contains("live/0/0/5"),
            "{text}"
        );
    }

    #[test]
    fn a_letter_sent_back_is_the_same_message_and_only_for_its_endpoint() {
        let mut reader = Reader::new();
        let Intake::Send(first) = judge_one(&at(5), &mut reader) else {
            panic!("it is sent")
        };
        let before = reader;
        let Intake::Send(again) = judge_one(&redriven_to("crm", &at(5)), &mut reader) else {
            panic!("it is sent again")
        };
        assert_eq!((&again.id, &again.body), (&first.id, &first.body));
        let other = judge_one(&redriven_to("erp", &at(5)), &mut reader);
        assert!(matches!(other, Intake::Skip(Skip::Unwanted)));
        assert_eq!(reader, before);
        assert!(matches!(judge_one(&at(6), &mut reader), Intake::Send(_)));
    }

    #[test]
    fn a_letter_of_another_endpoint_is_no_beginning_of_the_chain() {
        let mut reader = Reader::new();
        judge_one(&redriven_to("erp", &at(5)), &mut reader);
        assert!(matches!(judge_one(&at(900), &mut reader), Intake::Send(_)));
    }

    #[test]
    fn historical_events_are_skipped_and_move_the_position() {
        let mut reader = Reader::new();
        let old = Sample::new()
            .at_position(0, 5)
            .origin(Origin::Snapshot)
            .build();
        let intake = judge_one(&record(&old, Format::Protobuf), &mut reader);
        assert!(matches!(intake, Intake::Skip(Skip::Unwanted)));
        assert!(matches!(judge_one(&at(6), &mut reader), Intake::Send(_)));
    }

    #[test]
    fn a_backfill_for_other_sinks_is_skipped_and_one_for_webhooks_is_sent_where_it_is_wanted() {
        let event = Sample::new()
            .at_position(0, 5)
            .lane(engagement::event::Lane::Backfill);
        let event = event.origin(Origin::Backfill).build();
        let shape = MessageShape {
            order: Order::Content,
            profile: Profile::Canonical,
            envelope: true,
            render: RenderOptions::default(),
        };
        let wants = Selection {
            historical: true,
            ..SELECTION
        };
        for (sinks, is_sent) in [("clickhouse", false), ("clickhouse,webhook", true)] {
            let mut record = record(&event, Format::Protobuf);
            let ticket = format!("run=7 range=0 after=0 lsn=0 for={sinks}");
            let header = (
                stream::backfill::BACKFILL.to_owned(),
                Some(Bytes::from(ticket)),
            );
            record.headers.push(header);
            let intake = judge(&record, &mut Reader::new(), "crm", &shape, wants);
            let run = match intake {
                Intake::Send(message) => message.run,
                _ => None,
            };
            assert_eq!(run, is_sent.then_some(7), "{sinks}");
        }
    }

    #[test]
    fn poison_is_named_and_keeps_its_place_in_the_chain() {
        let mut reader = Reader::new();
        judge_one(&at(5), &mut reader);
        let mut broken = at(6);
        broken.payload = Some(Bytes::from_static(b"\xff\xff"));
        assert!(matches!(judge_one(&broken, &mut reader), Intake::Poison(_)));
        let again = judge_one(&broken, &mut reader);
        assert!(matches!(again, Intake::Skip(Skip::Duplicate)));
        assert!(matches!(judge_one(&at(7), &mut reader), Intake::Send(_)));
    }

    #[test]
    fn a_tombstone_and_an_unknown_content_type_are_poison() {
        let mut tombstone = at(5);
        tombstone.payload = None;
        assert!(matches!(
            judge_one(&tombstone, &mut Reader::new()),
            Intake::Poison(_)
        ));
        let mut odd = at(5);
        odd.headers[0].1 = Some(Bytes::from_static(b"text/csv"));
        let Intake::Poison(reason) = judge_one(&odd, &mut Reader::new()) else {
            panic!("must be poison")
        };
        assert!(reason.contains("text/csv"), "{reason}");
    }
}
