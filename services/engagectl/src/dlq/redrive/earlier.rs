//! What a run before has left.
//!
//! Invariant: a letter whose copy stands behind the beginning of a run that did not end is marked, and not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engagement::event::Micros;
use service::Failure;
use stream::LaneError;
use stream::dead_letter::{LETTER, Place, RedriveMark};
use stream::headers::last_text;
use stream::scan::{Scanner, Span};

use super::Progress;
use super::plan::Work;
use super::presence::busy;
use super::send::Sender;
use super::settle::SentCopy;
use crate::dlq::topics::{Known, NAME};
use crate::kafka;

/// So far may clocks of services be behind, milliseconds.
const CLOCKS_MS: i64 = 600_000;

impl Sender {
    /// What is written down by now: since the plan was made, a run that had begun before may have gone on, or ended.
    pub(super) async fn progress(&self, work: &Work, known: &Known) -> Result<Progress, Failure> {
        let mut progress = known.progress.get(&work.partition).cloned();
        let planned = known.ends.get(&work.partition).copied();
        let ((topic, partition), settings) = (work.partition.clone(), self.settings.clone());
        kafka::ask(move || {
            let mut progress = progress.take().unwrap_or_default();
            let scanner = Scanner::open(&settings, NAME, &topic)?;
            let since = from(&scanner, partition, planned.unwrap_or(i64::MAX))?;
            scanner.read(&since, |record| progress.note(&record))?;
            Ok(progress)
        })
        .await
    }

    /// What a run before has sent and not marked is marked now. Answers which letters need not be sent: these, and those that
    /// another run has marked.
    pub(super) async fn continue_after(
        &mut self,
        topic: &Arc<str>,
        work: &Work,
        before: &Progress,
    ) -> Result<BTreeSet<i64>, Failure> {
        let mut copies = BTreeMap::new();
        if let Some(from) = before.search_from() {
            if before.is_at_work(service::clock::now() / 1000) {
                return Err(busy(topic));
            }
            copies = self.unmarked(topic, work, before, from).await?;
        }
        let mut already = BTreeSet::new();
        for letter in &work.letters {
            let offset = letter.at.offset;
            let Some(at) = copies.get(&offset).or_else(|| before.done.get(&offset)) else {
                continue;
            };
            already.insert(offset);
            if !self.again {
                self.sent.found += 1;
                self.bar.inc(1);
                let (consumer, at) = (letter.consumer(), at.clone());
                self.sent.copies.push(SentCopy { consumer, at });
            }
        }
        if !self.again && !already.is_empty() {
            let begun = before.open.iter().map(|open| open.begun_ms).min();
            let begun = begun.unwrap_or(self.opened_ms).min(self.opened_ms);
            self.settles_since(work.partition.1, begun).await?;
        }
        Ok(already)
    }

    /// Copies that runs without an end have left unmarked: marks them, and ends these runs.
    async fn unmarked(
        &mut self,
        topic: &Arc<str>,
        work: &Work,
        before: &Progress,
        from: i64,
    ) -> Result<BTreeMap<i64, Place>, Failure> {
        let partition = work.partition.1;
        let mut copies = self.copies(topic, &work.target, partition, from).await?;
        copies.retain(|letter, _| !before.done.contains_key(letter));
        let runs: Vec<&str> = before.open.iter().map(|open| open.run.as_str()).collect();
        eprintln!(
            "{topic}/{partition}: continuing run {}, {} letters were sent and not marked",
            runs.join(", "),
            copies.len()
        );
        self.mark_sent(topic, partition, &copies).await?;
        // all that they sent is marked: nobody has to look for it again
        for run in runs {
            self.marks.end(topic, partition, run).await?;
        }
        Ok(copies)
    }

    /// What became of copies of a run that began then is to be looked for from then on.
    async fn settles_since(&mut self, partition: i32, begun_ms: i64) -> Result<(), Failure> {
        let begun = Micros(begun_ms.saturating_mul(1000));
        self.sent.earliest = Some(self.sent.earliest.map_or(begun, |at| at.min(begun)));
        let (settings, topic) = (self.settings.clone(), self.enriched.clone());
        let output = kafka::ask(move || {
            let scanner = Scanner::open(&settings, NAME, &topic)?;
            let spans = from(&scanner, partition, 0)?;
            scanner.since(&spans, begun_ms - CLOCKS_MS)
        });
        for span in output.await? {
            self.sent.output_from.insert(partition, span.from);
        }
        Ok(())
    }

    async fn mark_sent(
        &self,
        topic: &Arc<str>,
        partition: i32,
        copies: &BTreeMap<i64, Place>,
    ) -> Result<(), Failure> {
        for (letter, sent_to) in copies {
            let mark = RedriveMark::Done {
                run: self.marks.run.clone(),
                letter: *letter,
                sent_to: sent_to.clone(),
            };
            self.marks.write(topic, partition, &mark).await?;
        }
        Ok(())
    }

    /// Copies of this partition's letters that stand at or above an offset.
    async fn copies(
        &self,
        letters: &Arc<str>,
        target: &str,
        partition: i32,
        from: i64,
    ) -> Result<BTreeMap<i64, Place>, Failure> {
        let (settings, letters, target) = (
            self.settings.clone(),
            Arc::clone(letters),
            target.to_owned(),
        );
        kafka::ask(move || {
            let scanner = Scanner::open(&settings, NAME, &target)?;
            let spans = self::from(&scanner, partition, from)?;
            let mut copies = BTreeMap::new();
            scanner.read(&spans, |record| {
                let letter = last_text(&record.headers, LETTER).map(str::parse::<Place>);
                if let Some(Ok(letter)) = letter
                    && (letter.topic == *letters && letter.partition == partition)
                {
                    copies.insert(letter.offset, Place::of(&record));
                }
            })?;
            Ok(copies)
        })
        .await
    }
}

/// What a topic holds of a partition from an offset on.
fn from(scanner: &Scanner, partition: i32, from: i64) -> Result<Vec<Span>, LaneError> {
    let spans = scanner.spans()?.into_iter();
    let part = |span: Span| Span {
        from: span.from.max(from),
        ..span
    };
    Ok(spans
        .filter(|span| span.partition == partition)
        .map(part)
        .collect())
}
