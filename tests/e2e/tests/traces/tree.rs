//! The tree of one traced event.

use std::collections::BTreeMap;

use e2e::Traced;
use engagectl::jaeger::{Span, Trace};

use crate::event::Committed;
use crate::events_of_both_kinds;

const CDC: &str = "cdc.public.engagement_events";
const ENRICHED: &str = "engagement.enriched.v1";
const SINKS: [&str; 3] = ["clickhouse-sink", "redis-aggregator", "webhook-forwarder"];

/// The one span of a service with this name.
pub(crate) fn one<'a>(trace: &'a Trace, service: &'a str, name: &str) -> &'a Span {
    let found: Vec<_> = trace.of(service).filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{service} {name:?} in {}", shown(trace));
    found[0]
}

pub(crate) fn shown(trace: &Trace) -> String {
    let spans = trace.spans.iter();
    let lines = spans.map(|span| {
        format!(
            "{} {} below {:?}: {} {:?} {:?}\n",
            span.service, span.span_id, span.parent, span.name, span.links, span.attributes
        )
    });
    lines.collect()
}

/// The spans of an event that is traced from its beginning: three of the enricher, one of each sink, the attempt, and
/// its receipt.
const SPANS: usize = 8;

/// Waits until the trace of an event has all its spans: each process sends its own when it comes to it.
async fn whole(traced: &Traced, event: &Committed) -> Trace {
    let what = format!(
        "trace {} of event {} in every sink",
        event.trace_id(),
        event.id
    );
    let world = traced.world();
    world
        .eventually(&what, || async {
            let trace = traced.trace(&event.trace_id()).await?;
            (trace.spans.len() >= SPANS).then_some(trace)
        })
        .await
}

fn has(span: &Span, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let found = span.attributes.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name} of {span:?}");
    }
}

#[tokio::test]
async fn a_trace_begins_at_the_commit_and_ends_in_three_sinks_and_the_receiver() {
    let (traced, _turn) = Traced::turn().await;
    let events = events_of_both_kinds(traced).await;
    let (chosen, _) = events.parted(traced).await;
    for event in &chosen {
        let trace = whole(traced, event).await;
        begins(&trace, event);
        for sink in SINKS {
            ends_in(&trace, sink, event);
        }
        delivered(&trace);
        assert_eq!(trace.spans.len(), SPANS, "{}", shown(&trace));
    }
}

/// From the commit through the enricher.
fn begins(trace: &Trace, event: &Committed) {
    let capture = one(trace, "enricher", &format!("capture {CDC}"));
    let process = one(trace, "enricher", &format!("process {CDC}"));
    let send = one(trace, "enricher", &format!("send {ENRICHED}"));
    assert_eq!(trace.spans[0].span_id, capture.span_id, "{}", shown(trace));
    assert_eq!(capture.parent, None);
    assert_eq!(capture.start, event.at.0, "the trace begins at the commit");
    assert!(capture.end >= capture.start && process.start >= capture.end - 1000);
    assert_eq!(process.parent.as_ref(), Some(&capture.span_id));
    assert_eq!(send.parent.as_ref(), Some(&process.span_id));
    assert!(send.start >= process.start && send.end >= send.start);
    let (partition, offset) = (
        event.position.partition.to_string(),
        event.position.offset.to_string(),
    );
    let position = event.position.to_string();
    for span in [capture, process] {
        has(
            span,
            &[
                ("messaging.system", "kafka"),
                ("messaging.destination.name", CDC),
                ("messaging.destination.partition.id", &partition),
                ("messaging.kafka.offset", &offset),
                ("engage.event.id", &event.id),
                ("engage.source", &position),
                ("engage.sampled", "head"),
            ],
        );
    }
    has(
        capture,
        &[
            ("span.kind", "producer"),
            ("messaging.operation.type", "send"),
        ],
    );
    has(
        process,
        &[
            ("span.kind", "consumer"),
            ("messaging.operation.type", "process"),
            ("messaging.consumer.group.name", "enricher"),
        ],
    );
    has(
        send,
        &[
            ("span.kind", "producer"),
            ("messaging.destination.name", ENRICHED),
        ],
    );
}

/// From receipt to visible, in a sink.
fn ends_in(trace: &Trace, sink: &str, event: &Committed) {
    let send = one(trace, "enricher", &format!("send {ENRICHED}"));
    let process = one(trace, sink, &format!("process {ENRICHED}"));
    assert_eq!(
        process.parent.as_ref(),
        Some(&send.span_id),
        "{}",
        shown(trace)
    );
    assert!(
        process.start >= send.start && process.end >= process.start,
        "{}",
        shown(trace)
    );
    let partition = event.position.partition.to_string();
    has(
        process,
        &[
            ("span.kind", "consumer"),
            ("messaging.system", "kafka"),
            ("messaging.destination.name", ENRICHED),
            ("messaging.destination.partition.id", &partition),
            ("messaging.operation.type", "process"),
            ("engage.event.id", &event.id),
        ],
    );
    assert!(process.attributes.contains_key("messaging.kafka.offset"));
    let freshness: i64 = process.attributes["engage.freshness_ms"].parse().unwrap();
    assert_eq!(
        freshness,
        (process.end - event.at.0) / 1000,
        "commit to visible"
    );
    let group = &process.attributes["messaging.consumer.group.name"];
    assert!(group.starts_with(sink), "{group}");
}

/// The attempt below the forwarder's span, and the receiver's below that.
fn delivered(trace: &Trace) {
    let process = one(trace, "webhook-forwarder", &format!("process {ENRICHED}"));
    let attempt = one(trace, "webhook-forwarder", "POST");
    let receipt = one(trace, "webhook-receiver", "POST /webhook");
    assert_eq!(attempt.parent.as_ref(), Some(&process.span_id));
    assert_eq!(receipt.parent.as_ref(), Some(&attempt.span_id));
    has(
        attempt,
        &[
            ("span.kind", "client"),
            ("http.response.status_code", "200"),
        ],
    );
    has(
        receipt,
        &[
            ("span.kind", "server"),
            ("http.response.status_code", "200"),
        ],
    );
    assert!(
        attempt.start <= receipt.start && receipt.end <= attempt.end + 1000,
        "{}",
        shown(trace)
    );
}

#[tokio::test]
async fn a_batch_links_to_its_events_and_they_to_it() {
    let (traced, _turn) = Traced::turn().await;
    let events = events_of_both_kinds(traced).await;
    let (chosen, _) = events.parted(traced).await;
    let batches = BTreeMap::from([
        ("clickhouse-sink", "INSERT events_enriched"),
        ("redis-aggregator", "EVALSHA"),
    ]);
    for (sink, name) in batches {
        let trace = whole(traced, &chosen[0]).await;
        let process = one(&trace, sink, &format!("process {ENRICHED}"));
        let (batch_trace, batch_span) = process.links.first().unwrap();
        let batch = traced
            .world()
            .eventually("the trace of the batch", || traced.trace(batch_trace))
            .await;
        let batch = one(&batch, sink, name);
        assert_eq!(&batch.span_id, batch_span);
        assert_eq!(batch.parent, None, "it belongs to no event");
        let send = one(&trace, "enricher", &format!("send {ENRICHED}"));
        let back = (trace.id.clone(), send.span_id.clone());
        assert!(
            batch.links.contains(&back),
            "{batch:?} does not link to {back:?}"
        );
        assert!(
            batch.attributes["db.operation.batch.size"]
                .parse::<u32>()
                .unwrap()
                >= 1
        );
    }
}

#[tokio::test]
async fn an_event_that_is_not_chosen_leaves_no_trace() {
    let (traced, _turn) = Traced::turn().await;
    let events = events_of_both_kinds(traced).await;
    let (chosen, others) = events.parted(traced).await;
    for event in &chosen {
        whole(traced, event).await;
    }
    for event in &others {
        traced.world().delivered(&event.id).await;
        let trace = traced.trace(&event.trace_id()).await.unwrap_or_default();
        // on a busy machine it may have been late, and is traced for that
        let late = |span: &Span| {
            span.attributes
                .get("engage.sampled")
                .is_none_or(|why| why == "slow")
        };
        assert!(
            trace.spans.iter().all(late),
            "event {}: {}",
            event.id,
            shown(&trace)
        );
    }
}
