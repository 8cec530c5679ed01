//! Reads topics: the enriched one as often as needed, the dead letters, and how far each group is.
//!
//! Invariant: nothing is subscribed to and nothing committed; every reading of the enriched topic covers the same offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use engagement::event::Micros;
use stream::scan::{Scanner, Span};
use stream::{LaneError, Record};

use crate::cell::{Cell, MINUTE};
use crate::chain;
use crate::error::Error;
use crate::sources::KafkaSource;

const WHAT: &str = "Kafka";
/// A name to connect with; it is no group that anybody is in.
const NAME: &str = "engage-verify";

/// A topic between two fixed sets of offsets.
#[derive(Clone)]
pub(crate) struct Log {
    kafka: Arc<KafkaSource>,
    topic: String,
    pub(crate) spans: Vec<Span>,
    /// From when on every event that happened is retained; `None`: all of them are.
    pub(crate) covered_from: Option<Micros>,
}

impl Log {
    /// Fixes the offsets of the enriched topic.
    pub(crate) async fn open(kafka: &KafkaSource) -> Result<Self, Error> {
        let kafka = Arc::new(kafka.clone());
        let asked = Arc::clone(&kafka);
        blocking(&kafka, move || {
            let scanner = Scanner::open(&asked.settings, NAME, &asked.enriched_topic)?;
            let spans = scanner.spans()?;
            let covered_from = covered_from(&scanner, &spans)?;
            Ok(Self {
                topic: asked.enriched_topic.clone(),
                kafka: asked,
                spans,
                covered_from,
            })
        })
        .await
    }

    /// Fixes the offsets of the topic of backfills, which may not exist; what it covers goes by runs, not by time.
    pub(crate) async fn backfills(kafka: &KafkaSource) -> Result<Self, Error> {
        let kafka = Arc::new(kafka.clone());
        let asked = Arc::clone(&kafka);
        blocking(&kafka, move || {
            let topic = asked.backfill_topic.clone();
            let spans = Scanner::open(&asked.settings, NAME, &topic)?.spans()?;
            Ok(Self {
                kafka: asked,
                topic,
                spans,
                covered_from: None,
            })
        })
        .await
    }

    /// The log does not reach back to its first record.
    pub(crate) fn is_truncated(&self) -> bool {
        self.spans.iter().any(|span| span.from > 0)
    }

    /// Whether every event of a cell is retained.
    pub(crate) fn covers(&self, cell: &Cell) -> bool {
        self.covered_from
            .is_none_or(|from| cell.minute >= from.0.div_euclid(MINUTE))
    }

    /// Hands every record to `visit`, each partition in order, and gives back what visited.
    pub(crate) async fn read<V: Send + 'static>(
        &self,
        mut visitor: V,
        visit: impl Fn(&mut V, Record) + Send + 'static,
    ) -> Result<V, Error> {
        let log = self.clone();
        blocking(&self.kafka, move || {
            let scanner = Scanner::open(&log.kafka.settings, NAME, &log.topic)?;
            scanner.read(&log.spans, |record| visit(&mut visitor, record))?;
            Ok(visitor)
        })
        .await
    }
}

/// The latest commit at which a partition that lost its beginning begins, up to the next whole minute.
///
/// An event that happened later was committed later, unless it was dated into the future.
fn covered_from(scanner: &Scanner, spans: &[Span]) -> Result<Option<Micros>, LaneError> {
    let cut: Vec<Span> = spans.iter().filter(|span| span.from > 0).copied().collect();
    if cut.is_empty() {
        return Ok(None);
    }
    let first = |span: Span| Span {
        to: span.to.min(span.from + 1),
        ..span
    };
    let firsts: Vec<Span> = cut.into_iter().map(first).collect();
    let mut latest = None;
    scanner.read(&firsts, |record| {
        if let Ok(event) = chain::read(&record) {
            latest = latest.max(Some(event.source.committed_at));
        }
    })?;
    // Nothing is retained at all: nothing is covered.
    let latest = latest.map_or(i64::MAX, |at| at.0);
    let minute = latest.div_euclid(MINUTE).saturating_add(1);
    Ok(Some(Micros(minute.saturating_mul(MINUTE))))
}

/// Reads a whole topic that may not exist.
pub(crate) async fn read_topic<V: Send + 'static>(
    kafka: &KafkaSource,
    topic: &str,
    mut visitor: V,
    visit: impl Fn(&mut V, Record) + Send + 'static,
) -> Result<V, Error> {
    let (settings, topic) = (kafka.settings.clone(), topic.to_owned());
    blocking(kafka, move || {
        let scanner = Scanner::open(&settings, NAME, &topic)?;
        scanner.read(&scanner.spans()?, |record| visit(&mut visitor, record))?;
        Ok(visitor)
    })
    .await
}

/// The committed offsets of a group, and how many records it has not done.
pub(crate) async fn progress(
    kafka: &KafkaSource,
    group: &str,
    topic: &str,
) -> Result<(BTreeMap<i32, i64>, u64), Error> {
    let (settings, group, topic) = (kafka.settings.clone(), group.to_owned(), topic.to_owned());
    blocking(kafka, move || {
        let scanner = Scanner::open(&settings, &group, &topic)?;
        let spans = scanner.spans()?;
        if spans.is_empty() {
            return Ok((BTreeMap::new(), 0));
        }
        let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
        let committed = scanner.committed(&partitions)?;
        let undone = |span: &Span| {
            let from = committed
                .get(&span.partition)
                .map_or(span.from, |at| span.from.max(*at));
            u64::try_from(span.to - from).unwrap_or(0)
        };
        let behind = spans.iter().map(undone).sum();
        Ok((committed, behind))
    })
    .await
}

/// Where in each partition of a topic what was written at or after a moment begins.
pub(crate) async fn since(
    kafka: &KafkaSource,
    topic: &str,
    at: Micros,
) -> Result<BTreeMap<i32, i64>, Error> {
    let (settings, topic) = (kafka.settings.clone(), topic.to_owned());
    blocking(kafka, move || {
        let scanner = Scanner::open(&settings, NAME, &topic)?;
        let spans = scanner.spans()?;
        if spans.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = scanner.since(&spans, at.millis())?;
        Ok(found
            .iter()
            .map(|span| (span.partition, span.from))
            .collect())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    kafka: &KafkaSource,
    ask: impl FnOnce() -> Result<T, LaneError> + Send + 'static,
) -> Result<T, Error> {
    let answer = tokio::task::spawn_blocking(ask).await;
    let answer = answer.map_err(|e| Error::refused(WHAT, "a question", e))?;
    answer.map_err(|e| Error::Unreachable {
        what: WHAT,
        place: kafka.settings.bootstrap_servers.clone(),
        cause: e.to_string(),
        setting: "KAFKA_BOOTSTRAP_SERVERS",
    })
}
