//! A batch of one partition: judge every record, join the changes, hand them to the producer in order.
//!
//! Invariant: records leave in the order of offsets, and a dead letter is acknowledged before anything after it is sent.

mod redrive;
mod refusal;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::envelope::EventChange;
use engagement::event::{EnrichedEvent, Micros};
use service::traces::InContext as _;
use stream::dead_letter::{Reject, RejectBudget};
use stream::lineage::Mark;
use stream::producer::ProducerLane;
use stream::{LaneError, LaneHandle, Record, SendError};
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, Progress, Skip, Verdict};
use crate::join::{self, Answers};
use crate::lookup::budget::WaitBudget;
use crate::spans::Spans;
use crate::state::Shared;
use crate::{emit, metrics};
use refusal::unsendable;

/// Whether the lane goes on after a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    On,
    /// Told to stop while waiting: the rest is left to whoever comes next.
    Stopping,
}

/// What travels with a record and comes back when everything up to it is done.
#[derive(Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) progress: Progress,
    pub(crate) committed_at: Option<Micros>,
}

/// One record, judged: what it is, and the mark after it.
struct Step<'a> {
    record: &'a Record,
    verdict: Verdict<'a>,
    mark: Option<Mark>,
}

/// A record on its way: the mark after it, and the time of its batch.
#[derive(Clone, Copy)]
struct At<'a> {
    record: &'a Record,
    mark: Option<Mark>,
    now: Micros,
}

/// The state of one partition while it runs.
pub(crate) struct Work {
    shared: Arc<Shared>,
    pub(crate) chain: Chain,
    pub(crate) out: ProducerLane<Reached>,
    wait: WaitBudget,
    rejects: RejectBudget,
    pub(crate) spans: Spans,
    /// Whether the time from commit to Kafka was measured in this batch.
    captured: bool,
    stopping: CancellationToken,
}

impl Work {
    pub(crate) fn new(
        handle: &LaneHandle,
        shared: Arc<Shared>,
        chain: Chain,
        out: ProducerLane<Reached>,
    ) -> Self {
        Self {
            chain,
            out,
            wait: WaitBudget::new(shared.config.database.content_wait),
            rejects: RejectBudget::default(),
            spans: Spans::new(handle.group(), &shared.config.output.topic),
            captured: false,
            stopping: handle.stopping(),
            shared,
        }
    }

    /// Judges all of `batch`, then sends what is to be sent, in order.
    pub(crate) async fn process(&mut self, batch: &mut Vec<Record>) -> Result<Flow, LaneError> {
        let (started, now) = (Instant::now(), Micros(service::clock::now()));
        let records = std::mem::take(batch);
        self.spans.batch(now.0);
        self.captured = false;
        let mut steps = Vec::with_capacity(records.len());
        for record in &records {
            let verdict = self.judge(record);
            let last = matches!(verdict, Verdict::Stop(_));
            steps.push(Step {
                record,
                verdict,
                mark: self.chain.mark(),
            });
            if last {
                break;
            }
        }
        let flow = self.carry_out(steps, now).await?;
        let each = started.elapsed().as_secs_f64()
            / f64::from(u32::try_from(records.len()).unwrap_or(u32::MAX));
        self.shared.meters.stage.record(each);
        *batch = records;
        batch.clear();
        Ok(flow)
    }

    fn judge<'a>(&mut self, record: &'a Record) -> Verdict<'a> {
        if self
            .shared
            .skip
            .contains(&(record.partition, record.offset))
        {
            tracing::warn!(
                partition = record.partition,
                offset = record.offset,
                "record passed over, as lineage.skip says"
            );
            return Verdict::Skip(Skip::Listed);
        }
        self.chain.judge(&self.shared.parser, record)
    }

    async fn carry_out(&mut self, steps: Vec<Step<'_>>, now: Micros) -> Result<Flow, LaneError> {
        let mut answers: Option<Answers> = None;
        let mut steps = steps.into_iter();
        while let Some(Step {
            record,
            verdict,
            mark,
        }) = steps.next()
        {
            let unknown = verdict
                .change()
                .filter(|change| answers.is_none() && join::is_unknown(&self.shared, change))
                .map(|change| self.unknown(change, steps.as_slice()));
            if let Some(unknown) = unknown {
                let learning = join::resolve(&self.shared, &mut self.wait, unknown, &self.stopping);
                let Some(learnt) = learning.await else {
                    return Ok(Flow::Stopping);
                };
                answers = Some(learnt);
            }
            let at = At { record, mark, now };
            match verdict {
                Verdict::Emit(change) => self.emit(at, change, answers.as_ref()).await?,
                Verdict::Redrive(change, epoch) => {
                    self.redrive(at, change, epoch, answers.as_ref()).await?;
                }
                Verdict::Skip(skip) => {
                    metrics::skipped(skip.name());
                    self.pass(record, mark)?;
                }
                Verdict::Duplicate => {
                    self.shared.meters.duplicates.increment(1);
                    self.pass(record, mark)?;
                }
                Verdict::Reject(reject) => {
                    let (kind, class) = (reject.kind.name(), "engagement::envelope");
                    self.give_up(
                        record,
                        &Reject::new(kind, "decode", class, reject.message),
                        mark,
                        now,
                    )
                    .await?;
                }
                Verdict::Stop(halt) => return Err(self.halt(record, &halt).await),
            }
        }
        Ok(Flow::On)
    }

    /// Nothing to produce for this record.
    fn pass(&mut self, record: &Record, mark: Option<Mark>) -> Result<(), SendError> {
        let reached = Reached {
            progress: self.chain.progress(mark),
            committed_at: None,
        };
        self.out.skip(record.offset, reached)
    }

    async fn emit(
        &mut self,
        at: At<'_>,
        change: EventChange<'_>,
        answers: Option<&Answers>,
    ) -> Result<(), LaneError> {
        let At { record, mark, now } = at;
        let place = self.chain.place(record.offset, mark);
        let event = join::event(&self.shared, change, place, answers, now);
        let prev = record.offset;
        let reached = Reached {
            progress: Progress { prev, mark },
            committed_at: (!event.is_historical()).then_some(event.source.committed_at),
        };
        self.measure_capture(record, reached.committed_at);
        if self.send(at, &event, reached).await? {
            self.chain.emitted(record.offset);
            // a good record never uses the budget up
            let _ = self.rejects.note(false);
        }
        Ok(())
    }

    /// Hands an event to the producer. `false`: it is a dead letter instead.
    async fn send(
        &mut self,
        at: At<'_>,
        event: &EnrichedEvent,
        reached: Reached,
    ) -> Result<bool, LaneError> {
        let At { record, mark, now } = at;
        if let Some(refusal) = self.out.refused(record.offset) {
            let reject = unsendable("refused", refusal);
            self.give_up(record, &reject, mark, now).await?;
            return Ok(false);
        }
        let mut out = emit::record(record, event, self.shared.format);
        let span = self.spans.record(record, event, &mut out.headers);
        let sent = self.out.send(out, record.offset, reached).await;
        match sent {
            Ok(()) => {
                self.spans.sent(span);
                self.shared.meters.enriched(event);
                Ok(true)
            }
            Err(error @ SendError::TooLarge { .. }) => {
                let reject = unsendable("too_large", error.to_string());
                let giving_up = self.give_up(record, &reject, mark, now);
                match span {
                    Some(span) => giving_up.with_context(span.failed(reject.kind)).await?,
                    None => giving_up.await?,
                }
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Once per batch: how long Debezium took. Kafka's time is in milliseconds.
    fn measure_capture(&mut self, record: &Record, committed_at: Option<Micros>) {
        let (Some(at), Some(in_kafka)) = (committed_at, record.timestamp_ms) else {
            return;
        };
        if !std::mem::replace(&mut self.captured, true) {
            let millis = (in_kafka - at.0 / 1000).max(0).unsigned_abs();
            let took = Duration::from_millis(millis);
            self.shared.meters.capture.record(took.as_secs_f64());
        }
    }

    /// The unknown contents of this change and of all that follow in the batch: one question for all.
    fn unknown(&self, first: &EventChange<'_>, rest: &[Step<'_>]) -> Vec<String> {
        let changes = rest.iter().filter_map(|step| step.verdict.change());
        let changes = changes.filter(|change| join::is_unknown(&self.shared, change));
        let ids = std::iter::once(first)
            .chain(changes)
            .filter_map(|change| change.row.content_id.as_deref());
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
