//! Sends letters, and writes down what was sent.
//!
//! A run that was killed between copy and mark has left the copy at or above the offset that its beginning names ([`Presence`]): the
//! next run looks there first. Invariant: a letter is marked as sent only when the broker has its copy, and a letter whose copy is
//! there is not sent again.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Point;
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use service::Failure;
use stream::dead_letter::{MAX_BYTES, Place, RedriveMark};
use stream::probe::Probe;
use stream::producer::ProducerOptions;
use stream::{KafkaSettings, OutRecord, Producer, SendError};
use tokio_util::sync::CancellationToken;

use super::plan::Work;
use super::presence::{Marks, Presence, unsent};
use super::sent::Sent;
use super::settle::SentCopy;
use crate::config::Config;
use crate::dlq::args::RedriveArgs;
use crate::dlq::summary::Summary;
use crate::dlq::topics::{Known, NAME};
use crate::generator::Rate;
use crate::kafka::unanswered;

/// Letters that are on their way together.
const TOGETHER: usize = 32;

/// Everything a run has.
pub(super) struct Sender {
    pub(super) settings: KafkaSettings,
    pub(super) enriched: String,
    pub(super) marks: Marks,
    pub(super) probe: Probe,
    rate: Rate,
    begun: Instant,
    /// The same by the clock, milliseconds since 1970.
    pub(super) opened_ms: i64,
    /// Sent in this run, for the rate.
    count: u64,
    pub(super) sent: Sent,
    pub(super) bar: ProgressBar,
    stop: CancellationToken,
    pub(super) again: bool,
}

impl Sender {
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// A setting is wrong (64).
    pub(super) fn open(
        config: &Config,
        args: &RedriveArgs,
        letters: u64,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let options = ProducerOptions {
            max_bytes: Some(MAX_BYTES),
            ..ProducerOptions::default()
        };
        let producer = Producer::new(&config.kafka, options).map_err(|error| {
            Failure::usage(error.to_string()).remedy("correct the setting of [kafka] that is named")
        })?;
        Ok(Self {
            settings: config.kafka.clone(),
            enriched: config.topics.enriched.clone(),
            marks: Marks {
                producer,
                run: uuid::Uuid::now_v7().to_string(),
            },
            probe: Probe::new(&config.kafka, NAME),
            rate: args.rate,
            begun: Instant::now(),
            opened_ms: service::clock::now() / 1000,
            count: 0,
            sent: Sent::default(),
            bar: bar(letters),
            stop,
            again: args.again,
        })
    }

    /// Sends all, partition by partition, until told to stop.
    ///
    /// # Errors
    /// The broker is away or refuses (69), or another run is at work (75). What was sent before is marked.
    pub(super) async fn send(
        mut self,
        work: impl Iterator<Item = &Work>,
        known: &Known,
    ) -> Result<Sent, Failure> {
        for work in work {
            if self.stop.is_cancelled() {
                break;
            }
            let before = self.sent.sent;
            self.partition(work, known).await?;
            if self.bar.is_hidden() {
                let ((topic, partition), sent) = (&work.partition, self.sent.sent - before);
                eprintln!("{topic}/{partition}: {sent} letters sent");
            }
        }
        self.bar.finish_and_clear();
        Ok(self.sent)
    }

    async fn partition(&mut self, work: &Work, known: &Known) -> Result<(), Failure> {
        let (topic, partition) = (
            Arc::<str>::from(work.partition.0.as_str()),
            work.partition.1,
        );
        let progress = self.progress(work, known).await?;
        let already = self.continue_after(&topic, work, &progress).await?;
        let end = self.end_of(&work.target, partition).await?;
        if work
            .letters
            .iter()
            .any(|letter| letter.service == "enricher")
        {
            let output = self.end_of(&self.enriched, partition).await?;
            self.sent.output_from.entry(partition).or_insert(output);
        }
        let planned = known.ends.get(&work.partition).copied();
        let of = (&self.marks, &self.probe);
        let mut presence = Presence::begin(of, (&topic, partition), end, planned).await?;
        let letters: Vec<&Summary> = work
            .letters
            .iter()
            .filter(|letter| self.again || !already.contains(&letter.at.offset))
            .collect();
        self.letters(&topic, work, &letters, &mut presence).await?;
        // one that could not mark all that it sent has not ended
        presence.end().await
    }

    async fn letters(
        &mut self,
        topic: &Arc<str>,
        work: &Work,
        letters: &[&Summary],
        presence: &mut Presence,
    ) -> Result<(), Failure> {
        let mut rest = letters;
        while !rest.is_empty() {
            let Some(allowed) = self.allowed().await else {
                return Ok(());
            };
            let (now, later) = rest.split_at(rest.len().min(allowed));
            let copies = self.read(topic, work, now).await?;
            presence.keep().await?;
            self.together(work, &copies, presence).await?;
            self.count += now.len() as u64;
            self.bar.inc(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// How many may be sent now; `None`: told to stop.
    async fn allowed(&self) -> Option<usize> {
        loop {
            let due = self.rate.due(self.begun.elapsed()) + 1;
            let allowed = due.saturating_sub(self.count);
            if self.stop.is_cancelled() {
                return None;
            }
            if allowed > 0 {
                return Some(usize::try_from(allowed).unwrap_or(TOGETHER).min(TOGETHER));
            }
            let pause = tokio::time::sleep(Duration::from_millis(10));
            self.stop.run_until_cancelled(pause).await?;
        }
    }

    /// Sends, waits for every acknowledgement, and marks what was acknowledged, also where another letter failed.
    async fn together(
        &mut self,
        work: &Work,
        copies: &[(&Summary, OutRecord)],
        presence: &mut Presence,
    ) -> Result<(), Failure> {
        let sending = copies
            .iter()
            .map(|(_, copy)| self.marks.producer.send_acked(copy));
        let answers = join_all(sending).await;
        let (mut marks, mut ended) = (Vec::new(), None);
        for ((letter, _), answer) in copies.iter().zip(answers) {
            match answer {
                Ok((to, offset)) => {
                    let at = Place {
                        topic: work.target.clone(),
                        partition: to,
                        offset,
                    };
                    marks.push(self.taken(letter, at));
                }
                Err(error @ (SendError::TooLarge { .. } | SendError::Rejected { .. })) => {
                    let failed = (letter.at.clone(), error.to_string());
                    self.sent.failed.push(failed);
                }
                Err(error) => ended = Some(error),
            }
        }
        faults::reach(Point::EngagectlRedriveMarkBefore).await;
        presence.mark(&marks).await?;
        faults::reach(Point::EngagectlRedriveMarkAfter).await;
        self.sent.sent += marks.len() as u64;
        ended.map_or(Ok(()), |error| Err(unsent(&error)))
    }

    /// The broker has the copy of a letter: the mark that says so.
    fn taken(&mut self, letter: &Summary, at: Place) -> RedriveMark {
        let consumer = letter.consumer();
        let mark = RedriveMark::Done {
            run: self.marks.run.clone(),
            letter: letter.at.offset,
            sent_to: at.clone(),
        };
        self.sent.copies.push(SentCopy { consumer, at });
        mark
    }

    async fn end_of(&self, topic: &str, partition: i32) -> Result<i64, Failure> {
        let log = self.probe.watermarks(topic, partition).await;
        Ok(log.map_err(unanswered)?.high)
    }
}

fn bar(letters: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} letters, {per_sec}, {eta} left");
    ProgressBar::new(letters).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
