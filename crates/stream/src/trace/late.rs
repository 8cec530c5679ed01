//! Which events came later than promised, and the trace that such a one begins if it has none.
//!
//! Invariant: every sink begins the same trace for an event, at its commit.

use service::traces::{Kept, NewSpan, SpanKind, TraceSpan, Traces};

use super::{Subject, trace_id};

/// From commit to visible at most; later is late.
pub const PROMISE_MICROS: i64 = 5_000_000;

impl Subject {
    /// Whether it is late if it becomes visible now, in microseconds since 1970; only what came as it happened can be.
    #[must_use]
    pub fn is_late(&self, now: i64) -> bool {
        self.live && now.saturating_sub(self.committed_at.0) > PROMISE_MICROS
    }
}

/// The first span of the trace of a late event, which stands for the beginning that was not traced: from the commit on. It
/// ends with what is below it.
#[must_use]
pub fn late_root(traces: &Traces, subject: &Subject) -> TraceSpan {
    let id = trace_id(subject.position, subject.committed_at);
    let span = NewSpan::new("late event", SpanKind::Internal, subject.committed_at.0)
        .of_trace(id)
        .with(subject.attributes(Kept::Slow.name()));
    traces.start(span)
}

#[cfg(test)]
mod tests {
    use engagement::event::Origin;
    use engagement::testing::Sample;
    use service::config::Sampler;
    use service::traces::testing;

    use super::*;

    #[test]
    fn an_event_is_late_beyond_the_promise_unless_a_snapshot_brought_it() {
        let live = Subject::from(&Sample::new().build());
        let committed = live.committed_at.0;
        assert!(!live.is_late(committed + PROMISE_MICROS));
        assert!(live.is_late(committed + PROMISE_MICROS + 1));
        let old = Subject::from(&Sample::new().origin(Origin::Snapshot).build());
        assert!(!old.is_late(committed + PROMISE_MICROS + 1));
    }

    #[test]
    fn the_trace_of_a_late_event_begins_at_its_commit_and_is_the_one_everybody_finds() {
        let (traces, finished) = testing::traces(Sampler::ParentAlwaysOff);
        let subject = Subject::from(&Sample::new().build());
        let now = subject.committed_at.0 + PROMISE_MICROS + 1;
        late_root(traces.unwrap(), &subject).end(now);
        let [root] = finished.spans().try_into().unwrap();
        let id = trace_id(subject.position, subject.committed_at);
        assert_eq!(root.span_context.trace_id(), id);
        let begun = root.start_time.duration_since(std::time::UNIX_EPOCH);
        assert_eq!(
            begun.unwrap().as_micros(),
            u128::try_from(subject.committed_at.0).unwrap()
        );
    }
}
