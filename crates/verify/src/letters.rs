//! What the dead-letter topics hold: events that are rightly absent downstream.
//!
//! Invariant: a letter explains the absence of the event that its original bytes name, and of nothing else.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;
use stream::Record;
use stream::dead_letter::{connect, is_mark};
use stream::headers::last_text;

use crate::chain;
use crate::error::Error;
use crate::log::read_topic;
use crate::report::DeadLetterReport;
use crate::sources::KafkaSource;

/// The services with dead letters; those of the first keep an event from every sink.
const SERVICES: [&str; 4] = [
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
];
/// Events named by letters that are left out; more of them are no longer single bad rows.
const MOST: usize = 10_000;

/// Places of letters that are kept.
const MOST_PLACES: usize = 500_000;

/// What was found in all of them.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) report: DeadLetterReport,
    /// Events that Postgres, the topic and ClickHouse are compared without.
    pub(crate) events: BTreeSet<String>,
    /// Places in the enriched topic, of what the forwarder gave up.
    pub(crate) undelivered: HashSet<(i32, i64)>,
    /// Places in the enriched topic, of what some sink gave up.
    pub(crate) given_up: HashSet<(i32, i64)>,
    /// There are more than can be kept apart.
    pub(crate) is_full: bool,
}

impl Letters {
    /// Reads every dead-letter topic. `key` is the column with the event's id.
    pub(crate) async fn read(kafka: &KafkaSource, key: &'static str) -> Result<Self, Error> {
        let mut letters = Self::default();
        for service in SERVICES {
            let topic = format!("{}{service}", kafka.dead_letter_prefix);
            let visit = move |(all, count): &mut (Self, u64), record: Record| {
                // what a redrive wrote down is no letter
                if !is_mark(&record) {
                    *count += 1;
                    all.take(service, key, &record);
                }
            };
            let (all, count) = read_topic(kafka, &topic, (letters, 0), visit).await?;
            letters = all;
            if count > 0 {
                letters.report.topics.push((topic, count));
            }
        }
        letters.report.events = letters.events.iter().cloned().collect();
        Ok(letters)
    }

    fn take(&mut self, service: &str, key: &str, record: &Record) {
        if service != "enricher" && self.given_up.len() < MOST_PLACES {
            self.given_up.insert(place(record));
        }
        match service {
            "enricher" => self.event(id_of_change(record, key)),
            "clickhouse-sink" => self.event(chain::read(record).ok().map(|event| event.event_id)),
            "webhook-forwarder" => drop(self.undelivered.insert(place(record))),
            // The aggregates are recomputed with the same bounds, so their letters explain nothing.
            _ => {}
        }
    }

    fn event(&mut self, id: Option<String>) {
        match id {
            None => self.report.unreadable += 1,
            Some(_) if self.events.len() >= MOST => self.is_full = true,
            Some(id) => drop(self.events.insert(id)),
        }
    }
}

/// Where the record lay before it was given up.
fn place(record: &Record) -> (i32, i64) {
    let number = |name| last_text(&record.headers, name).and_then(|text| text.parse::<i64>().ok());
    (record.partition, number(connect::OFFSET).unwrap_or(-1))
}

/// The id in a change record of any form, also of one that the enricher could not read.
fn id_of_change(record: &Record, key: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(record.payload.as_deref()?).ok()?;
    let payload = value
        .get("payload")
        .filter(|inner| inner.is_object())
        .unwrap_or(&value);
    let row = ["after", "before"]
        .into_iter()
        .find_map(|image| payload.get(image).filter(|row| row.is_object()))
        .unwrap_or(payload);
    match row.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: &str) -> Record {
        Record {
            topic: "engagement.dlq.enricher".into(),
            partition: 3,
            offset: 0,
            timestamp_ms: None,
            key: None,
            payload: Some(payload.to_owned().into()),
            headers: vec![(connect::OFFSET.into(), Some("17".into()))],
        }
    }

    #[test]
    fn the_event_of_a_letter_is_found_in_every_form_of_a_change() {
        for text in [
            r#"{"op":"c","before":null,"after":{"id":7,"event_ts":"nonsense"}}"#,
            r#"{"schema":{},"payload":{"op":"d","before":{"id":7},"after":null}}"#,
            r#"{"id":7,"__op":"c"}"#,
            r#"{"op":"u","before":{"id":"8"},"after":{"id":"7"}}"#,
        ] {
            assert_eq!(
                id_of_change(&letter(text), "id").as_deref(),
                Some("7"),
                "{text}"
            );
        }
        for text in [
            "",
            "{",
            "7",
            r#"{"after":{"event_id":7}}"#,
            r#"{"id":null}"#,
        ] {
            assert_eq!(id_of_change(&letter(text), "id"), None, "{text}");
        }
    }

    #[test]
    fn a_letter_of_the_forwarder_is_known_by_its_place() {
        assert_eq!(place(&letter("")), (3, 17));
    }
}
