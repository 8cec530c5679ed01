//! The trace of one delivery: a span for the record from its receipt to its end, and one below it for each attempt.
//!
//! Invariant: no span holds the endpoint's URL, which may carry a secret, nor anything of the body.

use service::traces::{Context, Kept, KeyValue, NewSpan, SpanContext, SpanKind, TraceSpan, Traces};
use stream::Record;
use stream::trace::{self, Operation, Subject, of_record};

use crate::client::Answer;
use crate::message::Message;
use crate::outcome::Outcome;

/// Whose delivery it is.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// Its host.
    pub host: &'a str,
}

/// What is traced of a delivery; an untraced one becomes traced once it fails, or turns out to be late.
#[derive(Debug)]
pub struct Traced {
    traces: Option<&'static Traces>,
    received: i64,
    /// Boxed: most deliveries have none, and many wait.
    span: Option<Box<TraceSpan>>,
}

impl Traced {
    /// A record was taken to be delivered; `now`: microseconds since 1970.
    #[must_use]
    pub fn begin(sender: Sender<'_>, record: &Record, message: &Message, now: i64) -> Self {
        Self::with(Traces::installed(), sender, record, message, now)
    }

    fn with(
        traces: Option<&'static Traces>,
        sender: Sender<'_>,
        record: &Record,
        message: &Message,
        now: i64,
    ) -> Self {
        let mut traced = Self {
            traces,
            received: now,
            span: None,
        };
        if let Some(traces) = traces {
            let parent = trace::extract(&record.headers).filter(SpanContext::is_sampled);
            traced.span = parent.map(|parent| {
                let span = traced.process(sender, record, message, "parent");
                Box::new(traces.start(span.below(&parent)))
            });
        }
        traced
    }

    fn process(
        &self,
        sender: Sender<'_>,
        record: &Record,
        message: &Message,
        sampled: &'static str,
    ) -> NewSpan {
        let name = Operation::Process.on(&record.topic);
        NewSpan::new(name, SpanKind::Consumer, self.received)
            .with(of_record(Operation::Process, record))
            .with(message.subject.attributes(sampled))
            .with([
                KeyValue::new("messaging.consumer.group.name", sender.group.to_owned()),
                KeyValue::new("engage.webhook.endpoint", sender.endpoint.to_owned()),
                KeyValue::new("engage.webhook.id", message.id.clone()),
            ])
    }

    /// An attempt begins; `made` came before it. Its span is what the receiver's belongs to.
    #[must_use]
    pub fn attempt(&self, sender: Sender<'_>, made: u32, now: i64) -> Option<TraceSpan> {
        let (traces, parent) = (self.traces?, self.span.as_ref()?);
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("server.address", sender.host.to_owned()),
            KeyValue::new("engage.webhook.endpoint", sender.endpoint.to_owned()),
        ];
        if made > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(made)));
        }
        let span = NewSpan::new("POST", SpanKind::Client, now)
            .below(parent.context())
            .with(attributes);
        Some(traces.start(span))
    }

    /// An attempt failed, the `made`th before it being the last one that did: from here on the record is traced, for this
    /// reason, with the attempt that was not.
    pub fn failed(
        &mut self,
        sender: Sender<'_>,
        record: &Record,
        message: &Message,
        (made, answer): (u32, &Answer),
        why: Kept,
    ) {
        let Some(traces) = self.traces else {
            return;
        };
        if self.span.is_some() || !traces.keeps(why, answer.at) {
            return;
        }
        let Subject {
            position,
            committed_at,
            ..
        } = message.subject;
        let span = self.process(sender, record, message, why.name());
        let span = span.of_trace(trace::trace_id(position, committed_at));
        self.span = Some(Box::new(traces.start(span)));
        if let Some(attempt) = self.attempt(sender, made, answer.began) {
            answered(attempt, answer);
        }
    }

    /// It was delivered.
    pub fn delivered(
        mut self,
        sender: Sender<'_>,
        record: &Record,
        message: &Message,
        answer: &Answer,
    ) {
        let subject = &message.subject;
        let took = answer.at.saturating_sub(subject.committed_at.0);
        let mut begun = None;
        if self.span.is_none()
            && subject.is_late(answer.at)
            && let Some(traces) = self.traces
            && traces.keeps(Kept::Slow, answer.at)
        {
            let root = trace::late_root(traces, subject);
            let span = self.process(sender, record, message, Kept::Slow.name());
            self.span = Some(Box::new(traces.start(span.below(root.context()))));
            begun = Some(root);
        }
        if let Some(mut span) = self.span.take() {
            span.set(KeyValue::new("engage.freshness_ms", took / 1000));
            span.end(answer.at);
        }
        if let Some(root) = begun {
            root.end(answer.at);
        }
    }

    /// It is given up: what is done about that belongs below this span, which [`gave_up`] ends.
    #[must_use]
    pub fn given_up(self) -> Option<TraceSpan> {
        self.span.map(|span| *span)
    }
}

/// The context of the work on a record that is given up.
#[must_use]
pub fn context_of(span: Option<&TraceSpan>) -> Context {
    span.map_or_else(Context::current, TraceSpan::as_parent)
}

/// The dead letter is there, or is not.
pub fn gave_up(span: Option<TraceSpan>, kind: &'static str, now: i64) {
    if let Some(mut span) = span {
        span.fail(kind);
        span.end(now);
    }
}

/// Ends the span of an attempt with what it came to.
pub fn answered(mut span: TraceSpan, answer: &Answer) {
    if let Some(status) = answer.status {
        let status = i64::from(status);
        span.set(KeyValue::new("http.response.status_code", status));
    }
    if answer.outcome != Outcome::Delivered {
        span.fail(answer.outcome.label());
    }
    span.end(answer.at);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::testing::sample;
    use service::config::Sampler;
    use service::traces::testing::{self, Finished};
    use stream::headers::TRACEPARENT;
    use stream::trace::PROMISE_MICROS;

    use super::*;

    const SENDER: Sender<'_> = Sender {
        group: "webhook-forwarder.crm",
        endpoint: "crm",
        host: "crm.example.com",
    };
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    struct Bench {
        traces: Option<&'static Traces>,
        finished: Finished,
        record: Record,
        message: Message,
    }

    impl Bench {
        fn new(parent: Option<&'static str>) -> Self {
            let (traces, finished) = testing::traces(Sampler::ParentAlwaysOff);
            let header = parent.map(|text| (TRACEPARENT.to_owned(), Some(Bytes::from(text))));
            let event = sample();
            Self {
                traces,
                finished,
                record: Record {
                    topic: "engagement.enriched.v1".into(),
                    partition: 0,
                    offset: 7,
                    timestamp_ms: None,
                    key: None,
                    payload: None,
                    headers: header.into_iter().collect(),
                },
                message: Message {
                    id: "msg_1".into(),
                    body: Bytes::new(),
                    key: "content/1".into(),
                    committed_at: Some(event.source.committed_at),
                    subject: Subject::from(&event),
                    run: None,
                },
            }
        }

        fn begin(&self) -> Traced {
            let now = self.message.subject.committed_at.0 + 30_000;
            Traced::with(self.traces, SENDER, &self.record, &self.message, now)
        }

        fn answer(&self, outcome: Outcome, after: i64) -> Answer {
            Answer {
                status: Some(if outcome == Outcome::Delivered {
                    200
                } else {
                    500
                }),
                outcome,
                began: self.message.subject.committed_at.0 + after - 1000,
                at: self.message.subject.committed_at.0 + after,
                detail: String::new(),
            }
        }

        fn names(&self) -> Vec<String> {
            let spans = self.finished.spans();
            spans.iter().map(|span| span.name.to_string()).collect()
        }
    }

    const DOWN: Outcome = Outcome::ServerError {
        status: 500,
        retry_after: None,
    };

    #[test]
    fn every_attempt_of_a_traced_record_is_a_child_of_its_span() {
        let bench = Bench::new(Some(PARENT));
        let traced = bench.begin();
        for (made, outcome) in [(0, DOWN), (1, Outcome::Delivered)] {
            let answer = bench.answer(outcome, 50_000);
            answered(traced.attempt(SENDER, made, answer.began).unwrap(), &answer);
        }
        let answer = bench.answer(Outcome::Delivered, 50_000);
        traced.delivered(SENDER, &bench.record, &bench.message, &answer);
        let [first, second, process] = bench.finished.spans().try_into().unwrap();
        assert_eq!(process.parent_span_id.to_string(), "00f067aa0ba902b7");
        for attempt in [&first, &second] {
            assert_eq!(attempt.parent_span_id, process.span_context.span_id());
        }
        let has = |key: &str| second.attributes.iter().any(|one| one.key.as_str() == key);
        assert!(has("http.request.resend_count") && has("http.response.status_code"));
        assert_ne!(first.status, second.status);
    }

    #[test]
    fn a_failed_attempt_begins_the_trace_that_was_not_chosen_and_is_in_it() {
        let bench = Bench::new(None);
        let mut traced = bench.begin();
        assert!(traced.attempt(SENDER, 0, 0).is_none());
        let answer = bench.answer(DOWN, 50_000);
        traced.failed(
            SENDER,
            &bench.record,
            &bench.message,
            (0, &answer),
            Kept::Retry,
        );
        assert_eq!(bench.names(), ["POST"]);
        assert!(traced.attempt(SENDER, 1, answer.at).is_some());
        gave_up(traced.given_up(), "rejected", answer.at);
        let spans = bench.finished.spans();
        let process = spans.last().unwrap();
        assert_eq!(process.name, "process engagement.enriched.v1");
        let Subject {
            position,
            committed_at,
            ..
        } = bench.message.subject;
        let id = trace::trace_id(position, committed_at);
        assert!(spans.iter().all(|span| span.span_context.trace_id() == id));
    }

    #[test]
    fn a_delivery_in_time_leaves_no_trace_and_a_late_one_does() {
        let bench = Bench::new(None);
        for (after, expected) in [
            (PROMISE_MICROS, &[][..]),
            (
                PROMISE_MICROS + 1,
                &["process engagement.enriched.v1", "late event"][..],
            ),
        ] {
            let answer = bench.answer(Outcome::Delivered, after);
            let traced = bench.begin();
            traced.delivered(SENDER, &bench.record, &bench.message, &answer);
            assert_eq!(bench.names(), expected);
        }
    }
}
