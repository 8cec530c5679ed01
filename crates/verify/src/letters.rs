//! What the dead-letter topics hold: events that are rightly absent downstream.
//!
//! Invariant: a letter explains the absence of the event that its original bytes name, and of nothing else.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;
use stream::Record;
use stream::dead_letter::{ENDPOINT, connect, is_mark};
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
    /// What the forwarder gave up for the endpoint that is compared.
    pub(crate) undelivered: Places,
    /// What some sink gave up.
    pub(crate) given_up: Places,
    /// There are more than can be kept apart.
    pub(crate) is_full: bool,
}

/// Partitions and offsets of records, by the topic in which they lay.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The enriched topic.
    pub(crate) live: HashSet<(i32, i64)>,
    /// The topic of backfills.
    pub(crate) backfill: HashSet<(i32, i64)>,
}

/// What a letter is read with.
#[derive(Clone, Debug)]
struct Known {
    /// The column with the event's id.
    key: &'static str,
    backfill_topic: String,
    /// The endpoint that is compared.
    endpoint: Option<String>,
}

impl Letters {
    /// Reads every dead-letter topic. `key` is the column with the event's id, `endpoint` the one that is compared.
    pub(crate) async fn read(
        kafka: &KafkaSource,
        key: &'static str,
        endpoint: Option<&str>,
    ) -> Result<Self, Error> {
        let mut letters = Self::default();
        for service in SERVICES {
            let topic = format!("{}{service}", kafka.dead_letter_prefix);
            let known = Known {
                key,
                backfill_topic: kafka.backfill_topic.clone(),
                endpoint: endpoint.map(str::to_owned),
            };
            let visit = move |(all, count): &mut (Self, u64), record: Record| {
                // what a redrive wrote down is no letter
                if !is_mark(&record) {
                    *count += 1;
                    all.take(service, &known, &record);
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

    fn take(&mut self, service: &str, known: &Known, record: &Record) {
        if service != "enricher" && self.given_up.len() < MOST_PLACES {
            self.given_up.add(known, record);
        }
        match service {
            "enricher" => self.event(id_of_change(record, known.key)),
            "clickhouse-sink" => self.event(chain::read(record).ok().map(|event| event.event_id)),
            "webhook-forwarder" if known.is_of_another(record) => {}
            "webhook-forwarder" if self.undelivered.len() >= MOST_PLACES => self.is_full = true,
            "webhook-forwarder" => self.undelivered.add(known, record),
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

impl Known {
    /// The letter is of another endpoint than the one that is compared.
    fn is_of_another(&self, record: &Record) -> bool {
        let of = last_text(&record.headers, ENDPOINT);
        of.is_some_and(|of| self.endpoint.as_deref().is_some_and(|ours| ours != of))
    }
}

impl Places {
    fn len(&self) -> usize {
        self.live.len() + self.backfill.len()
    }

    fn add(&mut self, known: &Known, record: &Record) {
        let topic = last_text(&record.headers, connect::TOPIC);
        let places = if topic == Some(known.backfill_topic.as_str()) {
            &mut self.backfill
        } else {
            &mut self.live
        };
        places.insert(place(record));
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
    fn a_letter_of_the_forwarder_is_known_by_its_place_its_topic_and_its_endpoint() {
        assert_eq!(place(&letter("")), (3, 17));
        let known = Known {
            key: "id",
            backfill_topic: "past".into(),
            endpoint: Some("crm".into()),
        };
        let of = |endpoint: &'static str, topic: &'static str| {
            let mut letter = letter("");
            for (name, value) in [(ENDPOINT, endpoint), (connect::TOPIC, topic)] {
                letter.headers.push((name.into(), Some(value.into())));
            }
            let mut letters = Letters::default();
            letters.take("webhook-forwarder", &known, &letter);
            let has = |places: &HashSet<(i32, i64)>| places.contains(&(3, 17));
            assert!(has(&letters.given_up.live) || has(&letters.given_up.backfill));
            let Places { live, backfill } = &letters.undelivered;
            (has(live), has(backfill))
        };
        assert_eq!(of("crm", "engagement.enriched.v1"), (true, false));
        assert_eq!(of("crm", "past"), (false, true));
        assert_eq!(of("erp", "past"), (false, false));
    }
}
