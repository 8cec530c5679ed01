//! One span: what it is made of, and its end.
//!
//! Invariant: a span never ends before it begins, whatever the clocks of two machines say.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::Context;
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceId,
};
use opentelemetry_sdk::trace::Span;

use super::KeyValue;

/// Links that a span may carry (the default limit of OpenTelemetry's SDKs).
const LINKS: usize = 128;

/// A span that is to begin.
#[derive(Debug)]
pub struct NewSpan {
    name: Cow<'static, str>,
    kind: SpanKind,
    start: i64,
    parent: Parent,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
}

/// Where a span belongs.
#[derive(Debug)]
pub(super) enum Parent {
    /// To a trace of its own.
    None,
    /// At the root of this trace.
    Trace(TraceId),
    /// Below this span.
    Span(SpanContext),
}

impl NewSpan {
    /// In a trace of its own, from `start` on (microseconds since 1970).
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, kind: SpanKind, start: i64) -> Self {
        Self {
            name: name.into(),
            kind,
            start,
            parent: Parent::None,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// At the root of this trace.
    #[must_use]
    pub fn of_trace(mut self, id: TraceId) -> Self {
        self.parent = Parent::Trace(id);
        self
    }

    /// Below this span, wherever that was made.
    #[must_use]
    pub fn below(mut self, parent: &SpanContext) -> Self {
        self.parent = Parent::Span(parent.clone());
        self
    }

    /// With these attributes beside those it has.
    #[must_use]
    pub fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Related to these spans, the first 128 of them.
    #[must_use]
    pub fn linked<'a>(mut self, others: impl IntoIterator<Item = &'a SpanContext>) -> Self {
        let room = LINKS.saturating_sub(self.links.len());
        let links = others.into_iter().take(room);
        self.links
            .extend(links.map(|other| Link::with_context(other.clone())));
        self
    }

    pub(super) const fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn into_parts(self) -> (SpanBuilder, Parent) {
        let builder = SpanBuilder::from_name(self.name)
            .with_kind(self.kind)
            .with_start_time(moment(self.start))
            .with_attributes(self.attributes)
            .with_links(self.links);
        (builder, self.parent)
    }
}

/// A span that has begun. Dropped without [`TraceSpan::end`] it ends at that moment.
#[derive(Debug)]
pub struct TraceSpan {
    span: Span,
    start: i64,
}

impl TraceSpan {
    pub(super) const fn new(span: Span, start: i64) -> Self {
        Self { span, start }
    }

    /// What a child or another process needs of it.
    #[must_use]
    pub fn context(&self) -> &SpanContext {
        self.span.span_context()
    }

    /// The context of log lines and of work below it.
    #[must_use]
    pub fn as_parent(&self) -> Context {
        Context::new().with_remote_span_context(self.context().clone())
    }

    /// One attribute more.
    pub fn set(&mut self, attribute: KeyValue) {
        self.span.set_attribute(attribute);
    }

    /// It failed, with an error of this kind (one word of few).
    pub fn fail(&mut self, kind: &'static str) {
        self.span.set_attribute(KeyValue::new("error.type", kind));
        self.span.set_status(Status::error(kind));
    }

    /// It was over at `at` (microseconds since 1970), or at its start if that is later.
    pub fn end(mut self, at: i64) {
        self.span.end_with_timestamp(moment(at.max(self.start)));
    }
}

/// A point in time; before 1970 it is 1970.
#[must_use]
pub fn moment(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
