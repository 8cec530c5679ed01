//! One attempt with everything around it: gate, trace, metrics, log.
//!
//! Invariant: an attempt that was not begun when the lane stops is never begun.

use std::sync::Arc;
use std::time::Instant;

use engagement::event::Micros;
use service::traces::InContext as _;
use stream::headers::{Headers, TRACEPARENT, TRACESTATE};
use stream::{Record, trace};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::client::Answer;
use crate::message::Message;
use crate::metrics;
use crate::outcome::Outcome;
use crate::runtime::Runtime;
use crate::traced::{self, Traced};

/// A record on its way.
#[derive(Debug)]
pub struct Job {
    /// As it was read, for the dead letters.
    pub record: Record,
    /// What is sent.
    pub message: Message,
    /// What happened so far.
    pub attempts: Attempts,
    /// When the first attempt failed.
    pub first_failed_at: Option<Micros>,
    /// What is traced of it.
    pub traced: Traced,
}

impl Job {
    /// Bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.record.size() + self.message.body.len()
    }
}

/// Waits for the gate and posts once. `None`: the lane stopped before the attempt began.
pub async fn attempt(
    runtime: &Arc<Runtime>,
    job: &Job,
    stop: &CancellationToken,
) -> Option<Answer> {
    let slot = stop.run_until_cancelled(runtime.gate.enter()).await?;
    if stop.is_cancelled() {
        return None;
    }
    let (sender, made) = (runtime.sender(), job.attempts.made());
    let span = job.traced.attempt(sender, made, service::clock::now());
    let mut headers = trace_of(&job.record);
    if let Some(span) = &span {
        trace::inject(span.context(), &mut headers);
    }
    let post = runtime
        .poster
        .post(&runtime.endpoint, &job.message, &headers);
    let began = Instant::now();
    let answer = post.with_context(traced::context_of(span.as_ref())).await;
    runtime
        .attempt_seconds
        .record(began.elapsed().as_secs_f64());
    if let Some(span) = span {
        traced::answered(span, &answer);
    }
    slot.settle(&answer.outcome, answer.shown());
    note(runtime, job, &answer);
    Some(answer)
}

/// The trace the record is part of; replaced by the attempt's own span where spans are exported.
fn trace_of(record: &Record) -> Headers {
    let ours = |name: &str| name == TRACEPARENT || name == TRACESTATE;
    let headers = record.headers.iter().filter(|(name, _)| ours(name));
    headers.cloned().collect()
}

fn note(runtime: &Runtime, job: &Job, answer: &Answer) {
    if answer.outcome == Outcome::Delivered {
        runtime.delivered.increment(1);
        if let Some(committed) = job.message.committed_at {
            let micros = answer.at.saturating_sub(committed.0).max(0);
            runtime.freshness.record(seconds(micros));
        }
        return;
    }
    metrics::attempts(&runtime.endpoint.name, answer.outcome.label()).increment(1);
    service::metrics::sink_error(crate::NAME, answer.outcome.label());
    tracing::debug!(
        endpoint = runtime.endpoint.name,
        partition = job.record.partition,
        offset = job.record.offset,
        webhook_id = job.message.id,
        attempt = job.attempts.made() + 1,
        outcome = %answer.outcome,
        detail = answer.shown(),
        "attempt failed"
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric; exact below 285 years"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
