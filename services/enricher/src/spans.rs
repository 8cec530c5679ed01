//! Traces: one span for the work on a sampled record, one for its hand-over to the producer.
//!
//! Invariant: a record that is not sampled costs a look at its headers and one number, no span.

use std::sync::Arc;

use opentelemetry::trace::TraceContextExt as _;
use stream::Record;
use stream::headers::Headers;
use stream::trace;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Records of one batch that are offered to the sampler at most, spread evenly: a small batch is offered whole, and a
/// stream at full speed does not pay for spans that are thrown away.
const OFFERS: usize = 64;

/// The spans of one partition.
pub(crate) struct Spans {
    exporting: bool,
    group: String,
    output: Arc<str>,
    /// One in this many is offered.
    stride: usize,
    count: usize,
}

impl Spans {
    /// Finds out whether spans go anywhere.
    pub(crate) fn new(group: &str, output: &str) -> Self {
        let exporting = tracing::info_span!("enricher lane")
            .context()
            .span()
            .span_context()
            .is_valid();
        Self {
            exporting,
            group: group.to_owned(),
            output: Arc::from(output),
            stride: 1,
            count: 0,
        }
    }

    /// A batch of so many records follows.
    pub(crate) fn batch(&mut self, records: usize) {
        self.stride = records.div_ceil(OFFERS).max(1);
    }

    /// The span of this record, with its context in `headers`; `None` when it is not sampled.
    ///
    /// An incoming trace is continued as its flag says; otherwise some records start one, if the sampler wants it.
    pub(crate) fn record(&mut self, record: &Record, headers: &mut Headers) -> Option<Sampled> {
        if !self.exporting {
            return None;
        }
        let wanted = match trace::extract(&record.headers) {
            Some(parent) => parent.is_sampled(),
            None => self.count.is_multiple_of(self.stride),
        };
        self.count = self.count.wrapping_add(1);
        if !wanted {
            return None;
        }
        let process = trace::process_span(record, &self.group);
        if !process.context().span().span_context().is_sampled() {
            return None;
        }
        let send = tracing::info_span!(
            parent: &process,
            "send",
            otel.kind = "producer",
            messaging.system = "kafka",
            messaging.operation.r#type = "send",
            messaging.destination.name = &*self.output,
            messaging.destination.partition.id = record.partition,
        );
        trace::inject_span(&send, headers);
        Some(Sampled {
            _send: send,
            _process: process,
        })
    }
}

/// The two spans of a record; dropped when the producer has it.
pub(crate) struct Sampled {
    _send: Span,
    _process: Span,
}
