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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use stream::headers::{TRACEPARENT, last_text};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn record(offset: i64, parent: Option<&str>) -> Record {
        let parent = parent.map(|text| {
            (
                TRACEPARENT.to_owned(),
                Some(Bytes::copy_from_slice(text.as_bytes())),
            )
        });
        Record {
            topic: Arc::from("cdc.public.engagement_events"),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: parent.into_iter().collect(),
        }
    }

    /// The `traceparent` of the outputs of `records`, which are one batch.
    fn traced(sampler: Sampler, records: &[Record]) -> Vec<Option<String>> {
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut spans = Spans::new("enricher", "engagement.enriched.v1");
            spans.batch(records.len());
            let header = |record: &Record| {
                let mut headers = record.headers.clone();
                drop(spans.record(record, &mut headers));
                last_text(&headers, TRACEPARENT).map(str::to_owned)
            };
            records.iter().map(header).collect()
        })
    }

    #[test]
    fn an_incoming_trace_is_continued_under_a_new_span() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        let header = traced(sampler, &[record(0, Some(&parent))])
            .remove(0)
            .unwrap();
        assert!(
            header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-01"),
            "{header}"
        );
        assert_ne!(header, parent);
    }

    #[test]
    fn a_trace_that_is_not_sampled_travels_on_unchanged() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
        assert_eq!(
            traced(Sampler::AlwaysOn, &[record(0, Some(&parent))]),
            [Some(parent)]
        );
    }

    #[test]
    fn a_record_without_a_trace_starts_one_if_the_sampler_wants() {
        assert!(traced(Sampler::AlwaysOn, &[record(0, None)])[0].is_some());
        assert_eq!(traced(Sampler::AlwaysOff, &[record(0, None)]), [None]);
    }

    #[test]
    fn of_a_large_batch_only_some_are_offered() {
        let records: Vec<_> = (0..512).map(|offset| record(offset, None)).collect();
        let sampled = traced(Sampler::AlwaysOn, &records)
            .into_iter()
            .flatten()
            .count();
        assert_eq!(sampled, OFFERS);
    }

    #[test]
    fn without_an_exporter_nothing_is_made() {
        let mut headers = Headers::new();
        assert!(
            Spans::new("enricher", "out")
                .record(&record(0, None), &mut headers)
                .is_none()
        );
        assert!(headers.is_empty());
    }
}
