//! Reads the dead-letter topics from beginning to end.
//!
//! Invariant: nothing is subscribed to and nothing committed; what is kept of a letter is without its bytes, and bounded.

use std::collections::BTreeMap;

use engagement::event::Micros;
use service::Failure;
use stream::dead_letter::{self, Entry, Letter, Place, RedriveMark, is_mark};
use stream::scan::{Scanner, Span};
use stream::{KafkaSettings, LaneError, Record};

use super::filter::{Filter, content_of, keys};
use super::redrive::{Progress, Reader};
use super::stats::Counts;
use crate::kafka;

/// A name to connect with; it is no group that anybody is in.
pub(super) const NAME: &str = "engagectl-dlq";
/// Letters that are kept; of more only the count.
const MOST: usize = 200_000;
/// Characters of a message that a list shows.
const SHOWN: usize = 200;

/// What a list, a plan or a count needs to know of a letter.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) at: Place,
    pub(super) service: String,
    pub(super) endpoint: Option<String>,
    pub(super) origin: Option<Place>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) failed_at: Micros,
    pub(super) attempts: Option<u32>,
    pub(super) redrives: u32,
    pub(super) epoch: Option<u8>,
    pub(super) content: Option<String>,
    /// Bytes of key and value.
    pub(super) bytes: usize,
    /// Why the enricher would give it up again.
    pub(super) still_rejected: Option<String>,
}

impl Summary {
    /// `service`, or `service.endpoint`.
    pub(super) fn consumer(&self) -> String {
        dead_letter::consumer(&self.service, self.endpoint.as_deref())
    }
}

/// What the topics hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The letters wanted, by topic and partition in the order of offsets.
    pub(super) letters: Vec<Summary>,
    /// How many more there are.
    pub(super) more: u64,
    /// How many were sent before and are not kept.
    pub(super) done: u64,
    /// What earlier redrives have written down, by topic and partition.
    pub(super) progress: BTreeMap<(String, i32), Progress>,
    /// Where each partition ended.
    pub(super) ends: BTreeMap<(String, i32), i64>,
}

impl Found {
    /// Where a letter was sent to.
    pub(super) fn sent_to(&self, letter: &Summary) -> Option<&Place> {
        self.where_to(&letter.at)
    }

    /// A record that may be a mark.
    fn note(&mut self, record: &Record) {
        if is_mark(record) {
            let partition = (record.topic.to_string(), record.partition);
            let progress = self.progress.entry(partition).or_default();
            progress.take(RedriveMark::of(record), record.timestamp_ms.unwrap_or(0));
        }
    }

    /// A letter that passes.
    fn take(&mut self, letter: Letter, keep: Keep, reader: &Reader) {
        let is_done = || self.where_to(&letter.at).is_some();
        match keep {
            Keep::Unsent if is_done() => self.done += 1,
            Keep::All | Keep::Unsent if self.letters.len() >= MOST => self.more += 1,
            Keep::All | Keep::Unsent => self.letters.push(summary(letter, reader)),
            Keep::Newest(most) => {
                self.letters.push(summary(letter, reader));
                // not at each letter, so that it costs nothing
                if self.letters.len() >= most.saturating_mul(2).max(MOST) {
                    self.drop_older(most);
                }
            }
        }
    }

    /// Leaves the newest, and counts the others.
    pub(super) fn drop_older(&mut self, most: usize) {
        let older = self.letters.len().saturating_sub(most);
        self.letters.sort_by_key(|letter| letter.failed_at);
        self.letters.drain(..older);
        self.more += older as u64;
    }

    /// Where the letter that stands there was sent to.
    fn where_to(&self, at: &Place) -> Option<&Place> {
        let partition = (at.topic.clone(), at.partition);
        self.progress.get(&partition)?.done.get(&at.offset)
    }
}

/// Which of the letters that pass are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Each of them.
    All,
    /// Those that were not sent back before; the others are counted.
    Unsent,
    /// So many, those that failed last; the others are counted.
    Newest(usize),
}

fn summary(letter: Letter, reader: &Reader) -> Summary {
    let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    Summary {
        still_rejected: reader.still_rejected(&letter),
        content: content_of(&keys(), &letter),
        failed_at: letter.failed_at(),
        bytes: size(&letter.record.key) + size(&letter.record.payload),
        message: letter.message.chars().take(SHOWN).collect(),
        at: letter.at,
        service: letter.service,
        endpoint: letter.endpoint,
        origin: letter.origin,
        reason: letter.kind,
        attempts: letter.attempts,
        redrives: letter.redrives,
        epoch: letter.epoch,
    }
}

/// Reads the letters that pass.
pub(super) async fn find(
    kafka: &KafkaSettings,
    filter: &Filter,
    keep: Keep,
    reader: Reader,
) -> Result<Found, Failure> {
    let (settings, wanted) = (kafka.clone(), filter.clone());
    let found = kafka::ask(move || {
        let mut found = Found::default();
        for service in wanted.services() {
            let topic = Topic::open(&settings, service)?;
            topic.ends_into(&mut found);
            if keep == Keep::Unsent {
                topic.marks(|record| found.note(record))?;
            }
            topic.entries(|record| {
                if keep != Keep::Unsent {
                    found.note(&record);
                }
                if let Some(letter) = passing(&wanted, record) {
                    found.take(letter, keep, &reader);
                }
            })?;
        }
        if let Keep::Newest(most) = keep {
            found.drop_older(most);
        }
        Ok(found)
    });
    let mut found = found.await?;
    found.letters.sort_by_key(|letter| letter.at.clone());
    Ok(found)
}

/// Counts the letters that pass, however many they are.
pub(super) async fn count(
    kafka: &KafkaSettings,
    filter: &Filter,
    reader: Reader,
) -> Result<Counts, Failure> {
    let (settings, wanted) = (kafka.clone(), filter.clone());
    kafka::ask(move || {
        let (mut counts, mut found) = (Counts::default(), Found::default());
        for service in wanted.services() {
            let topic = Topic::open(&settings, service)?;
            topic.marks(|record| found.note(record))?;
            topic.entries(|record| {
                if let Some(letter) = passing(&wanted, record) {
                    let sent_to = found.where_to(&letter.at).cloned();
                    counts.add(summary(letter, &reader), sent_to);
                }
            })?;
        }
        Ok(counts)
    })
    .await
}

/// Hands every letter that passes, whole, to `step`, with what the ones before have made of `made`.
pub(super) async fn fold<T: Send + 'static>(
    kafka: &KafkaSettings,
    filter: &Filter,
    mut made: T,
    mut step: impl FnMut(&mut T, Letter) + Send + 'static,
) -> Result<T, Failure> {
    let (settings, wanted) = (kafka.clone(), filter.clone());
    kafka::ask(move || {
        for service in wanted.services() {
            Topic::open(&settings, service)?.entries(|record| {
                if let Some(letter) = passing(&wanted, record) {
                    step(&mut made, letter);
                }
            })?;
        }
        Ok(made)
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

    fn ends_into(&self, found: &mut Found) {
        for span in &self.spans {
            let partition = (self.name.clone(), span.partition);
            found.ends.insert(partition, span.to);
        }
    }

    /// Reads all of it for its marks: one stands behind its letter, so that all must be known before a letter is judged by them.
    fn marks(&self, mut note: impl FnMut(&Record)) -> Result<(), LaneError> {
        self.scanner.read(&self.spans, |record| note(&record))
    }

    fn entries(&self, visit: impl FnMut(Record)) -> Result<(), LaneError> {
        self.scanner.read(&self.spans, visit)
    }
}
