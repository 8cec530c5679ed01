//! The enriched topic, read beside every group.
//!
//! Invariant: nothing is subscribed to and nothing committed.

use std::collections::BTreeMap;

use service::Failure;
use stream::scan::{Scanner, Span};
use stream::{KafkaSettings, LaneError, Watermarks};

use super::sums::Replay;
use crate::kafka;
use crate::reset::plan::Fact;

/// A name to connect with; it is no group that anybody is in.
const NAME: &str = "engagectl-rebuild";

/// The topic.
#[derive(Clone)]
pub(super) struct Log {
    kafka: KafkaSettings,
    topic: String,
}

impl Log {
    pub(super) fn new(kafka: &KafkaSettings, topic: &str) -> Self {
        Self {
            kafka: kafka.clone(),
            topic: topic.to_owned(),
        }
    }

    /// The same facts with the ends of now: a commit that was read after an older end may lie beyond it.
    ///
    /// # Errors
    /// The broker does not answer (69), or the topic has other partitions by now (75).
    pub(super) async fn with_ends(&self, facts: Vec<Fact>) -> Result<Vec<Fact>, Failure> {
        let spans = self.scan(Scanner::spans).await?;
        if spans.len() != facts.len() {
            return Err(Failure::try_again(format!(
                "topic {} had {} partitions a moment ago, and has {} now",
                self.topic,
                facts.len(),
                spans.len()
            )));
        }
        let with_end = |(fact, span): (Fact, Span)| Fact {
            log: Watermarks {
                low: span.from,
                high: span.to,
            },
            ..fact
        };
        Ok(facts.into_iter().zip(spans).map(with_end).collect())
    }

    /// Each partition from where its lane will begin, up to the ends of now.
    ///
    /// # Errors
    /// The broker does not answer (69), or the log has a hole (78).
    pub(super) async fn replay(
        &self,
        mut replays: BTreeMap<i32, Replay>,
    ) -> Result<BTreeMap<i32, Replay>, Failure> {
        let read = self.scan(move |scanner| {
            let ends = scanner.spans()?;
            let from = |end: &Span| {
                let replay = replays.get(&end.partition)?;
                let from = (replay.goal().applied.enriched + 1).max(end.from);
                Some(Span { from, ..*end })
            };
            let spans: Vec<Span> = ends.iter().filter_map(from).collect();
            scanner.read(&spans, |record| {
                if let Some(replay) = replays.get_mut(&record.partition) {
                    replay.take(&record);
                }
            })?;
            Ok(replays)
        });
        let replays = read.await?;
        for (partition, replay) in &replays {
            if let Some(hole) = &replay.hole {
                return Err(Failure::repair(format!(
                    "topic {} partition {partition}: {hole}",
                    self.topic
                ))
                .remedy("redis-aggregator would stop there, too: see what is missing, and adopt it first")
                .next("engagectl lineage show --check"));
            }
        }
        Ok(replays)
    }

    async fn scan<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Scanner) -> Result<T, LaneError> + Send + 'static,
    ) -> Result<T, Failure> {
        let log = self.clone();
        kafka::ask(move || ask(&Scanner::open(&log.kafka, NAME, &log.topic)?)).await
    }
}
