//! Reads the dead-letter topics from beginning to end.
//!
//! Invariant: nothing is subscribed to and nothing committed; what is kept of letters is up to the reader, who sees one at a time.

use std::collections::BTreeMap;

use service::Failure;
use stream::dead_letter::{self, Entry, Letter, Place};
use stream::scan::{Scanner, Span};
use stream::{KafkaSettings, LaneError, Record};

use super::filter::Filter;
use super::redrive::Progress;
use crate::kafka;

/// A name to connect with; it is no group that anybody is in.
pub(super) const NAME: &str = "engagectl-dlq";

/// When the marks of earlier redrives are read: each stands behind its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// With the letters: all of them are known at the end.
    Along,
    /// Before the first letter, for whoever judges letters by them. The topics are read twice.
    First,
}

/// What the topics hold beside letters.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What earlier redrives have written down, by topic and partition.
    pub(super) progress: BTreeMap<(String, i32), Progress>,
    /// Where each partition ended.
    pub(super) ends: BTreeMap<(String, i32), i64>,
}

impl Known {
    /// Where the letter that stands there was sent to.
    pub(super) fn sent_to(&self, at: &Place) -> Option<&Place> {
        let partition = (at.topic.clone(), at.partition);
        self.progress.get(&partition)?.done.get(&at.offset)
    }

    /// A record that may be a mark.
    fn note(&mut self, record: &Record) {
        if dead_letter::is_mark(record) {
            let partition = (record.topic.to_string(), record.partition);
            self.progress.entry(partition).or_default().note(record);
        }
    }
}

/// Hands every letter that passes, whole, to `step`, with what the ones before have made of `made`, and with what is known by then.
pub(super) async fn fold<T: Send + 'static>(
    kafka: &KafkaSettings,
    filter: &Filter,
    marks: Marks,
    mut made: T,
    mut step: impl FnMut(&mut T, &Known, Letter) + Send + 'static,
) -> Result<(T, Known), Failure> {
    let (settings, wanted) = (kafka.clone(), filter.clone());
    kafka::ask(move || {
        let mut known = Known::default();
        for service in wanted.services() {
            let topic = Topic::open(&settings, service)?;
            topic.ends_into(&mut known);
            if marks == Marks::First {
                topic.read(|record| known.note(&record))?;
            }
            topic.read(|record| {
                if marks == Marks::Along {
                    known.note(&record);
                }
                if let Some(letter) = passing(&wanted, record) {
                    step(&mut made, &known, letter);
                }
            })?;
        }
        Ok((made, known))
    })
    .await
}

fn passing(wanted: &Filter, record: Record) -> Option<Letter> {
    match Entry::of(record) {
        Entry::Letter(letter) if wanted.passes(&letter) => Some(*letter),
        Entry::Letter(_) | Entry::Mark(_) => None,
    }
}

/// The dead-letter topic of a service, up to where it ended when it was opened.
struct Topic {
    name: String,
    scanner: Scanner,
    spans: Vec<Span>,
}

impl Topic {
    fn open(settings: &KafkaSettings, service: &str) -> Result<Self, LaneError> {
        let name = dead_letter::topic(service);
        let scanner = Scanner::open(settings, NAME, &name)?;
        let spans = scanner.spans()?;
        Ok(Self {
            name,
            scanner,
            spans,
        })
    }

    fn ends_into(&self, known: &mut Known) {
        for span in &self.spans {
            let partition = (self.name.clone(), span.partition);
            known.ends.insert(partition, span.to);
        }
    }

    fn read(&self, visit: impl FnMut(Record)) -> Result<(), LaneError> {
        self.scanner.read(&self.spans, visit)
    }
}
