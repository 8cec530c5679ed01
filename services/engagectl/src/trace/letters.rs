//! What services gave up of an event: the dead letters of its records.
//!
//! Invariant: a letter belongs to a record only if its headers name topic, partition and offset of it.

use std::collections::BTreeSet;

use engagement::event::Micros;
use service::Failure;
use stream::Record;
use stream::dead_letter::{self, Entry, connect};
use stream::headers::last_text;
use stream::scan::Scanner;

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
                let spans = scanner.since(&spans, since)?;
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
