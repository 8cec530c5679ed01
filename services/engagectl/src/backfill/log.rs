//! Kafka, as a backfill asks it: how topics end, where groups stand, which runs there are, what was written already.
//!
//! Invariant: nothing here joins a group or commits; every question is off the runtime.

use std::time::Duration;

use engagement::envelope::{Parser, TableSchema};
use engagement::event::EnrichedEvent;
use engagement::wire::{self, Format};
use service::Failure;
use stream::backfill::Ticket;
use stream::checkpoint::Checkpoint;
use stream::headers::{CONTENT_TYPE, last_text};
use stream::probe::Probe;
use stream::producer::{ProducerOptions, SendError};
use stream::scan::{Scanner, Span};
use stream::{Committed, KafkaSettings, LaneError, Producer, Record, tail};

use super::ledger::{Found, Run, Runs};
use super::route;
use crate::config::Config;
use crate::kafka::{self, unanswered};
use crate::reset::Target;
use crate::reset::group::Group;

/// The name under which this tool reads.
const GROUP: &str = "engagectl-backfill";
/// Records at the end of a partition of the change topic that must follow the rule of keys and partitions.
const PROOF: u32 = 20;

/// The broker, with the names of what is looked at.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) settings: KafkaSettings,
    pub(super) cdc: String,
    pub(super) enriched: String,
    pub(super) lane: String,
    pub(super) runs: String,
    pub(super) enricher: String,
    pub(super) clickhouse: String,
}

impl Log {
    pub(super) fn new(config: &Config) -> Self {
        let topics = config.topics.clone();
        Self {
            settings: config.kafka.clone(),
            cdc: topics.cdc,
            enriched: topics.enriched,
            lane: topics.backfill,
            runs: topics.backfill_runs,
            enricher: config.groups.enricher.clone(),
            clickhouse: config.groups.clickhouse.clone(),
        }
    }

    /// Writes with these names; a record waits so long for company.
    ///
    /// # Errors
    /// A setting is wrong (64).
    pub(super) fn producer(&self, linger: Duration) -> Result<Producer, Failure> {
        let options = ProducerOptions {
            linger,
            ..ProducerOptions::default()
        };
        Producer::new(&self.settings, options)
            .map_err(|error| Failure::usage(error.to_string()).next("engagectl check"))
    }

    /// What each partition of a topic retains.
    ///
    /// # Errors
    /// There is no such topic, or no answer.
    pub(super) async fn spans(&self, topic: &str) -> Result<Vec<Span>, Failure> {
        let found = self.scan(GROUP, topic, Scanner::spans).await?;
        if found.is_empty() {
            return Err(Failure::repair(format!("topic {topic} does not exist"))
                .remedy("create it, or correct its name")
                .next("engagectl init"));
        }
        Ok(found)
    }

    /// Where each partition of a topic ends.
    pub(super) async fn ends(&self, topic: &str) -> Result<Vec<i64>, Failure> {
        let spans = self.spans(topic).await?;
        Ok(spans.iter().map(|span| span.to).collect())
    }

    /// The committed offset of each partition; `None` where there is none.
    pub(super) async fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<Vec<Option<i64>>, Failure> {
        let found = self.scan(group, topic, move |scanner| {
            scanner.committed(&(0..partitions).collect::<Vec<_>>())
        });
        let found = found.await?;
        Ok((0..partitions).map(|p| found.get(&p).copied()).collect())
    }

    /// The partition counts of all topics that have to be the same.
    ///
    /// # Errors
    /// They are not.
    pub(super) async fn partitions(&self) -> Result<i32, Failure> {
        let count = self.spans(&self.enriched).await?.len();
        for topic in [&self.cdc, &self.lane] {
            let found = self.spans(topic).await?.len();
            if found != count {
                return Err(Failure::repair(format!(
                    "topic {topic} has {found} partitions, {} has {count}",
                    self.enriched
                ))
                .remedy("both need the same number, or records would go to other partitions than the live ones: recreate the topic while it is empty")
                .next("engagectl init"));
            }
        }
        i32::try_from(count).map_err(|_| Failure::internal("more partitions than a topic can have"))
    }

    /// Every run in the topic of runs.
    pub(super) async fn runs(&self) -> Result<Runs, Failure> {
        self.spans(&self.runs).await?;
        let (runs, strange) = self
            .scan(GROUP, &self.runs, |scanner| {
                let (mut runs, mut strange) = (Runs::default(), Vec::new());
                let spans = scanner.spans()?;
                scanner.read(&spans, |record| {
                    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
                    if let Err(error) = runs.apply(&key, record.payload.as_deref()) {
                        strange.push(error.to_string());
                    }
                })?;
                Ok((runs, strange))
            })
            .await?;
        for what in strange {
            eprintln!("warning: {what}");
        }
        Ok(runs)
    }

    /// What a former process has written of a run and not noted.
    pub(super) async fn found(&self, run: &Run) -> Result<Found, Failure> {
        let spans = self.spans(&self.lane).await?;
        let searched = |span: &Span| {
            let from = run.search_from(span.partition)?;
            Some(Span {
                from: from.max(span.from),
                ..*span
            })
        };
        let spans: Vec<Span> = spans.iter().filter_map(searched).collect();
        let id = run.spec.run;
        self.scan(GROUP, &self.lane, move |scanner| {
            let mut found = Found::default();
            scanner.read(&spans, |record| {
                let ticket = Ticket::of(&record).filter(|ticket| ticket.run == id);
                if let Some((ticket, event)) = ticket.zip(event_of(&record)) {
                    found.note(ticket.range, event.event_id);
                }
            })?;
            Ok(found)
        })
        .await
    }

    /// The epoch of each partition of the live chain: of the end of its log, or of the enricher's commit where that is higher. A new
    /// epoch is opened by a commit, and a partition in which nothing has happened since has no record of it; one that retention
    /// has emptied has none at all.
    pub(super) async fn epochs(&self, partitions: i32) -> Result<Vec<u8>, Failure> {
        let probe = Probe::new(&self.settings, GROUP);
        let enricher = Group::new(&self.settings, &self.enricher, &self.cdc);
        let facts = enricher.facts(None, Target::Latest).await?;
        let mut epochs = Vec::new();
        for partition in 0..partitions {
            let end = tail::End::of(partition);
            let asked = probe.tail(&self.enriched, partition, tail::WANTED, end);
            let end = asked.await.map_err(unanswered)?.records;
            let last = end.highest().map_err(|error| {
                Failure::repair(format!(
                    "topic {} partition {partition}: {error}",
                    self.enriched
                ))
                .next("engagectl lineage show")
            })?;
            let fact = facts.iter().find(|fact| fact.partition == partition);
            epochs.push(epoch(last, fact.and_then(|fact| fact.committed.as_ref())));
        }
        Ok(epochs)
    }

    /// Whether the change topic is keyed and partitioned as records of the backfill will be.
    pub(super) async fn prove_route(
        &self,
        partitions: i32,
        schema: platform::Schema,
    ) -> Result<(), Failure> {
        let probe = Probe::new(&self.settings, GROUP);
        let parser = Parser::new(TableSchema {
            event_key: schema.event_key().into(),
            content_id: schema.content_key().into(),
            ..TableSchema::default()
        });
        for partition in 0..partitions {
            let asked = probe.tail(&self.cdc, partition, PROOF, Vec::new()).await;
            let records = asked.map_err(unanswered)?.records;
            let wrong = records.iter().find_map(|record| {
                let what = route::contradiction(record, &parser, partitions, schema)?;
                Some((record.offset, what))
            });
            if let Some((offset, what)) = wrong {
                return Err(Failure::repair(format!(
                    "topic {} partition {partition} offset {offset}: {what}",
                    self.cdc
                ))
                .remedy("a backfill must go to the partitions of the live events: set message.key.columns, key.converter.schemas.enable=false \
                         and the default partitioner, as `engagectl init` does")
                .next("engagectl check"));
            }
        }
        Ok(())
    }

    async fn scan<T: Send + 'static>(
        &self,
        group: &str,
        topic: &str,
        ask: impl FnOnce(&Scanner) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (settings, group, topic) = (self.settings.clone(), group.to_owned(), topic.to_owned());
        kafka::ask(move || {
            let scanner = Scanner::open(&settings, &group, &topic)?;
            ask(&scanner)
        })
        .await
    }
}

/// What a backfill writes belongs to the epoch in which the enricher writes.
fn epoch(last: Option<&EnrichedEvent>, committed: Option<&Committed>) -> u8 {
    let written = last.map(|event| event.source.epoch);
    let opened = committed.and_then(|commit| commit.metadata.parse::<Checkpoint>().ok());
    written.max(opened.map(|opened| opened.epoch)).unwrap_or(0)
}

/// The event of a record that this tool has written.
fn event_of(record: &Record) -> Option<EnrichedEvent> {
    let format = Format::from_content_type(last_text(&record.headers, CONTENT_TYPE)?)?;
    wire::decode(record.payload.as_deref()?, format).ok()
}

/// A record of a topic that the broker has not taken.
pub(super) fn unsent(topic: &str, error: &SendError) -> Failure {
    Failure::unavailable(format!("the broker does not take what is written to {topic}"))
        .cause(error.to_string())
        .remedy(
            "look at its disks, and at the topic's limits (max.message.bytes, min.insync.replicas); what was written so far stays",
        )
        .next("engagectl check")
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;

    fn committed(metadata: &str) -> Committed {
        Committed {
            offset: 9,
            metadata: metadata.to_owned(),
        }
    }

    #[test]
    fn a_new_epoch_counts_also_where_nothing_of_it_was_written_yet_or_retention_has_taken_all() {
        let mut last = Sample::new().build();
        last.source.epoch = 1;
        let opened = committed("engage1 epoch=2");
        assert_eq!(epoch(Some(&last), Some(&opened)), 2);
        assert_eq!(epoch(None, Some(&opened)), 2);
        assert_eq!(epoch(Some(&last), Some(&committed("engage1 epoch=0"))), 1);
        assert_eq!(epoch(Some(&last), None), 1);
        assert_eq!(epoch(None, Some(&committed("another tool's words"))), 0);
    }
}
