//! A trace that comes with the change record, as Debezium's tracing transform writes it, is continued.

use std::time::Duration;

use e2e::{Content, Event, Traced};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use stream::KafkaSettings;
use stream::probe::Probe;

use crate::event::Committed;
use crate::tree::{one, shown};

const CDC: &str = "cdc.public.engagement_events";
const ENRICHED: &str = "engagement.enriched.v1";
const OUTER: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_traceparent_on_the_change_record_is_continued_as_its_flag_says() {
    let (traced, _turn) = Traced::turn().await;
    let world = traced.world();
    let content = world.insert_content(Content::podcast(300)).await;
    let model = world.insert_event(Event::play(&content, 7000)).await;
    let model = Committed::read(world, &model).await;
    let record = change_record(traced, &model).await;
    for (step, flag) in [(1, "01"), (2, "00")] {
        let trace_id = format!("4bf92f3577b34da6a3ce929d0e0e47{step:02}");
        let id = 900_000_000 + step;
        let parent = format!("00-{trace_id}-{OUTER}-{flag}");
        send(traced, &record, id, step, &parent).await;
        world.delivered(&id.to_string()).await;
        if flag == "00" {
            world.clickhouse_row(&id.to_string()).await;
            assert_eq!(traced.trace(&trace_id).await, None);
            continue;
        }
        let trace = world
            .eventually("the continued trace in every sink", || async {
                let trace = traced.trace(&trace_id).await?;
                (trace.spans.len() == 8).then_some(trace)
            })
            .await;
        let capture = one(&trace, "enricher", &format!("capture {CDC}"));
        assert_eq!(capture.attributes["engage.sampled"], "parent");
        assert_eq!(capture.attributes["engage.event.id"], id.to_string());
        one(&trace, "clickhouse-sink", &format!("process {ENRICHED}"));
        assert!(is_below_outer(&trace, capture), "{}", shown(&trace));
    }
}

/// Jaeger names a parent that it has not seen, or says that it has not seen it.
fn is_below_outer(trace: &engagectl::jaeger::Trace, capture: &engagectl::jaeger::Span) -> bool {
    let named = capture.parent.as_deref() == Some(OUTER);
    named || (capture.parent.is_none() && shown(trace).contains(OUTER))
}

/// The change record of an event, as Debezium wrote it.
async fn change_record(traced: &Traced, event: &Committed) -> stream::Record {
    let settings = KafkaSettings {
        bootstrap_servers: traced.world().addresses().kafka.clone(),
        ..KafkaSettings::default()
    };
    let probe = Probe::new(&settings, "e2e-traces");
    let (partition, offset) = (event.position.partition, event.position.offset);
    let record = probe.read_one(CDC, partition, offset).await.unwrap();
    record.expect("the change record is retained")
}

/// The same change again, a little further in the log of the database, for another event.
async fn send(traced: &Traced, model: &stream::Record, id: i64, step: i64, parent: &str) {
    let mut change: Value = serde_json::from_slice(model.payload.as_deref().unwrap()).unwrap();
    let lsn = change["source"]["lsn"].as_i64().unwrap() + step;
    change["after"]["id"] = id.into();
    change["source"]["lsn"] = lsn.into();
    let sequence: Vec<Option<String>> =
        serde_json::from_str(change["source"]["sequence"].as_str().unwrap()).unwrap();
    let sequence = [sequence[0].clone(), Some(lsn.to_string())];
    change["source"]["sequence"] = serde_json::to_string(&sequence).unwrap().into();
    let payload = serde_json::to_vec(&change).unwrap();
    let header = Header {
        key: "traceparent",
        value: Some(parent),
    };
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &traced.world().addresses().kafka)
        .create()
        .unwrap();
    let record = FutureRecord::to(CDC)
        .partition(model.partition)
        .key(model.key.as_deref().unwrap())
        .payload(&payload)
        .headers(OwnedHeaders::new().insert(header));
    producer
        .send(record, Duration::from_secs(120))
        .await
        .unwrap();
}
