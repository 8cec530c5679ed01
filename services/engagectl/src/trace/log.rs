//! What Kafka holds of an event: enriched records, the change records they were made from, positions.
//!
//! Invariant: nothing is subscribed to and nothing committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engagement::envelope::{CdcRecord, Input, Parser, TableSchema};
use engagement::event::{EnrichedEvent, Lane, Micros, Source};
use rdkafka::consumer::{BaseConsumer, Consumer};
use service::Failure;
use service::traces::SpanContext;
use stream::election::once_elected;
use stream::probe::Probe;
use stream::resume::source_position;
use stream::scan::{Scanner, Span};
use stream::{KafkaSettings, LaneError, Record, tail, trace};

use super::stores::Row;
use crate::config::Config;
use crate::groups::is_of_backfills;
use crate::kafka::{self, unanswered};

const ASK: Duration = Duration::from_secs(10);
/// A name to connect with; it is no group that anybody is in.
pub(super) const NAME: &str = "engagectl-trace";
/// Clocks and retries: an enriched record lies so close to its commit, unless the enricher was away.
pub(super) const BEFORE: i64 = 60_000;
const AFTER: i64 = 600_000;

/// The topics.
pub(super) struct Log {
    pub(super) settings: KafkaSettings,
    pub(super) cdc: String,
    pub(super) enriched: String,
    probe: Probe,
    parser: Parser,
    webhooks: Vec<Endpoint>,
}

/// A webhook endpoint, and the group in which it reads the live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) group: String,
}

/// An enriched record of the event, or what ClickHouse kept of one.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) operation: &'static str,
    pub(super) source: Source,
    pub(super) revision: u64,
    /// Its offset, while it is retained.
    pub(super) offset: Option<i64>,
    pub(super) status: String,
    pub(super) enriched_at: Micros,
    /// The span that sent it, if it names one.
    pub(super) context: Option<SpanContext>,
}

impl Found {
    fn of(record: &Record, event: &EnrichedEvent) -> Self {
        let written = record
            .timestamp_ms
            .map(|ms| Micros(ms.saturating_mul(1000)));
        Self {
            operation: event.operation().name(),
            source: event.source,
            revision: event.revision,
            offset: Some(record.offset),
            status: event.enrichment_status.name().to_owned(),
            enriched_at: written.unwrap_or(event.processed_at),
            context: trace::extract(&record.headers),
        }
    }
}

impl Log {
    /// Connects, and finds the webhook endpoints' groups.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let settings = config.kafka.clone();
        let schema = TableSchema {
            event_key: config.database.schema.event_key().into(),
            content_id: config.database.schema.content_key().into(),
            ..TableSchema::default()
        };
        let asked = settings.probe_config(NAME);
        let groups = kafka::ask(move || {
            let consumer: BaseConsumer = asked.create()?;
            let list = once_elected(ASK, || consumer.fetch_group_list(None, ASK))?;
            let names = list.groups().iter().map(|group| group.name().to_owned());
            Ok(names.collect::<Vec<_>>())
        });
        let webhooks = endpoints(&config.groups.webhooks, groups.await?);
        Ok(Self {
            probe: Probe::new(&settings, NAME),
            cdc: config.topics.cdc.clone(),
            enriched: config.topics.enriched.clone(),
            parser: Parser::new(schema),
            webhooks,
            settings,
        })
    }

    pub(super) fn cdc(&self) -> &str {
        &self.cdc
    }

    pub(super) fn enriched(&self) -> &str {
        &self.enriched
    }

    /// Every change of the event, the oldest first: around those that ClickHouse knows, and in what was written `since`.
    pub(super) async fn find(
        &self,
        event_id: &str,
        rows: &[Row],
        since: Micros,
    ) -> Result<Vec<Found>, Failure> {
        let (settings, topic) = (self.settings.clone(), self.enriched.clone());
        let (rows_at, id) = (rows.to_vec(), event_id.to_owned());
        let mut found = kafka::ask(move || {
            let scanner = Scanner::open(&settings, NAME, &topic)?;
            let mut found: BTreeMap<(u8, i32, i64), Found> = BTreeMap::new();
            for spans in windows(&scanner, &rows_at, since)? {
                scanner.read(&spans, |record| {
                    if let Some(one) = of_event(&record, &id) {
                        let Source {
                            epoch,
                            partition,
                            offset,
                            ..
                        } = one.source;
                        // the first one is it; later ones are repeats, which every reader drops
                        found.entry((epoch, partition, offset)).or_insert(one);
                    }
                })?;
            }
            Ok(found.into_values().collect::<Vec<_>>())
        })
        .await?;
        for row in rows {
            if !found.iter().any(|one| row.is_of(&one.source)) {
                found.push(row.as_found());
            }
        }
        found.sort_by_key(|one| (one.source.committed_at, one.source.offset));
        Ok(found)
    }

    /// When the change record was written, if it is still there.
    pub(super) async fn captured(&self, source: &Source) -> Result<Option<Micros>, Failure> {
        if source.lane != Lane::Live {
            return Ok(None);
        }
        let (partition, offset) = (source.partition, source.offset);
        let log = self.probe.watermarks(&self.cdc, partition).await;
        let log = log.map_err(unanswered)?;
        if !(log.low..log.high).contains(&offset) {
            return Ok(None);
        }
        let record = self.probe.read_one(&self.cdc, partition, offset).await;
        let record = record.map_err(unanswered)?;
        Ok(record
            .and_then(|record| record.timestamp_ms)
            .map(|ms| Micros(ms.saturating_mul(1000))))
    }

    /// Where a committed event that is not enriched yet stands in the change topic.
    pub(super) async fn waiting(
        &self,
        event_id: &str,
        since: Micros,
    ) -> Result<Option<String>, Failure> {
        let (settings, topic) = (self.settings.clone(), self.cdc.clone());
        let (id, parser) = (event_id.to_owned(), self.parser.clone());
        kafka::ask(move || {
            let scanner = Scanner::open(&settings, NAME, &topic)?;
            let spans = scanner.since(&scanner.spans()?, since.0 / 1000)?;
            let mut place = None;
            scanner.read(&spans, |record| {
                if is_change_of(&parser, &record, &id) {
                    let Record {
                        topic,
                        partition,
                        offset,
                        ..
                    } = record;
                    place = Some(format!("{topic}/{partition} offset {offset}"));
                }
            })?;
            Ok(place)
        })
        .await
    }

    /// The webhook endpoints, and up to where each has settled this partition.
    pub(super) async fn webhooks(
        &self,
        partition: i32,
    ) -> Result<Vec<(Endpoint, Option<i64>)>, Failure> {
        let (settings, topic) = (self.settings.clone(), self.enriched.clone());
        let webhooks = self.webhooks.clone();
        kafka::ask(move || {
            let committed = |endpoint: Endpoint| {
                let scanner = Scanner::open(&settings, &endpoint.group, &topic)?;
                let at = scanner.committed(&[partition])?.get(&partition).copied();
                Ok((endpoint, at))
            };
            webhooks.into_iter().map(committed).collect()
        })
        .await
    }
}

/// The parts of the enriched topic that are worth reading.
fn windows(scanner: &Scanner, rows: &[Row], since: Micros) -> Result<Vec<Vec<Span>>, LaneError> {
    let all = scanner.spans()?;
    if rows.is_empty() {
        return Ok(vec![scanner.since(&all, since.0 / 1000)?]);
    }
    let mut windows = Vec::new();
    for row in rows {
        let of_row: Vec<Span> = all
            .iter()
            .filter(|span| span.partition == row.src_partition)
            .copied()
            .collect();
        let millis = row.committed_at.0 / 1000;
        let from = scanner.since(&of_row, millis - BEFORE)?;
        let to = scanner.since(&of_row, millis + AFTER)?;
        let both = from.iter().zip(&to);
        windows.push(
            both.map(|(from, to)| Span {
                to: to.from,
                ..*from
            })
            .collect(),
        );
    }
    let partitions: BTreeSet<i32> = rows.iter().map(|row| row.src_partition).collect();
    let newest: Vec<Span> = all
        .into_iter()
        .filter(|span| partitions.contains(&span.partition))
        .collect();
    windows.push(scanner.since(&newest, since.0 / 1000)?);
    Ok(windows)
}

/// The enriched record, if it is one of the event. Both wire forms hold the id as text, so most others are not decoded.
fn of_event(record: &Record, event_id: &str) -> Option<Found> {
    let (payload, id) = (record.payload.as_deref()?, event_id.as_bytes());
    if !payload.windows(id.len().max(1)).any(|part| part == id) {
        return None;
    }
    let event = tail::read(record, source_position(record)?).ok()?;
    (event.event_id == event_id).then(|| Found::of(record, &event))
}

/// The webhook endpoints among groups; `webhooks` is what the groups of all of them begin with, up to a dot.
fn endpoints(webhooks: &str, mut groups: Vec<String>) -> Vec<Endpoint> {
    groups.sort();
    let endpoint = |group: String| {
        let name = group.strip_prefix(webhooks)?.strip_prefix('.')?.to_owned();
        (!is_of_backfills(&name)).then_some(Endpoint { name, group })
    };
    groups.into_iter().filter_map(endpoint).collect()
}

fn is_change_of(parser: &Parser, record: &Record, event_id: &str) -> bool {
    let input = Input {
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        moved: false,
    };
    matches!(parser.event(input), Ok(CdcRecord::Change(change)) if change.row.event_id == event_id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::Sample;
    use engagement::wire::{self, Format};
    use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

    use super::*;

    fn record(event: &EnrichedEvent) -> Record {
        let headers = [
            (ENGAGEMENT_SOURCE, event.source.position().to_string()),
            (CONTENT_TYPE, Format::Protobuf.content_type().to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), Some(Bytes::from(value))));
        Record {
            topic: "t".into(),
            partition: 3,
            offset: 9,
            timestamp_ms: Some(5),
            key: None,
            payload: Some(Bytes::from(wire::encode(event, Format::Protobuf))),
            headers: headers.to_vec(),
        }
    }

    #[test]
    fn the_second_group_of_an_endpoint_is_no_step_of_a_live_event() {
        let groups = [
            "hooks.demo.backfill",
            "hooks.demo",
            "hooksome.crm",
            "enricher",
        ];
        let found = endpoints("hooks", groups.map(String::from).to_vec());
        let demo = Endpoint {
            name: "demo".into(),
            group: "hooks.demo".into(),
        };
        assert_eq!(found, [demo]);
    }

    #[test]
    fn only_records_of_the_event_itself_are_found() {
        let event = Sample::new().event_id(1001).at_position(3, 42).build();
        let found = of_event(&record(&event), "1001").unwrap();
        assert_eq!((found.offset, found.source.offset), (Some(9), 42));
        assert_eq!(found.enriched_at, Micros(5000));
        for other in ["100", "10011", "7", ""] {
            assert!(of_event(&record(&event), other).is_none(), "{other}");
        }
    }
}
