//! Traces: the change's way into the log, the work on it, and its way into the output until the broker has it.
//!
//! Invariant: a record that is not traced costs a look at its headers and one number, no span. The spans that wait for an
//! acknowledgement are bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use engagement::event::{EnrichedEvent, Micros};
use service::traces::{Context, Kept, KeyValue, NewSpan, SpanContext, SpanKind, TraceSpan, Traces};
use stream::Record;
use stream::headers::Headers;
use stream::trace::{self, Operation, PROMISE_MICROS, Subject, of_record};

/// Sent records whose acknowledgement is waited for at most; beyond it the oldest span ends before that.
const WAITING: usize = 4096;

/// The spans of one partition.
pub(crate) struct Spans {
    traces: Option<&'static Traces>,
    group: String,
    output: Arc<str>,
    received: i64,
    waiting: VecDeque<(i64, TraceSpan)>,
}

/// Why a record is traced.
struct Chosen {
    incoming: Option<SpanContext>,
    sampled: &'static str,
}

impl Spans {
    pub(crate) fn new(group: &str, output: &str) -> Self {
        Self::with(Traces::installed(), group, output)
    }

    fn with(traces: Option<&'static Traces>, group: &str, output: &str) -> Self {
        Self {
            traces,
            group: group.to_owned(),
            output: Arc::from(output),
            received: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A batch follows, received now (microseconds since 1970).
    pub(crate) fn batch(&mut self, now: i64) {
        self.received = now;
    }

    /// The spans of this record, with its context in `headers`; `None` when it is not traced.
    ///
    /// A trace that comes with the record is continued as its flag says; one that begins here begins at the commit.
    pub(crate) fn record(
        &self,
        record: &Record,
        event: &EnrichedEvent,
        headers: &mut Headers,
    ) -> Option<Sampled> {
        let traces = self.traces?;
        let chosen = self.choose(traces, record, event)?;
        let subject = Subject::from(event);
        let about = subject.attributes(chosen.sampled);
        let capture = self.capture(traces, record, &subject, &chosen);
        let process = NewSpan::new(
            Operation::Process.on(&record.topic),
            SpanKind::Consumer,
            self.received,
        )
        .below(&capture)
        .with(of_record(Operation::Process, record))
        .with(about.clone())
        .with([
            KeyValue::new("messaging.consumer.group.name", self.group.clone()),
            KeyValue::new("engage.enrichment.status", event.enrichment_status.name()),
            KeyValue::new("engage.origin", event.origin.name()),
        ]);
        let process = traces.start(process);
        let send = NewSpan::new(
            Operation::Send.on(&self.output),
            SpanKind::Producer,
            service::clock::now(),
        )
        .below(process.context())
        .with(Operation::Send.attributes(&self.output, record.partition))
        .with(about);
        let send = traces.start(send);
        trace::inject(send.context(), headers);
        Some(Sampled {
            offset: record.offset,
            process,
            send,
        })
    }

    fn choose(&self, traces: &Traces, record: &Record, event: &EnrichedEvent) -> Option<Chosen> {
        let incoming = trace::extract(&record.headers);
        let Micros(committed) = event.source.committed_at;
        let id = trace::trace_id(event.source.position(), event.source.committed_at);
        let sampled = if traces.head().takes(incoming.as_ref(), id) {
            if incoming.is_some() { "parent" } else { "head" }
        } else {
            let took = self.received.saturating_sub(committed);
            let late = !event.is_historical() && took > PROMISE_MICROS;
            if !late || !traces.keeps(Kept::Slow, self.received) {
                return None;
            }
            Kept::Slow.name()
        };
        Some(Chosen { incoming, sampled })
    }

    /// From the commit to the log, on behalf of Debezium: where no trace comes with the record, this is where it begins.
    fn capture(
        &self,
        traces: &Traces,
        record: &Record,
        subject: &Subject,
        chosen: &Chosen,
    ) -> SpanContext {
        let span = NewSpan::new(
            Operation::Capture.on(&record.topic),
            SpanKind::Producer,
            subject.committed_at.0,
        )
        .with(of_record(Operation::Capture, record))
        .with(subject.attributes(chosen.sampled));
        let span = traces.start(match &chosen.incoming {
            Some(parent) => span.below(parent),
            None => span.of_trace(trace::trace_id(subject.position, subject.committed_at)),
        });
        let context = span.context().clone();
        let written = record.timestamp_ms.map(|ms| ms.saturating_mul(1000));
        span.end(written.unwrap_or(self.received));
        context
    }

    /// The producer has the record.
    pub(crate) fn sent(&mut self, span: Option<Sampled>) {
        let Some(Sampled {
            offset,
            process,
            send,
        }) = span
        else {
            return;
        };
        process.end(service::clock::now());
        self.waiting.push_back((offset, send));
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
        }
    }

    /// The broker has everything below this offset.
    pub(crate) fn acknowledged(&mut self, next: i64) {
        while self
            .waiting
            .front()
            .is_some_and(|(offset, _)| *offset < next)
        {
            if let Some((_, send)) = self.waiting.pop_front() {
                send.end(service::clock::now());
            }
        }
    }
}

/// The two spans of a record that are still open.
pub(crate) struct Sampled {
    offset: i64,
    process: TraceSpan,
    send: TraceSpan,
}

impl Sampled {
    /// It cannot be sent; what is done about it belongs below this context.
    pub(crate) fn failed(mut self, kind: &'static str) -> Context {
        self.send.fail(kind);
        self.process.fail(kind);
        self.process.as_parent()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::event::Origin;
    use engagement::testing::Sample;
    use service::config::Sampler;
    use service::traces::testing::{self, Finished};
    use stream::headers::{TRACEPARENT, last_text};

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

    struct Bench {
        spans: Spans,
        finished: Finished,
    }

    impl Bench {
        fn new(sampler: Sampler) -> Self {
            let (traces, finished) = testing::traces(sampler);
            let mut spans = Spans::with(traces, "enricher", "engagement.enriched.v1");
            spans.batch(Sample::new().build().source.committed_at.0 + 20_000);
            Self { spans, finished }
        }

        /// The `traceparent` of what is made of a record.
        fn traced(&mut self, record: &Record, event: &EnrichedEvent) -> Option<String> {
            let mut headers = record.headers.clone();
            let span = self.spans.record(record, event, &mut headers);
            self.spans.sent(span);
            last_text(&headers, TRACEPARENT).map(str::to_owned)
        }
    }

    fn event() -> EnrichedEvent {
        Sample::new().at_position(3, 42).build()
    }

    #[test]
    fn a_trace_begins_at_the_commit_and_its_sending_ends_with_the_acknowledgement() {
        let mut bench = Bench::new(Sampler::ParentAlwaysOn);
        let header = bench.traced(&record(42, None), &event()).unwrap();
        let id = trace::trace_id(event().source.position(), event().source.committed_at);
        assert!(header.starts_with(&format!("00-{id}-")), "{header}");
        let names = |bench: &Bench| -> Vec<_> {
            let spans = bench.finished.spans();
            spans.into_iter().map(|span| span.name).collect()
        };
        let begun = names(&bench);
        assert_eq!(
            begun,
            [
                "capture cdc.public.engagement_events",
                "process cdc.public.engagement_events"
            ]
        );
        bench.spans.acknowledged(42);
        assert_eq!(names(&bench), begun);
        bench.spans.acknowledged(43);
        let [capture, process, send] = bench.finished.spans().try_into().unwrap();
        assert_eq!(send.name, "send engagement.enriched.v1");
        let committed = service::traces::moment(event().source.committed_at.0);
        assert_eq!(capture.start_time, committed);
        assert_eq!(process.parent_span_id, capture.span_context.span_id());
        assert_eq!(send.parent_span_id, process.span_context.span_id());
        assert!(header.contains(&send.span_context.span_id().to_string()));
    }

    #[test]
    fn an_incoming_trace_is_continued_under_a_new_span() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        let header = bench.traced(&record(0, Some(&parent)), &event()).unwrap();
        assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-01"));
        assert_ne!(header, parent);
        let capture = &bench.finished.spans()[0];
        assert_eq!(capture.parent_span_id.to_string(), "00f067aa0ba902b7");
    }

    #[test]
    fn a_trace_that_is_not_sampled_travels_on_unchanged() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let mut bench = Bench::new(Sampler::ParentAlwaysOn);
        let header = bench.traced(&record(0, Some(&parent)), &event());
        assert_eq!(header, Some(parent));
        assert!(bench.finished.spans().is_empty());
    }

    #[test]
    fn an_event_that_comes_late_is_traced_although_the_sampler_did_not_choose_it() {
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        assert_eq!(bench.traced(&record(1, None), &event()), None);
        bench
            .spans
            .batch(event().source.committed_at.0 + PROMISE_MICROS + 1);
        assert!(bench.traced(&record(1, None), &event()).is_some());
        let old = Sample::new().origin(Origin::Snapshot).build();
        assert_eq!(bench.traced(&record(1, None), &old), None);
    }

    #[test]
    fn without_an_exporter_nothing_is_made() {
        let mut bench = Bench::new(Sampler::AlwaysOff);
        assert_eq!(bench.traced(&record(0, None), &event()), None);
    }
}
