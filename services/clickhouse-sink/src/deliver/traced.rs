//! The trace of a batch, and what is measured of it once it can be read.
//!
//! Invariant: a batch without a traced record has no span, and is delivered all the same.

use std::collections::HashSet;

use engagement::event::Micros;
use service::traces::{InContext as _, KeyValue, SpanContext, working};
use stream::trace::{self, Watched};
use stream::{LaneError, LaneHandle};

use super::Deliverer;
use crate::batch::Batch;

impl Deliverer {
    /// Delivers a batch. `false`: the lane was told to stop before that was done.
    ///
    /// # Errors
    /// The lane cannot go on.
    pub async fn deliver(
        &mut self,
        handle: &LaneHandle,
        batch: &mut Batch,
        watched: Watched,
    ) -> Result<bool, LaneError> {
        if batch.entries().is_empty() {
            return Ok(true);
        }
        let now = (self.sink.clock)();
        let span = watched.batch(|| (self.operation(), self.attributes(batch)), now);
        let Some(mut span) = span else {
            let done = self.steps(handle, batch, watched, None).await;
            self.sink.outage.ends(self.partition);
            return done;
        };
        let (context, inside) = (span.context().clone(), span.as_parent());
        let steps = self.steps(handle, batch, watched, Some(&context));
        let done = steps.with_context(inside).await;
        if !matches!(done, Ok(true)) {
            span.fail("not_written");
        }
        span.end((self.sink.clock)());
        self.sink.outage.ends(self.partition);
        done
    }

    /// The name of a batch's span, by OpenTelemetry's conventions for databases.
    fn operation(&self) -> String {
        format!("INSERT {}", self.sink.writer.table().name)
    }

    fn attributes(&self, batch: &Batch) -> [KeyValue; 5] {
        let rows = i64::try_from(batch.entries().len()).unwrap_or(i64::MAX);
        [
            KeyValue::new("db.system.name", "clickhouse"),
            KeyValue::new("db.operation.name", "INSERT"),
            KeyValue::new("db.operation.batch.size", rows),
            KeyValue::new("db.collection.name", self.sink.writer.table().name.clone()),
            KeyValue::new("engage.partition", i64::from(self.partition)),
        ]
    }

    /// Measures and traces what can be read now.
    pub(super) fn visible(
        &self,
        batch: &Batch,
        buried: &HashSet<usize>,
        watched: Watched,
        span: Option<&SpanContext>,
    ) {
        let now = (self.sink.clock)();
        let entries = batch.entries();
        let visible = entries.iter().enumerate();
        let visible = visible.filter(|(index, _)| !buried.contains(index));
        self.sink
            .metrics
            .visible(visible.map(|(_, entry)| entry), Micros(now));
        let is_buried = |offset: i64| {
            let mut entries = buried.iter().map(|index| &entries[*index]);
            entries.any(|entry| entry.offset == offset)
        };
        watched.visible(now, span, |offset| !is_buried(offset));
    }
}

/// The batch's span as a `traceparent`, if it has one.
pub(super) fn traceparent() -> Option<String> {
    working().map(|context| trace::traceparent(&context))
}
