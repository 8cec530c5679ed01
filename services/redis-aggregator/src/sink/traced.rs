//! The trace of a batch, and what is measured of it.
//!
//! Invariant: a batch without a traced record has no span, and is applied all the same.

use std::time::Duration;

use service::traces::{InContext as _, KeyValue};
use stream::LaneError;

use super::{Lane, Pending};
use crate::metrics;
use crate::write::{Change, Written};

impl Lane {
    /// Applies a change under the span of its batch, if it holds a traced record, and ends the spans of its records.
    pub(super) async fn traced_apply(
        &mut self,
        change: &Change,
        pending: &mut Pending,
    ) -> Result<Written, LaneError> {
        let watched = std::mem::take(&mut pending.watched);
        let describe = || ("EVALSHA".to_owned(), self.attributes(pending.records));
        let span = watched.batch(describe, service::clock::now());
        let applied = self.writer.apply(change);
        let written = match &span {
            Some(span) => applied.with_context(span.as_parent()).await,
            None => applied.await,
        };
        let now = service::clock::now();
        let context = span.as_ref().map(|span| span.context().clone());
        if let Some(mut span) = span {
            if !matches!(written, Ok(Written::Done)) {
                span.fail("not_applied");
            }
            span.end(now);
        }
        let written = written?;
        if written == Written::Done {
            watched.visible(now, context.as_ref(), |_| true);
        }
        Ok(written)
    }

    fn attributes(&self, records: usize) -> [KeyValue; 5] {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        [
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", "EVALSHA"),
            KeyValue::new("db.stored_procedure.name", "apply"),
            KeyValue::new("db.operation.batch.size", records),
            KeyValue::new("engage.partition", i64::from(self.handle.partition())),
        ]
    }

    pub(super) fn measure(&self, pending: &Pending, took: Duration) {
        service::metrics::sink_write(metrics::SINK, pending.records, took.as_secs_f64());
        let now = service::clock::now();
        for commit in pending.batch.commits() {
            let micros = u64::try_from(now - commit.0).unwrap_or(0);
            self.freshness
                .record(Duration::from_micros(micros).as_secs_f64());
        }
    }
}
