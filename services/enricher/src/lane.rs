//! The work on one partition: judge, join, produce, commit, in the order of offsets.
//!
//! Invariant: an offset is committed only when everything below it is acknowledged: as an enriched event, as a dead
//! letter, or as nothing because it needs none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::catalog::Lookup as Known;
use engagement::enrich::enrich;
use engagement::envelope::EventChange;
use engagement::event::{EnrichedEvent, Micros};
use stream::dead_letter::{Reject, RejectBudget};
use stream::ledger::Frontier;
use stream::lineage::{Database, Mark};
use stream::producer::ProducerLane;
use stream::{LaneError, LaneHandle, Record, SendError};
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, Halt, Progress, Skip, Verdict};
use crate::join::{self, Answers};
use crate::lookup::Answer;
use crate::lookup::budget::WaitBudget;
use crate::resume::{self, Opened};
use crate::spans::Spans;
use crate::state::Shared;
use crate::{emit, identity, metrics};

/// How long the end of a lane waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs one partition until it is taken away.
pub(crate) async fn run(mut handle: LaneHandle, shared: Arc<Shared>) -> Result<(), LaneError> {
    let opened = resume::open(&handle, &shared).await?;
    let out = shared
        .producer
        .lane(&shared.config.output.topic, handle.partition())
        .await?;
    handle.start(opened.next).await?;
    let mut lane = Lane::new(&handle, shared, opened, out);
    let max = lane.shared.config.input.batch.get();
    let mut batch = Vec::with_capacity(max);
    loop {
        tokio::select! {
            biased;
            frontier = lane.out.advanced() => lane.commit(&handle, &frontier?),
            taken = handle.recv_many(&mut batch, max) => {
                if taken == 0 {
                    break;
                }
                match lane.process(&mut batch).await {
                    Ok(Flow::On) => {}
                    Ok(Flow::Stopping) => break,
                    Err(error) => return Err(lane.fail(&handle, error).await),
                }
            }
        }
    }
    lane.finish(&handle).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// Told to stop while waiting: the rest is left to whoever comes next.
    Stopping,
}

/// One record, judged: what it is, and the mark after it.
struct Step<'a> {
    record: &'a Record,
    verdict: Verdict<'a>,
    mark: Option<Mark>,
}

struct Lane {
    shared: Arc<Shared>,
    chain: Chain,
    out: ProducerLane<Reached>,
    database: Option<Database>,
    wait: WaitBudget,
    rejects: RejectBudget,
    spans: Spans,
    stopping: CancellationToken,
}

/// What travels with a record and comes back when everything up to it is done.
#[derive(Clone, Copy)]
struct Reached {
    progress: Progress,
    committed_at: Option<Micros>,
}

impl Lane {
    fn new(
        handle: &LaneHandle,
        shared: Arc<Shared>,
        opened: Opened,
        out: ProducerLane<Reached>,
    ) -> Self {
        Self {
            chain: opened.chain,
            out,
            database: opened.database,
            wait: WaitBudget::new(shared.config.database.content_wait),
            rejects: RejectBudget::default(),
            spans: Spans::new(handle.group(), &shared.config.output.topic),
            stopping: handle.stopping(),
            shared,
        }
    }

    /// Judges all of `batch`, then sends what is to be sent, in order.
    async fn process(&mut self, batch: &mut Vec<Record>) -> Result<Flow, LaneError> {
        self.same_database(&batch[0])?;
        let (started, now) = (Instant::now(), Micros(service::clock::now()));
        let records = std::mem::take(batch);
        self.spans.batch(records.len());
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
            match verdict {
                Verdict::Emit(change) => {
                    if answers.is_none() && self.is_unknown(&change) {
                        let unknown = self.unknown(&change, steps.as_slice());
                        let learnt =
                            join::resolve(&self.shared, &mut self.wait, unknown, &self.stopping)
                                .await;
                        let Some(learnt) = learnt else {
                            return Ok(Flow::Stopping);
                        };
                        answers = Some(learnt);
                    }
                    self.emit(record, change, mark, answers.as_ref(), now)
                        .await?;
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
        record: &Record,
        change: EventChange<'_>,
        mark: Option<Mark>,
        answers: Option<&Answers>,
        now: Micros,
    ) -> Result<(), LaneError> {
        if let Some(refusal) = self.out.refused(record.offset) {
            return self
                .give_up(
                    record,
                    &Reject::new("refused", "produce", "stream::producer", refusal),
                    mark,
                    now,
                )
                .await;
        }
        let event = self.join(record, change, mark, answers, now);
        let mut out = emit::record(record, &event, self.shared.format);
        let span = self.spans.record(record, &mut out.headers);
        let before = self.chain.progress(mark);
        self.chain.emitted(record.offset);
        let reached = Reached {
            progress: self.chain.progress(mark),
            committed_at: Some(event.source.committed_at),
        };
        match self.out.send(out, record.offset, reached).await {
            Ok(()) => {
                self.shared.meters.enriched(&event);
                drop(span);
                self.note_good();
                Ok(())
            }
            Err(error @ SendError::TooLarge { .. }) => {
                self.chain.emitted(before.prev);
                let reject = Reject::new(
                    "too_large",
                    "produce",
                    "stream::producer",
                    error.to_string(),
                );
                self.give_up(record, &reject, mark, now).await
            }
            Err(error) => Err(error.into()),
        }
    }

    fn join(
        &self,
        record: &Record,
        change: EventChange<'_>,
        mark: Option<Mark>,
        answers: Option<&Answers>,
        now: Micros,
    ) -> EnrichedEvent {
        let place = self.chain.place(record.offset, mark);
        let catalog = self.shared.contents.read();
        let id = change.row.content_id.as_deref();
        let known = id.map(|id| catalog.get(id));
        let content = match (known, id.and_then(|id| answers?.get(id))) {
            (Some(Known::Found(content)), _) => Some(content),
            (_, Some(Answer::Found(content))) => Some(content.as_content()),
            _ => None,
        };
        enrich(change, content, place, now)
    }

    fn is_unknown(&self, change: &EventChange<'_>) -> bool {
        let catalog = self.shared.contents.read();
        change
            .row
            .content_id
            .as_deref()
            .is_some_and(|id| !matches!(catalog.get(id), Known::Found(_)))
    }

    /// The unknown contents of this change and of all that follow in the batch: one question for all.
    fn unknown(&self, first: &EventChange<'_>, rest: &[Step<'_>]) -> Vec<String> {
        let changes = rest.iter().filter_map(|step| match &step.verdict {
            Verdict::Emit(change) if self.is_unknown(change) => Some(change),
            _ => None,
        });
        let ids = std::iter::once(first)
            .chain(changes)
            .filter_map(|change| change.row.content_id.as_deref());
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// To the dead letters. All before is acknowledged first, the letter before all after (rule 2).
    async fn give_up(
        &mut self,
        record: &Record,
        reject: &Reject,
        mark: Option<Mark>,
        now: Micros,
    ) -> Result<(), LaneError> {
        self.out.drained().await?;
        self.shared.dead_letters.send(record, reject, now).await?;
        tracing::warn!(
            partition = record.partition,
            offset = record.offset,
            kind = reject.kind,
            reason = reject.message,
            "dead letter"
        );
        self.pass(record, mark)?;
        self.rejects.spend(record, reject)
    }

    fn note_good(&mut self) {
        // a good record never uses the budget up
        let _ = self.rejects.note(false);
    }

    /// Everything before is finished and committed, then the lane stops at `record`.
    async fn halt(&mut self, record: &Record, halt: &Halt) -> LaneError {
        if let Err(error) = self.out.drained().await {
            return error.into();
        }
        let at = format!("{}/{}", record.partition, record.offset);
        let Record {
            topic,
            partition,
            offset,
            ..
        } = record;
        let reason = format!(
            "{topic} partition {partition} offset {offset}: {}",
            halt.reason()
        );
        LaneError::stop(reason, halt.remedy(&at))
    }

    /// The database may be found to be another one while the lane runs.
    fn same_database(&mut self, record: &Record) -> Result<(), LaneError> {
        match (self.database, *self.shared.database.borrow()) {
            (Some(noted), Some(now)) if noted != now => {
                let Record {
                    topic, partition, ..
                } = record;
                let reason = format!(
                    "{topic} partition {partition}: {}",
                    identity::changed(noted, now)
                );
                return Err(LaneError::stop(reason, identity::REMEDY));
            }
            (None, Some(now)) => self.database = Some(now),
            _ => {}
        }
        Ok(())
    }

    fn commit(&self, handle: &LaneHandle, frontier: &Frontier<Reached>) {
        let Reached {
            progress,
            committed_at,
        } = frontier.value;
        handle.commit(
            frontier.next,
            self.chain.checkpoint(progress, self.database).to_string(),
        );
        if let Some(at) = committed_at {
            let micros = service::clock::now().saturating_sub(at.0).max(0);
            self.shared
                .meters
                .freshness
                .record(Duration::from_micros(micros.unsigned_abs()).as_secs_f64());
        }
    }

    /// What is done stays done: it is committed before the lane ends with `error`.
    async fn fail(&self, handle: &LaneHandle, error: LaneError) -> LaneError {
        if let Some(frontier) = self.out.frontier() {
            let metadata = self
                .chain
                .checkpoint(frontier.value.progress, self.database)
                .to_string();
            if let Err(refused) = handle.commit_now(frontier.next, metadata).await {
                tracing::warn!(partition = handle.partition(), %refused, "the last commit failed; the output's tail decides anyway");
            }
        }
        error
    }

    /// Waits for what is in flight and commits it. What is not acknowledged in time is found by the next owner.
    async fn finish(mut self, handle: &LaneHandle) -> Result<(), LaneError> {
        let drained = tokio::time::timeout(DRAIN, self.out.drained()).await;
        if let Some(frontier) = self.out.frontier() {
            self.commit(handle, &frontier);
        }
        let clean = matches!(drained, Ok(Ok(())));
        tracing::info!(
            partition = handle.partition(),
            clean,
            "partition given back"
        );
        Ok(())
    }
}
