//! Up to when changes are captured: what the logs and ClickHouse show.
//!
//! Invariant: what cannot be asked counts as nothing known; whatever is known was captured for certain.

use std::time::Duration;

use engagement::envelope::{CdcRecord, Input, Parser};
use engagement::event::Micros;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use stream::probe::Probe;
use stream::resume::source_position;
use stream::{KafkaSettings, Record, tail};

use crate::config::Config;

/// Longest time of one question.
const ASK: Duration = Duration::from_secs(5);
/// Longest time of all: a loss must be said in time, with or without it.
const ALL: Duration = Duration::from_secs(20);
/// Records of the end of each partition: behind a snapshot's last ones, streamed ones may stand.
const LAST: u32 = 8;

/// When the last change was committed that anything shows, if anything does.
pub(super) async fn captured(config: &Config) -> Option<Micros> {
    let asked = tokio::time::timeout(ALL, shown(config)).await;
    asked.ok().flatten()
}

async fn shown(config: &Config) -> Option<Micros> {
    let parser = super::probe::parser(config);
    let change = |record: &Record| committed_at(&parser, record);
    let in_changes = newest(&config.kafka, &config.topics.cdc, change).await;
    let in_enriched = newest(&config.kafka, &config.topics.enriched, enriched_at).await;
    let in_logs = in_changes.max(in_enriched);
    if in_logs.is_some() {
        return in_logs;
    }
    in_clickhouse(config).await
}

async fn newest(
    kafka: &KafkaSettings,
    topic: &str,
    at: impl Fn(&Record) -> Option<Micros>,
) -> Option<Micros> {
    let probe = Probe::new(kafka, super::NAME);
    let mut newest = None;
    for partition in 0..partitions(kafka, topic).await.unwrap_or(0) {
        let end = probe.tail(topic, partition, LAST, Vec::new());
        let Ok(Ok(end)) = tokio::time::timeout(ASK, end).await else {
            continue;
        };
        newest = end.records.iter().filter_map(&at).max().max(newest);
    }
    newest
}

async fn partitions(kafka: &KafkaSettings, topic: &str) -> Option<i32> {
    let (config, topic) = (kafka.probe_config(super::NAME), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().ok()?;
        let metadata = consumer.fetch_metadata(Some(&topic), ASK).ok()?;
        let mut topics = metadata.topics().iter();
        let found = topics.find(|found| found.name() == topic)?;
        i32::try_from(found.partitions().len()).ok()
    });
    asked.await.ok().flatten()
}

/// Of a change that was streamed: what a snapshot has read says nothing of what it had not read yet.
fn committed_at(parser: &Parser, record: &Record) -> Option<Micros> {
    let input = Input {
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        moved: false,
    };
    match parser.event(input) {
        Ok(CdcRecord::Change(change)) if !change.meta.is_snapshot() => change.meta.committed_at,
        _ => None,
    }
}

fn enriched_at(record: &Record) -> Option<Micros> {
    let event = tail::read(record, source_position(record)?).ok()?;
    (!event.source.snapshot).then_some(event.source.committed_at)
}

async fn in_clickhouse(config: &Config) -> Option<Micros> {
    let database = config.clickhouse.database.replace('`', "");
    let sql = format!(
        "SELECT toUnixTimestamp64Micro(max(src_committed_at)) FROM `{database}`.events_enriched \
         WHERE src_lane = 'live' AND origin = 'STREAM' SETTINGS max_execution_time = 5 FORMAT TSV"
    );
    let asked = platform::ask_clickhouse(&config.clickhouse, "reading the last commit", &sql);
    let answer = tokio::time::timeout(ASK, asked).await.ok()?.ok()?;
    let at: i64 = answer.trim().parse().ok()?;
    // an empty table has the beginning of time
    (at > 0).then_some(Micros(at))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use engagement::testing::Sample;
    use engagement::wire::{self, Format};
    use stream::headers::{CONTENT_TYPE, ENGAGEMENT_SOURCE};

    use super::*;

    fn record(payload: Vec<u8>, headers: Vec<(String, Option<Bytes>)>) -> Record {
        Record {
            topic: Arc::from("t"),
            partition: 3,
            offset: 1,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::from(payload)),
            headers,
        }
    }

    #[test]
    fn a_streamed_change_says_when_it_was_committed_and_a_snapshots_does_not() {
        let change = |op: &str| {
            let text = format!(
                r#"{{"op":"{op}","after":{{"id":1,"event_type":"play","event_ts":"2026-01-08T14:21:52Z"}},
                "source":{{"lsn":7,"sequence":"[\"5\",\"7\"]","txId":1,"ts_ms":1767882112000,"snapshot":"false"}}}}"#
            );
            committed_at(&Parser::default(), &record(text.into_bytes(), Vec::new()))
        };
        assert_eq!(change("c"), Some(Micros(1_767_882_112_000_000)));
        assert_eq!(change("r"), None);
    }

    #[test]
    fn an_enriched_event_says_when_its_change_was_committed() {
        let mut event = Sample::new().at_position(3, 7).build();
        event.source.committed_at = Micros(9);
        event.source.snapshot = false;
        let text = |text: &str| Some(Bytes::from(text.to_owned()));
        let headers = vec![
            (
                ENGAGEMENT_SOURCE.to_owned(),
                text(&event.source.position().to_string()),
            ),
            (
                CONTENT_TYPE.to_owned(),
                text(Format::Protobuf.content_type()),
            ),
        ];
        let made = record(wire::encode(&event, Format::Protobuf), headers);
        assert_eq!(enriched_at(&made), Some(Micros(9)));
        assert_eq!(enriched_at(&record(Vec::new(), Vec::new())), None);
    }
}
