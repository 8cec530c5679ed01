//! A small pipeline without processes: a table, the topic that mirrors it, and the sinks.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use devstack::{Needs, Stack};
use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::{EVENT_TS, Sample};
use platform::Schema;
use stream::settings::KafkaSettings;
use verify::{
    Difference, KafkaSource, Kind, Options, PostgresSource, Report, Sink, SinkReport, Sources,
};

use crate::stores;

const MINUTE: i64 = 60_000_000;

/// The stores of one test.
pub(crate) struct World {
    pub(crate) stack: &'static Stack,
    pub(crate) name: String,
    pub(crate) sources: Sources,
    pub(crate) events: Vec<EnrichedEvent>,
    next: [i64; stores::PARTITIONS as usize],
}

/// Types of the keys of a test's tables.
pub(crate) struct Keys {
    pub(crate) schema: Schema,
    pub(crate) event: &'static str,
    pub(crate) content: &'static str,
    pub(crate) clickhouse: &'static str,
    pub(crate) ids: fn(usize) -> String,
    pub(crate) contents: fn(usize) -> String,
}

pub(crate) const UUIDS: Keys = Keys {
    schema: Schema::Uuid,
    event: "bigint",
    content: "uuid",
    clickhouse: "Int64",
    ids: |n| n.to_string(),
    contents: |n| format!("5b6962dd-3f90-4c93-8f61-eabfa4a803e{n}"),
};
pub(crate) const INTEGERS: Keys = Keys {
    schema: Schema::Bigint,
    event: "bigint",
    content: "bigint",
    clickhouse: "Int64",
    ids: |n| n.to_string(),
    contents: |n| (8 + n).to_string(),
};
pub(crate) const TEXTS: Keys = Keys {
    schema: Schema::Uuid,
    event: "text",
    content: "text",
    clickhouse: "String",
    ids: |n| format!("Ereignis-{n}|ö"),
    contents: |n| format!("Z{n} a\u{e9}"),
};

pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}_{}_{n}", std::process::id())
}

impl World {
    /// Tables and topics, and 40 events of four contents and of none over three minutes in all of Postgres and the topic.
    pub(crate) async fn new(name: &str, keys: &Keys) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stack =
            devstack::shared_for_tests(Needs::none().postgres().kafka().clickhouse().redis());
        let name = unique(name);
        let url = &stack.postgres().admin_url;
        stores::postgres(
            url,
            &stores::table(&name, keys.schema, keys.event, keys.content),
        )
        .await;
        let mut postgres = PostgresSource::new(url.as_str(), keys.schema);
        postgres.table = format!("{name}.engagement_events");
        let mut kafka = KafkaSource::new(KafkaSettings {
            bootstrap_servers: stack.kafka().bootstrap.clone(),
            ..KafkaSettings::default()
        });
        kafka.enriched_topic = format!("{name}.enriched");
        kafka.cdc_topic = format!("{name}.cdc");
        kafka.backfill_topic = format!("{name}.backfill");
        kafka.runs_topic = format!("{name}.backfill.runs");
        kafka.dead_letter_prefix = format!("{name}.dlq.");
        let letters =
            ["enricher", "webhook-forwarder"].map(|service| format!("{name}.dlq.{service}"));
        let all = [&kafka.enriched_topic, &letters[0], &letters[1]].map(String::as_str);
        stores::topics(&kafka.settings.bootstrap_servers, &all).await;
        let mut world = Self {
            stack,
            name,
            sources: Sources {
                postgres,
                kafka,
                clickhouse: None,
                redis: None,
                receiver: None,
            },
            events: Vec::new(),
            next: [0; stores::PARTITIONS as usize],
        };
        let events = (0..40).map(|n| world.event(keys, n)).collect::<Vec<_>>();
        world.insert(&events).await;
        world.append(&events).await;
        world.events = events;
        world
    }

    fn event(&mut self, keys: &Keys, n: usize) -> EnrichedEvent {
        let at = Micros(EVENT_TS.0 + i64::try_from(n % 3).unwrap() * MINUTE);
        let kind = ["play", "pause", "finish", "click"][n % 4];
        let mut event = Sample::new()
            .event_id((keys.ids)(n))
            .event_type(kind)
            .event_ts(at)
            .build();
        event.content_id = (!n.is_multiple_of(5)).then(|| (keys.contents)(n % 5 - 1));
        event.duration_ms = (!n.is_multiple_of(7)).then(|| i64::try_from(n).unwrap() * 100);
        self.place(&mut event);
        event
    }

    /// Gives an event the next position of its content's partition.
    pub(crate) fn place(&mut self, event: &mut EnrichedEvent) {
        let content = event.content_id.as_deref().unwrap_or_default();
        let partition = usize::from(content.bytes().last().unwrap_or_default()) % self.next.len();
        event.source.partition = i32::try_from(partition).unwrap();
        event.source.offset = self.next[partition];
        event.source.prev = self.next[partition] - 1;
        event.revision = 1000 + u64::try_from(self.next[partition]).unwrap();
        self.next[partition] += 1;
    }

    /// Where each partition ends.
    pub(crate) fn ends(&self) -> Vec<(i32, i64)> {
        (0..).zip(self.next).collect()
    }

    /// Adds events to the table.
    pub(crate) async fn insert(&self, events: &[EnrichedEvent]) {
        let rows: String = events.iter().map(row).collect();
        self.postgres(&rows).await;
    }

    /// Adds events to the topic.
    pub(crate) async fn append(&self, events: &[EnrichedEvent]) {
        let kafka = &self.sources.kafka;
        stores::enriched(
            &kafka.settings.bootstrap_servers,
            &kafka.enriched_topic,
            events,
        )
        .await;
    }

    pub(crate) async fn postgres(&self, sql: &str) {
        let sql = sql.replace("{table}", &self.sources.postgres.table);
        stores::postgres(&self.stack.postgres().admin_url, &sql).await;
    }

    /// Everything that the topic holds, in ClickHouse too.
    pub(crate) async fn with_clickhouse(mut self, keys: &Keys) -> Self {
        let settings = stores::database(self.stack.clickhouse(), &self.name, keys.clickhouse).await;
        stores::clickhouse(&settings, &stores::insert(&self.name, &self.events)).await;
        self.sources.clickhouse = Some(settings);
        self
    }

    pub(crate) async fn clickhouse(&self, sql: &str) {
        let sql = sql.replace("{table}", &format!("{}.events_enriched", self.name));
        stores::clickhouse(self.sources.clickhouse.as_ref().unwrap(), &sql).await;
    }

    pub(crate) async fn compare(&self, sink: Sink) -> Report {
        let options = Options {
            sinks: [sink].into(),
            ..Options::default()
        };
        verify::run(&self.sources, &options).await.unwrap()
    }

    pub(crate) async fn found(&self, sink: Sink) -> SinkReport {
        self.compare(sink).await.sink(sink).unwrap().clone()
    }

    /// Waits until the sink is equal.
    pub(crate) async fn settled(&self, sink: Sink) -> SinkReport {
        let options = Options {
            sinks: [sink].into(),
            ..Options::default()
        };
        let within = Duration::from_secs(120);
        let report = verify::settle_with(&self.sources, &options, within)
            .await
            .unwrap();
        assert!(report.is_equal(), "{report}");
        report.sink(sink).unwrap().clone()
    }
}

fn row(event: &EnrichedEvent) -> String {
    let text = |value: Option<&str>| value.map_or("NULL".into(), |text| format!("'{text}'"));
    format!(
        "INSERT INTO {{table}} VALUES ('{}', {}, '{}', '{}', {});",
        event.event_id,
        text(event.content_id.as_deref()),
        event.event_type,
        event.event_ts,
        event.duration_ms.map_or("NULL".into(), |ms| ms.to_string()),
    )
}

/// Kind and id of everything named.
pub(crate) fn names(report: &SinkReport) -> Vec<(Kind, String)> {
    let name = |difference: &Difference| (difference.kind, difference.id.clone());
    report.differences.iter().map(name).collect()
}
