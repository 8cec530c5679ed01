//! Spans with times of their own, and which events have any.
//!
//! Invariant: where nothing is exported there is no [`Traces`], and a record costs nothing; where something is, whether an
//! event is traced follows from its trace id alone, so that every process, and every repeat, decides alike.

mod limit;
mod span;
pub mod testing;

use std::cell::Cell;
use std::sync::OnceLock;

use metrics::{Counter, counter};
use opentelemetry::trace::{TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider};

pub use opentelemetry::context::FutureExt as InContext;
pub use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState};
pub use opentelemetry::{Context, KeyValue};

use crate::config::{Sampler, TelemetryConfig};
use crate::metrics::{TRACES_KEPT, TRACES_LIMITED};
use limit::Limit;
pub use span::{NewSpan, TraceSpan, moment};

static INSTALLED: OnceLock<Traces> = OnceLock::new();

thread_local! {
    /// The trace that the next root span of this thread belongs to.
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Why an event is traced that the sampler did not choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It became a dead letter.
    DeadLetter,
    /// A delivery of it failed and is tried again.
    Retry,
    /// It came later than promised.
    Slow,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DeadLetter, Self::Retry, Self::Slow];

    /// The label of the metrics, and the value of the attribute `engage.sampled`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::Retry => "retry",
            Self::Slow => "slow",
        }
    }
}

/// Makes spans, and decides what is traced.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    head: Head,
    reasons: [Reason; Kept::ALL.len()],
}

/// What is kept for one reason. The counters are looked up once: a backlog asks for every event.
#[derive(Debug, Default)]
struct Reason {
    limit: Limit,
    kept: OnceLock<Counter>,
    limited: OnceLock<Counter>,
}

/// Which events are traced from their beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// Of those without a trace, the ones whose id (its low 63 bits) is below; the SDK's own rule for a share.
    below: u64,
    /// A trace that comes with the record is continued as its flag says.
    follows: bool,
}

impl Head {
    /// What the configured sampler means; `None`: nothing is traced at all.
    #[must_use]
    pub fn of(config: &TelemetryConfig) -> Option<Self> {
        let share = share_below(config.sampler_arg.get());
        let (below, follows) = match config.sampler {
            Sampler::AlwaysOff => return None,
            Sampler::AlwaysOn => (u64::MAX, false),
            Sampler::TraceIdRatio => (share, false),
            Sampler::ParentAlwaysOn => (u64::MAX, true),
            Sampler::ParentAlwaysOff => (0, true),
            Sampler::ParentTraceIdRatio => (share, true),
        };
        Some(Self { below, follows })
    }

    /// Whether an event is traced from its beginning: one of this trace, which may have come with its record.
    #[must_use]
    pub fn takes(&self, incoming: Option<&SpanContext>, id: TraceId) -> bool {
        match incoming {
            Some(parent) if self.follows => parent.is_sampled(),
            Some(parent) => self.chooses(parent.trace_id()),
            None => self.chooses(id),
        }
    }

    fn chooses(&self, id: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share from 0 to 1 of 2^63, as the SDK computes it"
)]
fn share_below(share: f64) -> u64 {
    if share >= 1.0 {
        return u64::MAX;
    }
    (share.max(0.0) * (1_u64 << 63) as f64) as u64
}

impl Traces {
    /// With spans that end in this provider, which must be one of [`provider`]'s.
    #[must_use]
    pub fn new(provider: &SdkTracerProvider, service: &'static str, head: Head) -> Self {
        Self {
            tracer: provider.tracer(service),
            head,
            reasons: Default::default(),
        }
    }

    /// Those of this process; `None` where nothing is exported.
    #[must_use]
    pub fn installed() -> Option<&'static Self> {
        INSTALLED.get()
    }

    /// Makes these the process's; false: there were some already.
    pub(crate) fn install(self) -> bool {
        INSTALLED.set(self).is_ok()
    }

    /// Which events are traced from their beginning.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Whether an event is traced for this reason. Beyond a few a second it is not, so that a backlog, where everything
    /// is late, does not pay for a trace of each; both are counted. `now`: microseconds since 1970.
    #[must_use]
    pub fn keeps(&self, reason: Kept, now: i64) -> bool {
        let Reason {
            limit,
            kept,
            limited,
        } = &self.reasons[reason as usize];
        let allowed = limit.allows(now);
        let (name, counter) = if allowed {
            (TRACES_KEPT, kept)
        } else {
            (TRACES_LIMITED, limited)
        };
        let counter = counter.get_or_init(|| counter!(name, "reason" => reason.name()));
        counter.increment(1);
        allowed
    }

    /// Begins a span. It is exported, whatever the parent's flag says.
    #[must_use]
    pub fn start(&self, span: NewSpan) -> TraceSpan {
        let begun = span.start();
        let (builder, parent) = span.into_parts();
        let context = match parent {
            span::Parent::Span(parent) => Context::new().with_remote_span_context(parent),
            span::Parent::Trace(id) => {
                NEXT.set(Some(id));
                Context::new()
            }
            span::Parent::None => Context::new(),
        };
        let started = self.tracer.build_with_context(builder, &context);
        NEXT.set(None);
        TraceSpan::new(started, begun)
    }
}

/// The traced work that this task is in the middle of, see [`InContext`].
#[must_use]
pub fn working() -> Option<SpanContext> {
    let context = Context::current();
    let working = context.span().span_context().clone();
    working.is_sampled().then_some(working)
}

/// A provider whose root spans can belong to a given trace, and which samples everything: it is asked only for what is
/// already decided.
#[must_use]
pub fn provider() -> opentelemetry_sdk::trace::TracerProviderBuilder {
    SdkTracerProvider::builder()
        .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOn)
        .with_id_generator(Ids::default())
}

/// Random ids, but for the trace of a root span that names it.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sampler: Sampler, share: f64) -> Head {
        let config: TelemetryConfig =
            serde_json::from_value(serde_json::json!({"sampler_arg": share})).unwrap();
        Head::of(&TelemetryConfig { sampler, ..config }).unwrap()
    }

    fn context(trace: u128, sampled: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(sampled);
        let id = TraceId::from(trace);
        SpanContext::new(id, SpanId::from(7), flags, true, TraceState::default())
    }

    #[test]
    fn a_share_of_the_ids_is_taken_and_always_the_same_ones() {
        let tenth = head(Sampler::ParentTraceIdRatio, 0.1);
        let id = |n: u128| TraceId::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let taken = |head: &Head| -> Vec<u128> {
            (1..10_000).filter(|n| head.takes(None, id(*n))).collect()
        };
        let first = taken(&tenth);
        assert!((800..1200).contains(&first.len()), "{}", first.len());
        assert_eq!(taken(&tenth), first);
        let all = head(Sampler::ParentTraceIdRatio, 1.0);
        assert_eq!(taken(&all).len(), 9_999);
        assert!(taken(&head(Sampler::ParentTraceIdRatio, 0.0)).is_empty());
    }

    #[test]
    fn an_incoming_trace_is_followed_by_the_samplers_that_look_at_the_parent() {
        let id = TraceId::from(1);
        let parent_based = head(Sampler::ParentAlwaysOff, 0.5);
        assert!(parent_based.takes(Some(&context(1, true)), id));
        assert!(!parent_based.takes(None, id));
        let all = head(Sampler::ParentAlwaysOn, 0.5);
        assert!(!all.takes(Some(&context(1, false)), id));
        let ratio = head(Sampler::TraceIdRatio, 0.5);
        assert!(ratio.takes(Some(&context(1, false)), id));
        assert!(!ratio.takes(Some(&context(u128::MAX, true)), id));
    }

    #[test]
    fn always_off_means_that_nothing_is_traced_for_any_reason() {
        let config = TelemetryConfig {
            sampler: Sampler::AlwaysOff,
            ..TelemetryConfig::default()
        };
        assert_eq!(Head::of(&config), None);
    }

    #[test]
    fn a_root_span_belongs_to_the_trace_it_names_and_only_that_one() {
        let traces = testing::traces(Sampler::ParentAlwaysOff).0.unwrap();
        let named =
            traces.start(NewSpan::new("a", SpanKind::Internal, 5).of_trace(TraceId::from(9)));
        assert_eq!(named.context().trace_id(), TraceId::from(9));
        let child = traces.start(
            NewSpan::new("b", SpanKind::Internal, 5)
                .of_trace(TraceId::from(8))
                .below(named.context()),
        );
        assert_eq!(child.context().trace_id(), TraceId::from(9));
        let other = traces.start(NewSpan::new("c", SpanKind::Internal, 5));
        let ids = [8, 9].map(TraceId::from);
        assert!(!ids.contains(&other.context().trace_id()));
        assert!(other.context().is_sampled());
    }

    #[test]
    fn a_second_has_room_for_a_few_and_the_next_one_again() {
        let traces = testing::traces(Sampler::ParentAlwaysOff).0.unwrap();
        let kept = |now: i64| (0..100).filter(|_| traces.keeps(Kept::Slow, now)).count();
        assert_eq!((kept(5_100_000), kept(5_900_000)), (10, 0));
        assert_eq!(kept(6_000_000), 10);
        assert!(
            traces.keeps(Kept::Retry, 6_000_000),
            "each reason has its own"
        );
    }
}
