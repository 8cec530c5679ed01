//! What is traced whatever the sampler says: deliveries that are tried again, dead letters, and events that come late.

use e2e::{Content, Event, Traced};
use engagectl::jaeger::{Span, Trace};
use reqwest::StatusCode;
use serde_json::json;

use crate::event::Committed;
use crate::tree::{one, shown};
use crate::{BOTH_KINDS, events_of_both_kinds};

const CDC: &str = "cdc.public.engagement_events";
const ENRICHED: &str = "engagement.enriched.v1";

/// Makes every delivery fail, or none.
async fn failing(traced: &Traced, percent: u8) {
    let url = format!("http://{}/faults", traced.world().addresses().receiver);
    let faults = json!({"fail_percent": percent, "status": 503}).to_string();
    let answer = reqwest::Client::new().put(url).body(faults).send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

/// The attempts of a delivery, in their order.
fn attempts(trace: &Trace) -> Vec<&Span> {
    let attempts = trace.of("webhook-forwarder");
    attempts.filter(|span| span.name == "POST").collect()
}

/// What the receiver recorded of an attempt.
fn receipts<'a>(trace: &'a Trace, attempt: &'a Span) -> impl Iterator<Item = &'a Span> {
    let receipts = trace.of("webhook-receiver");
    receipts.filter(|span| span.parent.as_ref() == Some(&attempt.span_id))
}

fn status(span: &Span) -> &str {
    &span.attributes["http.response.status_code"]
}

#[tokio::test]
async fn every_attempt_of_a_delivery_that_is_tried_again_is_in_the_events_trace() {
    let (traced, _turn) = Traced::turn().await;
    failing(traced, 100).await;
    let events = events_of_both_kinds(traced).await;
    let (chosen, others) = events.parted(traced).await;
    let failed = [
        (failed_of(traced, &chosen).await, "parent"),
        (failed_of(traced, &others).await, "retry"),
    ];
    failing(traced, 0).await;
    for (event, sampled) in failed {
        let trace = delivered_at_last(traced, event).await;
        let process = one(&trace, "webhook-forwarder", &format!("process {ENRICHED}"));
        assert_eq!(
            process.attributes["engage.sampled"],
            sampled,
            "{}",
            shown(&trace)
        );
        let attempts = attempts(&trace);
        let (first, last) = (attempts[0], attempts[attempts.len() - 1]);
        assert_eq!(
            (status(first), status(last)),
            ("503", "200"),
            "{}",
            shown(&trace)
        );
        assert_eq!(first.attributes["error.type"], "server_error");
        let resent: usize = last.attributes["http.request.resend_count"]
            .parse()
            .unwrap();
        assert_eq!(
            resent + 1,
            attempts.len(),
            "every attempt is there: {}",
            shown(&trace)
        );
        for attempt in &attempts {
            assert_eq!(attempt.parent.as_ref(), Some(&process.span_id));
        }
        assert_eq!(receipts(&trace, last).count(), 1, "{}", shown(&trace));
    }
}

/// One of the events, once an attempt to deliver it has failed: while the breaker is open the others wait for it.
async fn failed_of<'a>(traced: &Traced, events: &'a [Committed]) -> &'a Committed {
    let failed = || async {
        for event in events {
            let trace = traced.trace(&event.trace_id()).await.unwrap_or_default();
            if attempts(&trace)
                .first()
                .is_some_and(|first| status(first) == "503")
            {
                return Some(event);
            }
        }
        None
    };
    traced
        .world()
        .eventually("a failed attempt in a trace", failed)
        .await
}

async fn delivered_at_last(traced: &Traced, event: &Committed) -> Trace {
    let what = format!("the delivery of event {} in its trace", event.id);
    traced
        .world()
        .eventually(&what, || async {
            let trace = traced.trace(&event.trace_id()).await?;
            let ended = trace
                .of("webhook-forwarder")
                .any(|span| span.name == format!("process {ENRICHED}"));
            let last = *attempts(&trace).last()?;
            let received = status(last) == "200" && receipts(&trace, last).next().is_some();
            (ended && received).then_some(trace)
        })
        .await
}

#[tokio::test]
async fn a_dead_letter_is_traced_from_the_record_that_failed_to_the_letter() {
    let (traced, _turn) = Traced::turn().await;
    let world = traced.world();
    let content = world.insert_content(Content::podcast(300)).await;
    let before = world.insert_event(Event::play(&content, 1000)).await;
    let before = Committed::read(world, &before).await;
    let poison = format!("{{\"op\":\"c\",\"after\":{{\"id\":\"no number {content}\"");
    let key = format!("{{\"content_id\":\"{content}\"}}");
    world.produce(CDC, &key, poison.as_bytes()).await;
    world
        .dead_letter("engagement.dlq.enricher", poison.as_bytes())
        .await;
    let trace = world
        .eventually("the trace of the dead letter", || async {
            let found = traced
                .with_attribute("enricher", "engage.dlq.error_kind", "malformed_json")
                .await;
            found.into_iter().find(|trace| {
                let partition = before.position.partition.to_string();
                let of_partition = |span: &Span| {
                    span.attributes.get("messaging.destination.partition.id") == Some(&partition)
                };
                trace.spans.len() > 1 && trace.spans.iter().all(of_partition)
            })
        })
        .await;
    let process = one(&trace, "enricher", &format!("process {CDC}"));
    let send = one(&trace, "enricher", "send engagement.dlq.enricher");
    assert_eq!(
        (trace.spans.len(), &process.parent),
        (2, &None),
        "{}",
        shown(&trace)
    );
    assert_eq!(send.parent.as_ref(), Some(&process.span_id));
    assert_eq!(process.attributes["error.type"], "malformed_json");
    assert_eq!(process.attributes["engage.sampled"], "dead_letter");
    let offset: i64 = process.attributes["messaging.kafka.offset"]
        .parse()
        .unwrap();
    assert!(offset > before.position.offset);
    assert_eq!(send.attributes["engage.dlq.stage"], "decode");
    assert!(
        send.attributes.contains_key("messaging.kafka.offset"),
        "the broker has it"
    );
    assert!(send.start >= process.start && send.end <= process.end);
    let told: String = trace
        .spans
        .iter()
        .flat_map(|span| span.attributes.values())
        .cloned()
        .collect();
    assert!(
        !told.contains("no number"),
        "a span quotes the record: {told}"
    );
}

#[tokio::test]
async fn an_event_that_comes_late_is_traced_by_the_sink_that_sees_it() {
    let (traced, _turn) = Traced::turn().await;
    let world = traced.world();
    world.terminate("clickhouse-sink");
    let content = world.insert_content(Content::podcast(300)).await;
    let mut ids = Vec::new();
    for _ in 0..BOTH_KINDS {
        ids.push(world.insert_event(Event::play(&content, 7000)).await);
    }
    let inserted = service::clock::now();
    world
        .eventually("that the events are late", || async {
            (service::clock::now() - inserted > stream::trace::PROMISE_MICROS).then_some(())
        })
        .await;
    world.restart("clickhouse-sink");
    let mut late = 0;
    for id in &ids {
        let event = Committed::read(world, id).await;
        if event.is_chosen(traced.share()) || late > 0 {
            continue;
        }
        let what = format!("trace {} of the late event {id}", event.trace_id());
        let trace = world
            .eventually(&what, || async {
                let trace = traced.trace(&event.trace_id()).await?;
                (trace.of("clickhouse-sink").count() == 2).then_some(trace)
            })
            .await;
        let root = one(&trace, "clickhouse-sink", "late event");
        let process = one(&trace, "clickhouse-sink", &format!("process {ENRICHED}"));
        assert_eq!(root.start, event.at.0, "it begins at the commit");
        assert_eq!(root.attributes["engage.event.id"], *id);
        assert_eq!(root.attributes["engage.sampled"], "slow");
        assert_eq!(process.parent.as_ref(), Some(&root.span_id));
        assert!(process.end - event.at.0 > stream::trace::PROMISE_MICROS);
        late += 1;
    }
    assert_eq!(late, 1, "every event was traced from its beginning");
}
