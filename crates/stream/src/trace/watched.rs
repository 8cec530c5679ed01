//! The records of a sink's batch that are traced, or will be if they turn out to be late.
//!
//! Invariant: a record that is not traced costs a look at its headers; of those that might be late only the first few of a
//! batch are remembered, whatever its size.

use std::sync::Arc;

use engagement::event::EnrichedEvent;
use service::traces::{Kept, KeyValue, NewSpan, SpanContext, SpanKind, TraceSpan, Traces};

use super::late::late_root;
use super::{Operation, Subject, extract, names, of_record};
use crate::record::Record;

/// Records without a trace that are remembered: they are the oldest of the batch, and no more late ones are kept a second.
const CANDIDATES: usize = 10;

/// One sink's part of the traces of a batch.
#[derive(Debug, Default)]
pub struct Watched {
    reader: Option<Reader>,
    followed: Vec<Followed>,
    candidates: usize,
}

/// Who reads.
#[derive(Clone, Debug)]
struct Reader {
    traces: &'static Traces,
    group: Arc<str>,
}

/// A record on its way into the sink.
#[derive(Debug)]
struct Followed {
    /// Who sent it, if it is traced.
    parent: Option<SpanContext>,
    received: i64,
    offset: i64,
    attributes: Vec<KeyValue>,
    name: String,
    subject: Subject,
}

impl Watched {
    /// For one batch of a group. Where nothing is exported it does nothing.
    #[must_use]
    pub fn of(group: &Arc<str>) -> Self {
        Self::with(Traces::installed(), group)
    }

    fn with(traces: Option<&'static Traces>, group: &Arc<str>) -> Self {
        let reader = traces.map(|traces| Reader {
            traces,
            group: Arc::clone(group),
        });
        Self {
            reader,
            ..Self::default()
        }
    }

    /// The record of this event goes into the batch. `now`: microseconds since 1970.
    pub fn received(&mut self, record: &Record, event: &EnrichedEvent, now: impl FnOnce() -> i64) {
        let Some(reader) = &self.reader else {
            return;
        };
        let parent = extract(&record.headers).filter(SpanContext::is_sampled);
        if parent.is_none() && self.candidates >= CANDIDATES {
            return;
        }
        self.candidates += usize::from(parent.is_none());
        let mut attributes = of_record(Operation::Process, record);
        attributes.push(names::group(&reader.group));
        self.followed.push(Followed {
            parent,
            received: now(),
            offset: record.offset,
            attributes,
            name: Operation::Process.on(&record.topic),
            subject: Subject::from(event),
        });
    }

    /// The span of the write that brings a batch with traced records into its store: a trace of its own, which links to
    /// each of them. `None`: there is no such record, and nothing is described.
    #[must_use]
    pub fn batch<A: IntoIterator<Item = KeyValue>>(
        &self,
        describe: impl FnOnce() -> (String, A),
        now: i64,
    ) -> Option<TraceSpan> {
        let reader = self.reader.as_ref()?;
        let mut parents = self.parents().peekable();
        parents.peek()?;
        let (name, attributes) = describe();
        let span = NewSpan::new(name, SpanKind::Client, now)
            .with(attributes)
            .linked(parents);
        Some(reader.traces.start(span))
    }

    fn parents(&self) -> impl Iterator<Item = &SpanContext> {
        self.followed.iter().filter_map(|one| one.parent.as_ref())
    }

    /// The batch is visible, but for what `is_visible` says of an offset: every traced record gets its span, from receipt
    /// to now, linked with the batch's; one that is late and has no trace begins one.
    pub fn visible(self, now: i64, batch: Option<&SpanContext>, is_visible: impl Fn(i64) -> bool) {
        let Some(reader) = self.reader else {
            return;
        };
        for one in self.followed {
            if is_visible(one.offset) {
                reader.visible(one, now, batch);
            }
        }
    }
}

impl Reader {
    fn visible(&self, one: Followed, now: i64, batch: Option<&SpanContext>) {
        let took = now.saturating_sub(one.subject.committed_at.0);
        let late;
        let (parent, sampled) = match &one.parent {
            Some(parent) => (parent, "parent"),
            None if one.subject.is_late(now) => {
                if !self.traces.keeps(Kept::Slow, now) {
                    return;
                }
                late = late_root(self.traces, &one.subject);
                (late.context(), Kept::Slow.name())
            }
            None => return,
        };
        let span = NewSpan::new(one.name, SpanKind::Consumer, one.received)
            .below(parent)
            .with(one.attributes)
            .with(one.subject.attributes(sampled))
            .with([KeyValue::new("engage.freshness_ms", took / 1000)])
            .linked(batch);
        self.traces.start(span).end(now);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engagement::event::Origin;
    use engagement::testing::Sample;
    use service::config::Sampler;
    use service::traces::testing::{self, Finished};

    use super::*;
    use crate::headers::TRACEPARENT;
    use crate::trace::PROMISE_MICROS;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    struct Bench {
        watched: Watched,
        finished: Finished,
        committed: i64,
    }

    impl Bench {
        fn new(sampler: Sampler) -> Self {
            let (traces, finished) = testing::traces(sampler);
            Self {
                watched: Watched::with(traces, &Arc::from("clickhouse-sink")),
                finished,
                committed: Sample::new().build().source.committed_at.0,
            }
        }

        fn receive(&mut self, offset: i64, parent: Option<&'static str>, event: &EnrichedEvent) {
            let header = parent.map(|text| (TRACEPARENT.to_owned(), Some(Bytes::from(text))));
            let record = Record {
                topic: "engagement.enriched.v1".into(),
                partition: 3,
                offset,
                timestamp_ms: None,
                key: None,
                payload: None,
                headers: header.into_iter().collect(),
            };
            let now = self.committed + 1000;
            self.watched.received(&record, event, || now);
        }

        /// The names of the spans, once the batch was visible so long after the commit.
        fn visible(self, after: i64) -> Vec<String> {
            let now = self.committed + after;
            let batch = self.watched.batch(|| ("INSERT t".to_owned(), []), now);
            let context = batch.as_ref().map(|span| span.context().clone());
            self.watched
                .visible(now, context.as_ref(), |offset| offset != 13);
            drop(batch);
            let spans = self.finished.spans();
            spans
                .into_iter()
                .map(|span| span.name.into_owned())
                .collect()
        }
    }

    #[test]
    fn a_traced_record_has_a_span_that_is_linked_with_its_batch_and_back() {
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        bench.receive(7, Some(PARENT), &Sample::new().build());
        bench.receive(8, None, &Sample::new().build());
        let finished = bench.finished.clone();
        bench.visible(20_000);
        let [process, batch] = finished.spans().try_into().unwrap();
        assert_eq!(process.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!(process.links.links[0].span_context, batch.span_context);
        let back = &batch.links.links[0].span_context;
        assert_eq!(back.span_id(), process.parent_span_id);
        assert_ne!(
            batch.span_context.trace_id(),
            process.span_context.trace_id()
        );
    }

    #[test]
    fn a_record_that_was_given_up_is_not_said_to_be_visible() {
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        bench.receive(13, Some(PARENT), &Sample::new().build());
        assert_eq!(bench.visible(20_000), ["INSERT t"]);
    }

    #[test]
    fn late_records_begin_traces_but_not_those_of_a_snapshot_and_no_more_than_a_few() {
        let live = Sample::new().build();
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        bench.receive(1, None, &live);
        assert!(bench.visible(PROMISE_MICROS).is_empty());
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        bench.receive(1, None, &Sample::new().origin(Origin::Snapshot).build());
        assert!(bench.visible(PROMISE_MICROS + 1).is_empty());
        let mut bench = Bench::new(Sampler::ParentAlwaysOff);
        (0..1000).for_each(|offset| bench.receive(offset, None, &live));
        let late = bench.visible(PROMISE_MICROS + 1);
        assert!((2..=20).contains(&late.len()), "{}", late.len());
        assert_eq!(late[..2], ["process engagement.enriched.v1", "late event"]);
    }

    #[test]
    fn without_an_exporter_nothing_is_remembered() {
        let mut bench = Bench::new(Sampler::AlwaysOff);
        bench.receive(1, Some(PARENT), &Sample::new().build());
        assert!(bench.watched.followed.is_empty());
        assert!(bench.visible(PROMISE_MICROS + 1).is_empty());
    }
}
