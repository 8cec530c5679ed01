//! What a run before has left.
//!
//! Invariant: a letter whose copy stands behind the beginning of a run that did not end is marked, and not sent again.

use std::collections::BTreeMap;
use std::sync::Arc;

use service::Failure;
use stream::dead_letter::{LETTER, Place, RedriveMark};
use stream::headers::last_text;
use stream::scan::{Scanner, Span};

use super::presence::busy;
use super::send::Sender;
use super::{Progress, Work};
use crate::dlq::topics::{NAME, Summary};
use crate::kafka;

impl Sender {
    /// What a run before has sent and not marked is marked now.
    pub(super) async fn continue_after(
        &mut self,
        topic: &Arc<str>,
        work: &Work<'_>,
        before: &Progress,
    ) -> Result<BTreeMap<i64, Place>, Failure> {
        let Some(from) = before.search_from() else {
            return Ok(BTreeMap::new());
        };
        if before.is_at_work(service::clock::now() / 1000) {
            return Err(busy(topic));
        }
        let partition = work.partition.1;
        let copies = self.copies(topic, work.target, partition, from).await?;
        let unmarked: BTreeMap<i64, Place> = copies
            .into_iter()
            .filter(|(letter, _)| !before.done.contains_key(letter))
            .collect();
        let runs: Vec<&str> = before.open.iter().map(|open| open.run.as_str()).collect();
        eprintln!(
            "{topic}/{partition}: continuing run {}, {} letters were sent and not marked",
            runs.join(", "),
            unmarked.len()
        );
        self.mark_sent(topic, partition, &unmarked).await?;
        // all that they sent is marked: nobody has to look for it again
        for run in runs {
            self.marks.end(topic, partition, run).await?;
        }
        let wanted = |letter: &&&Summary| unmarked.contains_key(&letter.at.offset);
        let found = work.letters.iter().filter(wanted).count() as u64;
        self.sent.found += found;
        self.bar.inc(found);
        Ok(unmarked)
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
            let spans: Vec<Span> = scanner
                .spans()?
                .into_iter()
                .filter(|span| span.partition == partition)
                .map(|span| Span {
                    from: span.from.max(from),
                    ..span
                })
                .collect();
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
