//! Letters on their way back: what a copy says about itself, and how a service tells it from a record of the stream. Pure.
//!
//! A change record goes back to its partition of the change topic. It names the epoch that it was given up in, and the enricher
//! takes it past the mark into the redrive lane (DESIGN section 11, rule 13). What a sink gave up goes back to its partition of the
//! enriched topic with its own source position, which every other reader drops as a repeat; only the reader that it is addressed
//! to takes it, by its id and revision.
//!
//! Invariant: key, value and the record's own headers are the original's; a copy that is not addressed to a reader has no effect there.

use std::sync::Arc;

use bytes::Bytes;
use engagement::event::Micros;

use crate::dead_letter::{
    EPOCH, FIRST_FAILED_AT, LETTER, Letter, REDRIVE_COUNT, REDRIVEN_AT, consumer,
};
use crate::headers::{Headers, last_text};
use crate::producer::OutRecord;
use crate::record::Record;

/// The one reader that a copy in the enriched topic is for: `clickhouse-sink`, `webhook-forwarder.<endpoint>`.
pub const TO: &str = "engage.redrive.to";

/// Whom a record of the enriched topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// A record of the stream.
    Everyone,
    /// A copy of a letter of this reader.
    Me,
    /// A copy of a letter of another one: it has no effect here.
    Other,
}

/// Whether `record` is for this service, or this endpoint of it.
#[must_use]
pub fn address(record: &Record, service: &str, endpoint: Option<&str>) -> Address {
    let Some(to) = record.header(TO) else {
        return Address::Everyone;
    };
    let mine = match endpoint {
        None => to == service.as_bytes(),
        Some(endpoint) => to == consumer(service, Some(endpoint)).as_bytes(),
    };
    if mine { Address::Me } else { Address::Other }
}

/// Whether a record is a copy of a letter: if it fails again, that says nothing about the stream.
#[must_use]
pub fn is_copy(record: &Record) -> bool {
    record.header(LETTER).is_some() && record.header(REDRIVEN_AT).is_some()
}

/// Of a copy in the change topic, the epoch that it was given up in; the outer `None`: a record of the stream.
#[must_use]
pub fn epoch(record: &Record) -> Option<Option<u8>> {
    is_copy(record).then(|| last_text(&record.headers, EPOCH)?.parse().ok())
}

/// Of a copy in the change topic, when it was given up: every copy of a letter says the same.
#[must_use]
pub fn given_up_at(record: &Record) -> Option<Micros> {
    last_text(&record.headers, FIRST_FAILED_AT)?.parse().ok()
}

/// The copy of a letter of the enricher, for its partition of the change topic.
#[must_use]
pub fn to_enricher(letter: &Letter, topic: &Arc<str>, partition: i32, at: Redrive) -> OutRecord {
    let mut out = copy(letter, topic, partition, at.now);
    set(&mut out.headers, EPOCH, at.epoch.to_string());
    let failed_at = letter.failed_at().to_string();
    set(&mut out.headers, FIRST_FAILED_AT, failed_at);
    out
}

/// When a letter of the enricher is redriven, and the epoch it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// Now.
    pub now: Micros,
    /// The epoch that its letter names.
    pub epoch: u8,
}

/// The copy of a letter of a sink, for its partition of the enriched topic.
#[must_use]
pub fn to_reader(letter: &Letter, topic: &Arc<str>, partition: i32, now: Micros) -> OutRecord {
    let mut out = copy(letter, topic, partition, now);
    set(&mut out.headers, TO, letter.consumer());
    out
}

/// The time is now: by the original's, retention could take the copy at once.
fn copy(letter: &Letter, topic: &Arc<str>, partition: i32, now: Micros) -> OutRecord {
    let mut headers = letter.original_headers();
    set(&mut headers, LETTER, letter.at.to_string());
    let count = letter.redrives.saturating_add(1);
    set(&mut headers, REDRIVE_COUNT, count.to_string());
    set(&mut headers, REDRIVEN_AT, now.to_string());
    OutRecord {
        topic: Arc::clone(topic),
        partition: Some(partition),
        key: letter.record.key.clone(),
        payload: letter.record.payload.clone(),
        headers,
        timestamp_ms: None,
    }
}

fn set(headers: &mut Headers, name: &str, value: String) {
    headers.push((name.to_owned(), Some(Bytes::from(value))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{ENDPOINT, Entry, Reject, letter_headers};

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn letter(service: &str, endpoint: Option<&'static str>) -> Letter {
        let header = |name: &str, value: &'static str| (name.to_owned(), Some(value.into()));
        let mut headers = vec![
            header("engagement-source", "live/0/3/42"),
            header("x", "y"),
            header(EPOCH, "1"),
        ];
        headers.extend(endpoint.map(|endpoint| header(ENDPOINT, endpoint)));
        let record = Record {
            topic: "origin".into(),
            partition: 3,
            offset: 7,
            timestamp_ms: Some(5),
            key: Some(Bytes::from_static(b"k")),
            payload: Some(Bytes::from_static(b"\x00\xff")),
            headers,
        };
        let reject = Reject::new("refused", "write", "x", "y");
        let headers = letter_headers(service, &record, &reject, NOW);
        read(Record {
            topic: format!("engagement.dlq.{service}").into(),
            offset: 11,
            headers,
            ..record
        })
    }

    fn read(record: Record) -> Letter {
        match Entry::of(record) {
            Entry::Letter(letter) => *letter,
            Entry::Mark(mark) => panic!("{mark:?}"),
        }
    }

    fn arrived(out: OutRecord) -> Record {
        Record {
            topic: out.topic,
            partition: out.partition.unwrap(),
            offset: 99,
            timestamp_ms: Some(6),
            key: out.key,
            payload: out.payload,
            headers: out.headers,
        }
    }

    #[test]
    fn a_copy_for_a_sink_is_the_original_and_reaches_only_its_reader() {
        let letter = letter("webhook-forwarder", Some("crm"));
        let copy = arrived(to_reader(&letter, &"enriched".into(), 3, NOW));
        assert_eq!(
            (&copy.key, &copy.payload),
            (&letter.record.key, &letter.record.payload)
        );
        assert_eq!(copy.header("engagement-source"), Some(&b"live/0/3/42"[..]));
        assert_eq!(copy.header("x"), Some(&b"y"[..]));
        assert!(is_copy(&copy));
        for (service, endpoint, expected) in [
            ("webhook-forwarder", Some("crm"), Address::Me),
            ("webhook-forwarder", Some("crm2"), Address::Other),
            ("webhook-forwarder", None, Address::Other),
            ("clickhouse-sink", None, Address::Other),
        ] {
            assert_eq!(address(&copy, service, endpoint), expected, "{service}");
        }
        assert_eq!(
            address(&letter.record, "clickhouse-sink", None),
            Address::Everyone
        );
    }

    #[test]
    fn a_copy_for_the_enricher_names_the_epoch_of_its_letter_and_a_record_of_the_stream_none() {
        let letter = letter("enricher", None);
        let at = Redrive { now: NOW, epoch: 1 };
        let copy = arrived(to_enricher(&letter, &"cdc".into(), 3, at));
        assert_eq!(epoch(&copy), Some(Some(1)));
        assert_eq!(epoch(&letter.record), None, "a letter is no copy");
        let mut broken = copy;
        crate::headers::set(&mut broken.headers, EPOCH, "x");
        assert_eq!(epoch(&broken), Some(None));
    }

    #[test]
    fn a_copy_that_fails_again_is_a_letter_that_counts_on_and_copies_the_same_bytes() {
        let first = letter("clickhouse-sink", None);
        let copy = arrived(to_reader(&first, &"enriched".into(), 3, NOW));
        let reject = Reject::new("refused", "write", "x", "again");
        let headers = letter_headers("clickhouse-sink", &copy, &reject, NOW);
        let again = read(Record {
            headers,
            ..copy.clone()
        });
        assert_eq!(again.redrives, 1);
        assert_eq!(again.origin.as_ref().unwrap().offset, 99);
        assert_eq!(again.original_headers(), first.original_headers());
        let second = arrived(to_reader(&again, &"enriched".into(), 3, NOW));
        assert_eq!(second.header(REDRIVE_COUNT), Some(&b"2"[..]));
        assert_eq!(second.payload, first.record.payload);
    }
}
