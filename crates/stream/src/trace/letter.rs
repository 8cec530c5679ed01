//! The spans of a dead letter, which is traced whatever the sampler says.
//!
//! Invariant: its message is not in them, because it may quote the record; it is in the letter itself.

use service::traces::{Kept, KeyValue, NewSpan, SpanContext, SpanKind, TraceSpan, Traces, working};

use super::{Operation, extract, of_record, trace_id_of_record};
use crate::dead_letter::Reject;
use crate::record::Record;

/// A letter on its way.
#[derive(Debug)]
pub(crate) struct LetterSpans {
    /// The work that failed, if whoever did it has no span of its own.
    process: Option<TraceSpan>,
    send: TraceSpan,
}

impl LetterSpans {
    /// Begins them: below the span that is at work now, or the one that sent the record, or in the record's own trace.
    pub(crate) fn begin(
        service: &'static str,
        topic: &str,
        record: &Record,
        reject: &Reject,
        now: i64,
    ) -> Option<Self> {
        let traces = Traces::installed()?;
        let send = |parent: &SpanContext| {
            let attributes = Operation::Send.attributes(topic, record.partition);
            let span = NewSpan::new(Operation::Send.on(topic), SpanKind::Producer, now)
                .below(parent)
                .with(attributes)
                .with(why(reject));
            traces.start(span)
        };
        if let Some(working) = working() {
            return Some(Self {
                process: None,
                send: send(&working),
            });
        }
        let incoming = extract(&record.headers);
        let sampled = incoming.as_ref().is_some_and(SpanContext::is_sampled);
        if !sampled && !traces.keeps(Kept::DeadLetter, now) {
            return None;
        }
        let span = NewSpan::new(
            Operation::Process.on(&record.topic),
            SpanKind::Consumer,
            now,
        )
        .with(of_record(Operation::Process, record))
        .with(why(reject))
        .with([
            KeyValue::new("engage.service", service),
            KeyValue::new("engage.sampled", Kept::DeadLetter.name()),
        ]);
        let mut process = traces.start(match &incoming {
            Some(parent) => span.below(parent),
            None => span.of_trace(trace_id_of_record(record)),
        });
        process.fail(reject.kind);
        let send = send(process.context());
        Some(Self {
            process: Some(process),
            send,
        })
    }

    /// The broker has the letter, or has not.
    pub(crate) fn end(mut self, at: Option<i64>, now: i64) {
        match at {
            Some(offset) => self
                .send
                .set(KeyValue::new("messaging.kafka.offset", offset)),
            None => self.send.fail("not_acknowledged"),
        }
        self.send.end(now);
        if let Some(process) = self.process {
            process.end(now);
        }
    }
}

fn why(reject: &Reject) -> [KeyValue; 3] {
    [
        KeyValue::new("engage.dlq.error_kind", reject.kind),
        KeyValue::new("engage.dlq.stage", reject.stage),
        KeyValue::new("engage.dlq.attempts", i64::from(reject.attempts)),
    ]
}
