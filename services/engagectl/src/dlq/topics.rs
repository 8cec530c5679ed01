//! Reads the dead-letter topics from beginning to end.
//!
//! Invariant: nothing is subscribed to and nothing committed; what is kept of a letter is without its bytes, and bounded.

use std::collections::BTreeMap;

use engagement::event::Micros;
use service::Failure;
use stream::dead_letter::{Entry, Letter, Place, RedriveMark, TOPIC_PREFIX, is_mark};
use stream::scan::Scanner;
use stream::{KafkaSettings, Record};

use super::filter::{Filter, content_of, keys};
use super::redrive::{Progress, Reader};
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
        stream::dead_letter::consumer(&self.service, self.endpoint.as_deref())
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
        let partition = (letter.at.topic.clone(), letter.at.partition);
        self.progress.get(&partition)?.done.get(&letter.at.offset)
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
        let partition = (letter.at.topic.clone(), letter.at.partition);
        let progress = self.progress.get(&partition);
        let is_done = progress.is_some_and(|known| known.done.contains_key(&letter.at.offset));
        if keep == Keep::Unsent && is_done {
            self.done += 1;
        } else if self.letters.len() >= MOST {
            self.more += 1;
        } else {
            self.letters.push(summary(letter, reader));
        }
    }
}

/// Which of the letters that pass are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Each of them.
    All,
    /// Those that were not sent back before; the others are counted.
    Unsent,
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
    kafka::ask(move || {
        let mut found = Found::default();
        for service in wanted.services() {
            let topic = format!("{TOPIC_PREFIX}{service}");
            let scanner = Scanner::open(&settings, NAME, &topic)?;
            let spans = scanner.spans()?;
            for span in &spans {
                found.ends.insert((topic.clone(), span.partition), span.to);
            }
            // a mark stands behind its letter: all of them are known before the first letter is judged
            scanner.read(&spans, |record| found.note(&record))?;
            scanner.read(&spans, |record| match Entry::of(record) {
                Entry::Letter(letter) if wanted.passes(&letter) => {
                    found.take(*letter, keep, &reader);
                }
                Entry::Letter(_) | Entry::Mark(_) => {}
            })?;
        }
        let place = |letter: &Summary| letter.at.clone();
        found.letters.sort_by_key(place);
        Ok(found)
    })
    .await
}

/// Hands every letter that passes to `visit`, whole.
pub(super) async fn visit(
    kafka: &KafkaSettings,
    filter: &Filter,
    mut visit: impl FnMut(Letter) + Send + 'static,
) -> Result<(), Failure> {
    let (settings, wanted) = (kafka.clone(), filter.clone());
    kafka::ask(move || {
        for service in wanted.services() {
            let scanner = Scanner::open(&settings, NAME, &format!("{TOPIC_PREFIX}{service}"))?;
            scanner.read(&scanner.spans()?, |record| {
                if let Entry::Letter(letter) = Entry::of(record)
                    && wanted.passes(&letter)
                {
                    visit(*letter);
                }
            })?;
        }
        Ok(())
    })
    .await
}
