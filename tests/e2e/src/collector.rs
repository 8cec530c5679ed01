//! Stands in for Jaeger where it could not be built: takes OTLP over HTTP and keeps the spans.
//!
//! Invariant: what it keeps is what Jaeger's API would show of the same spans.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use engagectl::jaeger::{Span, Trace};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;

/// Everything received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens, on a runtime of its own that lives as long as the process.
    pub(crate) fn start(addr: SocketAddr) -> Self {
        let collector = Self::default();
        let router = Router::new()
            .route("/v1/traces", post(receive))
            .with_state(collector.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        collector
    }

    /// The traces with a span that is wanted.
    pub(crate) fn traces(&self, wanted: impl Fn(&Span) -> bool) -> Vec<Trace> {
        let spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut traces: BTreeMap<&str, Trace> = BTreeMap::new();
        for span in spans.iter().filter(|span| wanted(span)) {
            let trace = traces.entry(&span.trace_id).or_default();
            trace.id.clone_from(&span.trace_id);
        }
        let mut traces: Vec<Trace> = traces.into_values().collect();
        for trace in &mut traces {
            let own = spans.iter().filter(|span| span.trace_id == trace.id);
            trace.spans = own.cloned().collect();
            trace.spans.sort_by_key(|span| (span.start, span.end));
        }
        traces
    }
}

async fn receive(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut spans = collector.0.lock().unwrap_or_else(PoisonError::into_inner);
    for group in request.resource_spans {
        let resource = attributes(group.resource.map(|r| r.attributes).unwrap_or_default());
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let all = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(all.map(|raw| span(raw, &service)));
    }
    StatusCode::OK
}

fn span(raw: otlp::Span, service: &str) -> Span {
    let parent = Some(hex(&raw.parent_span_id)).filter(|id| !id.is_empty());
    let links = raw.links.iter();
    let kind = match raw.kind() {
        otlp::span::SpanKind::Server => "server",
        otlp::span::SpanKind::Client => "client",
        otlp::span::SpanKind::Producer => "producer",
        otlp::span::SpanKind::Consumer => "consumer",
        _ => "internal",
    };
    let mut attributes = attributes(raw.attributes);
    attributes.insert("span.kind".to_owned(), kind.to_owned());
    Span {
        trace_id: hex(&raw.trace_id),
        span_id: hex(&raw.span_id),
        parent,
        links: links
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        service: service.to_owned(),
        name: raw.name,
        start: micros(raw.start_time_unix_nano),
        end: micros(raw.end_time_unix_nano),
        attributes,
    }
}

fn micros(nanos: u64) -> i64 {
    i64::try_from(nanos / 1000).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        _ => String::new(),
    };
    let pairs = pairs.into_iter();
    pairs.map(|pair| (pair.key, text(pair.value))).collect()
}
