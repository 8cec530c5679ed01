//! What services gave up of an event: the dead letters of its records.
//!
//! Invariant: a letter belongs to a record only if its headers name topic, partition and offset of it.

use std::collections::BTreeSet;

use engagement::event::Micros;
use serde_json::Value;
use service::Failure;
use stream::dead_letter::{self, Entry, connect};
use stream::headers::last_text;
use stream::scan::{Scanner, Span};
use stream::{LaneError, Record};

use super::log::{BEFORE, Found, Log, NAME};
use crate::kafka;

/// Services that dead-letter.
const LETTERS: [&str; 4] = crate::pipeline::SERVICES;

/// A dead letter of the event.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) service: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) at: Option<Micros>,
    pub(super) kind: String,
    pub(super) attempts: String,
    pub(super) message: String,
}

impl Log {
    /// What services gave up of it.
    pub(super) async fn letters(&self, found: &Found) -> Result<Vec<Letter>, Failure> {
        let places: BTreeSet<(String, String, String)> = [
            (&self.cdc, Some(found.source.offset)),
            (&self.enriched, found.offset),
        ]
        .into_iter()
        .filter_map(|(topic, offset)| {
            let partition = found.source.partition.to_string();
            Some((topic.clone(), partition, offset?.to_string()))
        })
        .collect();
        let (settings, partition) = (self.settings.clone(), found.source.partition);
        let since = found.source.committed_at.0 / 1000 - BEFORE;
        kafka::ask(move || {
            let mut letters = Vec::new();
            for service in LETTERS {
                let scanner = Scanner::open(&settings, NAME, &dead_letter::topic(service))?;
                let mut spans = scanner.spans()?;
                spans.retain(|span| span.partition == partition);
                // letters keep the time of their record
                let spans = written_since(&scanner, &spans, since)?;
                scanner.read(&spans, |record| {
                    if is_from(&record, &places) {
                        letters.extend(letter(service, record));
                    }
                })?;
            }
            Ok(letters)
        })
        .await
    }
}

impl Log {
    /// The last letter of the enricher about an event that it never enriched; letters keep the time of their record.
    pub(super) async fn given_up(
        &self,
        event_key: &'static str,
        event_id: &str,
        since: Micros,
    ) -> Result<Option<Letter>, Failure> {
        let (settings, id) = (self.settings.clone(), event_id.to_owned());
        kafka::ask(move || {
            let service = LETTERS[0];
            let scanner = Scanner::open(&settings, NAME, &dead_letter::topic(service))?;
            let mut last = None;
            let spans = written_since(&scanner, &scanner.spans()?, since.millis())?;
            scanner.read(&spans, |record| {
                if names(record.payload.as_deref(), event_key, &id) {
                    last = letter(service, record).or(last.take());
                }
            })?;
            Ok(last)
        })
        .await
    }
}

/// A topic that is not there has no letters, and a broker that is asked for the times of no partition refuses.
fn written_since(scanner: &Scanner, spans: &[Span], millis: i64) -> Result<Vec<Span>, LaneError> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    scanner.since(spans, millis)
}

/// Whether a change record, which need not be a good one, is of this event.
fn names(payload: Option<&[u8]>, event_key: &str, event_id: &str) -> bool {
    let Some(Ok(change)) = payload.map(serde_json::from_slice::<Value>) else {
        return false;
    };
    let forms = ["/payload/after", "/payload/before", "/after", "/before", ""];
    let is_it = |row: &Value| match &row[event_key] {
        Value::String(id) => id == event_id,
        Value::Number(id) => id.to_string() == event_id,
        _ => false,
    };
    forms
        .iter()
        .filter_map(|form| change.pointer(form))
        .any(is_it)
}

fn is_from(letter: &Record, places: &BTreeSet<(String, String, String)>) -> bool {
    let text = |name: &str| {
        last_text(&letter.headers, name)
            .unwrap_or_default()
            .to_owned()
    };
    places.contains(&(
        text(connect::TOPIC),
        text(connect::PARTITION),
        text(connect::OFFSET),
    ))
}

fn letter(service: &str, record: Record) -> Option<Letter> {
    let Entry::Letter(letter) = Entry::of(record) else {
        return None;
    };
    let attempts = letter.attempts.map(|count| count.to_string());
    Some(Letter {
        service: service.to_owned(),
        topic: letter.at.topic,
        partition: letter.at.partition,
        offset: letter.at.offset,
        at: letter.first_failed_at,
        kind: letter.kind,
        attempts: attempts.unwrap_or_else(|| "?".to_owned()),
        message: letter.message,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_change_that_nobody_could_read_as_an_event_still_names_its_row() {
        let names = |payload: &str| names(Some(payload.as_bytes()), "id", "7");
        assert!(names(r#"{"op":"c","after":{"id":7,"event_ts":"1931"}}"#));
        assert!(names(r#"{"payload":{"op":"d","before":{"id":"7"}}}"#));
        assert!(names(r#"{"id":7}"#));
        assert!(!names(r#"{"op":"c","after":{"id":77}}"#));
        assert!(!names("{\"op\":"));
    }

    #[test]
    fn a_letter_belongs_to_the_record_that_its_headers_name() {
        let headers = [
            (connect::TOPIC, "cdc"),
            (connect::PARTITION, "3"),
            (connect::OFFSET, "42"),
        ]
        .map(|(name, value)| (name.to_owned(), Some(Bytes::from(value))));
        let letter = Record {
            topic: "engagement.dlq.enricher".into(),
            partition: 3,
            offset: 9,
            timestamp_ms: Some(5),
            key: None,
            payload: None,
            headers: headers.to_vec(),
        };
        let place = |offset: &str| BTreeSet::from([("cdc".into(), "3".into(), offset.to_owned())]);
        assert!(is_from(&letter, &place("42")));
        assert!(!is_from(&letter, &place("43")));
    }
}
