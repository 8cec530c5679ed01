//! Opens a partition: the tail of the output decides where to continue, and the change topic must agree.
//!
//! Invariant: no record is judged before the resume point is proven and the changes at the mark are known again.

use std::collections::BTreeSet;

use engagement::envelope::{CdcRecord, Parser};
use engagement::event::EnrichedEvent;
use faults::Rule;
use stream::lineage::{Checkpoint, Database, EnricherResume, Proof, Refusal, enricher_resume};
use stream::resume::source_position;
use stream::tail::End;
use stream::{Committed, LaneError, LaneHandle, Record, Watermarks, tail};

use crate::chain::{Chain, input};
use crate::identity;
use crate::replay::{Ask, Replay};
use crate::state::Shared;

/// A partition that is ready to go on.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The chain, its mark and its set restored.
    pub(crate) chain: Chain,
    /// Offset of the first record to judge.
    pub(crate) next: i64,
    /// The database that the mark belongs to, when known.
    pub(crate) database: Option<Database>,
}

/// Reads, decides, proves; commits the resolved start at once.
pub(crate) async fn open(lane: &LaneHandle, shared: &Shared) -> Result<Opened, LaneError> {
    let found = Found::read(lane, shared).await?;
    let resume = found
        .decide(shared.config.lineage.epoch)
        .map_err(|stop| stop.at(lane))?;
    let database = found
        .database(&resume, *shared.database.borrow())
        .map_err(|stop| stop.at(lane))?;
    let mut chain = Chain::resume(lane.partition(), &resume);
    found.at_mark.iter().for_each(|event| chain.produced(event));
    chain.redriven(found.redriven.iter().copied());
    prove(lane, &shared.parser, resume.proof, found.tail.as_ref()).await?;
    let replay = Replay::new(&resume, found.tail.as_ref(), found.input, found.output);
    restore(lane, shared, replay, &mut chain).await?;
    lane.commit_now(
        resume.next,
        chain
            .checkpoint(chain.progress(chain.mark()), database)
            .to_string(),
    )
    .await?;
    let EnricherResume { next, epoch, .. } = resume;
    tracing::info!(
        partition = lane.partition(),
        offset = next,
        epoch,
        "partition resumed"
    );
    Ok(Opened {
        chain,
        next,
        database,
    })
}

/// The facts that decide.
struct Found {
    input: Watermarks,
    output: Watermarks,
    tail: Option<EnrichedEvent>,
    /// Events of the output with the mark of `tail`: their change records may have expired.
    at_mark: Vec<EnrichedEvent>,
    /// Redriven letters that stand at the end of the output: epoch and offset in the change topic.
    redriven: BTreeSet<(u8, i64)>,
    committed: Option<Committed>,
}

/// A stop whose place is not named yet.
struct Unresumable {
    reason: String,
    remedy: String,
}

impl Unresumable {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    fn at(self, lane: &LaneHandle) -> LaneError {
        stream::metrics::lineage_violation();
        LaneError::stop(
            format!(
                "{} partition {}: {}",
                lane.topic(),
                lane.partition(),
                self.reason
            ),
            self.remedy,
        )
    }
}

impl From<Refusal> for Unresumable {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.to_string(), refusal.remedy())
    }
}

impl Found {
    async fn read(lane: &LaneHandle, shared: &Shared) -> Result<Self, LaneError> {
        let partition = lane.partition();
        let committed = lane.committed().cloned();
        let checkpoint = committed
            .as_ref()
            .and_then(|commit| commit.metadata.parse().ok());
        let reached = checkpoint.and_then(|checkpoint: Checkpoint| checkpoint.position);
        let topic = &shared.config.output.topic;
        let told = End::of(partition);
        let mut tail = lane.tail(topic, partition, tail::WANTED, told).await?;
        if tail.records.falls_short(reached) {
            let told = End::of(partition);
            let more = lane.tail(topic, partition, tail::WANTED_MORE, told);
            tail = more.await?;
        }
        let end = tail.records;
        let remedy = "write it with nothing but enrichers; move other records away, or configure another KAFKA_ENRICHED_TOPIC";
        let highest = end.highest().map_err(|error| {
            Unresumable::new(format!("output {topic}: {error}"), remedy).at(lane)
        })?;
        Ok(Self {
            input: lane.watermarks().await?,
            output: tail.log,
            at_mark: end.at_mark().cloned().collect(),
            redriven: end.redriven().collect(),
            tail: highest.cloned(),
            committed,
        })
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.committed.as_ref()?.metadata.parse().ok()
    }

    fn decide(&self, configured: Option<u8>) -> Result<EnricherResume, Unresumable> {
        let written = self.tail.as_ref().map(|event| event.source.epoch);
        let committed = self.checkpoint().map(|checkpoint| checkpoint.epoch);
        let found = written.max(committed).unwrap_or(0);
        match configured {
            Some(wanted) if wanted > found => Ok(adopt(wanted, self.input)),
            Some(wanted) if wanted < found => Err(Unresumable::new(
                format!("epoch {found} is written already, {wanted} is configured"),
                format!("set lineage.epoch to {found}, or remove it"),
            )),
            _ => {
                let is_believed =
                    self.committed.is_some() && faults::is_broken(Rule::ResumeFromTail);
                let tail = self.tail.as_ref().filter(|_| !is_believed);
                let tail = tail.map(|event| &event.source);
                Ok(enricher_resume(
                    self.input,
                    self.output,
                    tail,
                    self.committed.as_ref(),
                )?)
            }
        }
    }

    /// The database to note with the mark; another one than noted is refused (rule 15).
    fn database(
        &self,
        resume: &EnricherResume,
        now: Option<Database>,
    ) -> Result<Option<Database>, Unresumable> {
        let noted = self
            .checkpoint()
            .filter(|checkpoint| checkpoint.epoch == resume.epoch);
        match (noted.and_then(|checkpoint| checkpoint.database), now) {
            (Some(noted), Some(now)) if noted != now => Err(Unresumable {
                reason: identity::changed(noted, now),
                remedy: identity::REMEDY.into(),
            }),
            (noted, now) => Ok(now.or(noted)),
        }
    }
}

/// Completes the set of changes at the mark from the records before the resume point.
async fn restore(
    lane: &LaneHandle,
    shared: &Shared,
    mut replay: Replay,
    chain: &mut Chain,
) -> Result<(), LaneError> {
    let partition = lane.partition();
    while let Some(ask) = replay.ask() {
        match ask {
            Ask::Events { from, to } => {
                let topic = &shared.config.output.topic;
                let records = lane.read_range(topic, partition, from, to).await?;
                let events = records
                    .iter()
                    .filter_map(|record| tail::read(record, source_position(record)?).ok());
                let events: Vec<_> = events.map(|event| event.source).collect();
                replay.told_events(events.iter());
            }
            Ask::Changes { from, to } => {
                let records = lane.read_range(lane.topic(), partition, from, to).await?;
                let changes = records.iter();
                let seen: Vec<_> = changes
                    .map(|record| chain.replay(&shared.parser, record))
                    .collect();
                replay.told_changes(chain, &seen);
            }
        }
    }
    Ok(())
}

/// The change record before the resume point must be the event that the output's tail was made from.
async fn prove(
    lane: &LaneHandle,
    parser: &Parser,
    proof: Proof,
    last: Option<&EnrichedEvent>,
) -> Result<(), LaneError> {
    let (Proof::SameEvent(offset), Some(last)) = (proof, last) else {
        return Ok(());
    };
    let record = lane
        .read_one(lane.topic(), lane.partition(), offset)
        .await?;
    agree(parser, record.as_ref(), last).map_err(|stop| stop.at(lane))
}

fn agree(
    parser: &Parser,
    record: Option<&Record>,
    last: &EnrichedEvent,
) -> Result<(), Unresumable> {
    let found = match record.map(|record| parser.event(input(record))) {
        Some(Ok(CdcRecord::Change(change))) if tail::is_made_from(last, &change) => return Ok(()),
        Some(Ok(CdcRecord::Change(change))) => {
            format!(
                "event {} of transaction {:?}",
                change.row.event_id, change.meta.tx_id
            )
        }
        Some(_) => "no change of an event".to_owned(),
        None => "nothing".to_owned(),
    };
    let (offset, id, tx) = (last.source.offset, &last.event_id, last.source.tx_id);
    Err(Unresumable::new(
        format!(
            "offset {offset} holds {found}, but the output was made from event {id} of transaction {tx:?}: the topic was recreated"
        ),
        "see `engagectl lineage show`; adopt the new topic with `engagectl lineage adopt`, then `engagectl verify`",
    ))
}

/// A new epoch: the log from its start, with nothing seen.
fn adopt(epoch: u8, input: Watermarks) -> EnricherResume {
    EnricherResume {
        next: input.low,
        epoch,
        prev: -1,
        mark: None,
        proof: Proof::None,
    }
}
