//! What stands in a dead-letter topic, read back: letters, and the marks that a redrive leaves beside them. Pure.
//!
//! Invariant: every record of such a topic is a letter or a mark; what its headers do not say is absent, never guessed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use engagement::event::Micros;

use super::{
    ATTEMPTS, ENDPOINT, EPOCH, ERROR_KIND, FIRST_FAILED_AT, REDRIVE_COUNT, REDRIVEN_AT, connect,
};
use crate::headers::{Headers, last_text};
use crate::producer::OutRecord;
use crate::record::Record;

/// Says that a record of a dead-letter topic is a mark: `begin`, `done` or `end`.
pub const MARK: &str = "engage.dlq.mark";
/// Of a mark: the run of the redrive that made it.
pub const RUN: &str = "engage.dlq.run";
/// Of a `begin` mark: where the partition ended that is written to.
pub const TARGET_END: &str = "engage.dlq.target_end";
/// Of a `done` mark: where the copy stands.
pub const SENT_TO: &str = "engage.dlq.sent_to";
/// Of a `done` mark and of the copy: the place of the letter.
pub const LETTER: &str = "engage.dlq.letter";

/// What the topics of all services begin with.
pub const TOPIC_PREFIX: &str = "engagement.dlq.";
/// Headers that begin so are the letter's, not the record's.
const OURS: [&str; 3] = ["__connect.errors.", "engage.dlq.", "engage.redrive."];

/// The place of a record. Text form: `topic/partition/offset`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl Place {
    /// Where this record was read.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// A text that is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not topic/partition/offset, such as engagement.enriched.v1/3/42")]
pub struct PlaceError(String);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (rest, offset) = text.rsplit_once('/')?;
            let (topic, partition) = rest.rsplit_once('/')?;
            let place = Self {
                topic: topic.to_owned(),
                partition: partition.parse().ok().filter(|number| *number >= 0)?,
                offset: offset.parse().ok().filter(|number| *number >= 0)?,
            };
            (!topic.is_empty()).then_some(place)
        };
        read().ok_or_else(|| PlaceError(text.chars().take(80).collect()))
    }
}

/// A record that a service gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where it stands.
    pub at: Place,
    /// Who gave it up.
    pub service: String,
    /// The webhook endpoint that it was for.
    pub endpoint: Option<String>,
    /// Where the record stood.
    pub origin: Option<Place>,
    /// Why, in one word.
    pub kind: String,
    /// The step that failed.
    pub stage: String,
    /// The code that failed.
    pub class: String,
    /// What was wrong, in words that may repeat the record.
    pub message: String,
    /// How often it was tried.
    pub attempts: Option<u32>,
    /// When it failed first.
    pub first_failed_at: Option<Micros>,
    /// The epoch of the chain that it was given up in; of letters of the enricher.
    pub epoch: Option<u8>,
    /// How often it had been redriven before.
    pub redrives: u32,
    /// When that was last.
    pub redriven_at: Option<Micros>,
    /// Key, value, all headers and timestamp.
    pub record: Record,
}

impl Letter {
    fn of(record: Record) -> Self {
        let text = |name: &str| last_text(&record.headers, name).map(str::to_owned);
        let word = |name: &str| text(name).unwrap_or_else(|| "unknown".to_owned());
        let origin = || {
            Some(Place {
                topic: text(connect::TOPIC)?,
                partition: number(&record, connect::PARTITION)?,
                offset: number(&record, connect::OFFSET)?,
            })
        };
        let of_topic = || record.topic.strip_prefix(TOPIC_PREFIX).map(str::to_owned);
        Self {
            at: Place::of(&record),
            service: text(connect::CONNECTOR_NAME)
                .or_else(of_topic)
                .unwrap_or_else(|| "unknown".to_owned()),
            endpoint: text(ENDPOINT),
            origin: origin(),
            kind: word(ERROR_KIND),
            stage: word(connect::STAGE),
            class: word(connect::CLASS_NAME),
            message: text(connect::EXCEPTION_MESSAGE).unwrap_or_default(),
            attempts: number(&record, ATTEMPTS),
            first_failed_at: number(&record, FIRST_FAILED_AT),
            epoch: number(&record, EPOCH),
            redrives: number(&record, REDRIVE_COUNT).unwrap_or(0),
            redriven_at: number(&record, REDRIVEN_AT),
            record,
        }
    }

    /// `service`, or `service.endpoint`.
    #[must_use]
    pub fn consumer(&self) -> String {
        consumer(&self.service, self.endpoint.as_deref())
    }

    /// When it failed; for a record without that header, its own time.
    #[must_use]
    pub fn failed_at(&self) -> Micros {
        let own = self.record.timestamp_ms.unwrap_or(0).saturating_mul(1000);
        self.first_failed_at.unwrap_or(Micros(own))
    }

    /// The headers that the record had when it was given up.
    #[must_use]
    pub fn original_headers(&self) -> Headers {
        let mut headers = self.record.headers.clone();
        headers.retain(|(name, _)| !OURS.iter().any(|ours| name.starts_with(ours)));
        headers
    }
}

/// The name of a service, or of one endpoint of it.
#[must_use]
pub fn consumer(service: &str, endpoint: Option<&str>) -> String {
    endpoint.map_or_else(
        || service.to_owned(),
        |endpoint| format!("{service}.{endpoint}"),
    )
}

fn number<T: FromStr>(record: &Record, name: &str) -> Option<T> {
    last_text(&record.headers, name)?.parse().ok()
}

/// What a redrive writes down, in the partition of the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveMark {
    /// A run begins: what it sends stands at or above this offset of the partition written to.
    Begin {
        /// Its id.
        run: String,
        /// The end of that partition, before anything was sent.
        target_end: i64,
    },
    /// A letter was sent, and the broker has the copy.
    Done {
        /// The run.
        run: String,
        /// Offset of the letter, in the mark's own partition.
        letter: i64,
        /// Where the copy stands.
        sent_to: Place,
    },
    /// The run has ended by itself: all that it sent is marked.
    End {
        /// The run.
        run: String,
    },
}

impl RedriveMark {
    /// Reads it; `None`: it is of a later version.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let run = last_text(&record.headers, RUN)?.to_owned();
        match last_text(&record.headers, MARK)? {
            "begin" => Some(Self::Begin {
                run,
                target_end: number(record, TARGET_END)?,
            }),
            "done" => Some(Self::Done {
                run,
                letter: number::<Place>(record, LETTER)?.offset,
                sent_to: number(record, SENT_TO)?,
            }),
            "end" => Some(Self::End { run }),
            _ => None,
        }
    }

    /// The mark as a record of that partition.
    #[must_use]
    pub fn record(&self, topic: &Arc<str>, partition: i32) -> OutRecord {
        let (name, run) = match self {
            Self::Begin { run, .. } => ("begin", run),
            Self::Done { run, .. } => ("done", run),
            Self::End { run } => ("end", run),
        };
        let mut texts = vec![(MARK, name.to_owned()), (RUN, run.clone())];
        match self {
            Self::Begin { target_end, .. } => texts.push((TARGET_END, target_end.to_string())),
            Self::Done {
                letter, sent_to, ..
            } => {
                let letter = Place {
                    topic: topic.to_string(),
                    partition,
                    offset: *letter,
                };
                texts.push((LETTER, letter.to_string()));
                texts.push((SENT_TO, sent_to.to_string()));
            }
            Self::End { .. } => {}
        }
        let header = |(name, value): (&str, String)| (name.to_owned(), Some(Bytes::from(value)));
        OutRecord {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key: None,
            payload: None,
            headers: texts.into_iter().map(header).collect(),
            timestamp_ms: None,
        }
    }
}

/// A record of a dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record that was given up.
    Letter(Box<Letter>),
    /// What a redrive wrote down; `None`: of a later version.
    Mark(Option<RedriveMark>),
}

impl Entry {
    /// Reads it.
    #[must_use]
    pub fn of(record: Record) -> Self {
        if is_mark(&record) {
            return Self::Mark(RedriveMark::of(&record));
        }
        Self::Letter(Box::new(Letter::of(record)))
    }
}

/// Whether this record of a dead-letter topic is none that was given up.
#[must_use]
pub fn is_mark(record: &Record) -> bool {
    record.payload.is_none() && record.header(MARK).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Reject, letter_headers};

    fn record() -> Record {
        let header = |name: &str, value: &'static str| {
            (name.to_owned(), Some(Bytes::from_static(value.as_bytes())))
        };
        Record {
            topic: "cdc".into(),
            partition: 3,
            offset: 42,
            timestamp_ms: Some(5),
            key: Some(Bytes::from_static(b"k")),
            payload: Some(Bytes::from_static(b"\xff")),
            headers: vec![header("a", "1"), header(EPOCH, "2")],
        }
    }

    fn letter() -> Letter {
        let reject = Reject::new("malformed", "decode", "engagement::envelope", "no op");
        let headers = letter_headers("enricher", &record(), &reject, Micros(7_000_000));
        let record = Record {
            topic: "engagement.dlq.enricher".into(),
            offset: 9,
            headers,
            ..record()
        };
        match Entry::of(record) {
            Entry::Letter(letter) => *letter,
            Entry::Mark(mark) => panic!("{mark:?}"),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let letter = letter();
        assert_eq!(letter.at.to_string(), "engagement.dlq.enricher/3/9");
        assert_eq!(letter.origin.as_ref().unwrap().to_string(), "cdc/3/42");
        assert_eq!(letter.consumer(), "enricher");
        assert_eq!(
            (letter.kind.as_str(), letter.stage.as_str()),
            ("malformed", "decode")
        );
        assert_eq!(letter.message, "no op");
        assert_eq!((letter.epoch, letter.redrives), (Some(2), 0));
        assert_eq!(letter.failed_at(), Micros(7_000_000));
        let names: Vec<_> = letter.original_headers().into_iter().collect();
        assert_eq!(names, [("a".to_owned(), Some(Bytes::from_static(b"1")))]);
    }

    #[test]
    fn a_record_without_our_headers_is_a_letter_of_its_topic_that_says_nothing_more() {
        let foreign = Record {
            topic: "engagement.dlq.clickhouse-sink".into(),
            headers: Vec::new(),
            ..record()
        };
        let Entry::Letter(letter) = Entry::of(foreign) else {
            panic!("no mark")
        };
        assert_eq!(letter.service, "clickhouse-sink");
        assert_eq!((letter.origin, letter.attempts), (None, None));
        assert_eq!(letter.kind, "unknown");
    }

    #[test]
    fn marks_are_read_back_and_are_no_letters() {
        let (topic, run) = (Arc::from("engagement.dlq.enricher"), "r1".to_owned());
        let marks = [
            RedriveMark::Begin {
                run: run.clone(),
                target_end: 17,
            },
            RedriveMark::Done {
                run: run.clone(),
                letter: 9,
                sent_to: "cdc/3/43".parse().unwrap(),
            },
            RedriveMark::End { run },
        ];
        for mark in marks {
            let out = mark.record(&topic, 3);
            let read = Record {
                topic: out.topic,
                partition: 3,
                offset: 10,
                timestamp_ms: None,
                key: out.key,
                payload: out.payload,
                headers: out.headers,
            };
            assert!(is_mark(&read));
            assert_eq!(Entry::of(read), Entry::Mark(Some(mark)));
        }
    }

    #[test]
    fn a_place_is_read_from_its_text_and_others_are_refused() {
        let place: Place = "a.b/c/3/42".parse().unwrap();
        assert_eq!((place.topic.as_str(), place.offset), ("a.b/c", 42));
        for text in ["", "3/42", "/3/42", "t/x/1", "t/1/-1", "t/1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
