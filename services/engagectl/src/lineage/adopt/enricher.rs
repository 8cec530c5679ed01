//! Where the enricher's chain goes on, by what its service refuses.
//!
//! Invariant: a new epoch is higher than every one that the log or a group knows; a mark is kept, also where both topics
//! are new, unless a new epoch was asked for, so that what is sent again stays known; the epoch is kept only where the
//! change topic is the same and the output is empty: then the same changes get the same positions, and a reader that was
//! ahead of the enricher's commit knows them.

use engagement::envelope::CdcRecord;
use service::Failure;
use stream::Committed;
use stream::lineage::{Checkpoint, Mark, Refusal};

use super::Decision;
use crate::lineage::broker::Broker;
use crate::lineage::facts::{Group, Partition, Role, input};
use crate::lineage::judge::{Standing, checkpoint};

/// Where the enricher's new chain begins.
struct Begin {
    offset: i64,
    mark: Option<Mark>,
    gap: Option<String>,
    /// It is the old chain, not a new one.
    goes_on: bool,
}

impl Begin {
    const fn at(offset: i64) -> Self {
        Self {
            offset,
            mark: None,
            gap: None,
            goes_on: false,
        }
    }

    /// At the start of a change topic that is another one; what it repeats of the old one is known by the mark.
    fn anew(low: i64, mark: Option<Mark>) -> Self {
        Self {
            mark,
            ..Self::at(low)
        }
    }

    /// Where the change topic begins now; what stood between is lost.
    fn behind_gap(from: i64, low: i64, mark: Option<Mark>) -> Self {
        Self {
            mark,
            gap: Some(format!("change offsets {from} to {low} expired unread")),
            ..Self::at(low)
        }
    }

    /// A new epoch is asked for where the database is another one: no mark says anything of its changes.
    fn without_mark(self) -> Self {
        Self {
            mark: None,
            goes_on: false,
            ..self
        }
    }
}

/// The decision for the enricher's group; `None`: it agrees with its log.
///
/// # Errors
/// The broker cannot be asked, or the epochs are used up.
pub(super) async fn decide(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    new_epoch: bool,
) -> Result<Option<Decision>, Failure> {
    match enricher(broker, facts, group, new_epoch).await? {
        Some((why, begin)) => opened(broker, facts, group, why, begin).map(Some),
        None => Ok(None),
    }
}

async fn enricher(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    new_epoch: bool,
) -> Result<Option<(String, Begin)>, Failure> {
    let (why, begin) = match &group.standing {
        Standing::Refused(refusal) => {
            let begin = begin(broker, facts, group, refusal).await?;
            let begin = if new_epoch {
                begin.without_mark()
            } else {
                begin
            };
            (refusal.to_string(), begin)
        }
        Standing::Agrees { next } if new_epoch => (
            "a new epoch was asked for".to_owned(),
            Begin::at(proven_end(facts, group, *next)),
        ),
        _ => return Ok(None),
    };
    Ok(Some((why, begin)))
}

async fn begin(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    refusal: &Refusal,
) -> Result<Begin, Failure> {
    let reached = group.committed.as_ref().and_then(checkpoint);
    match refusal {
        // what was in the old change topic may be sent again into the new one; changes of another database, which the
        // mark says nothing of, are committed later than it and contradict it
        Refusal::BeyondEnd { .. } | Refusal::OtherRecord { .. } | Refusal::CommitGone { .. } => {
            let mark = mark_of(facts).or(reached.and_then(|at| at.mark));
            Ok(Begin::anew(facts.cdc.low, mark))
        }
        Refusal::Expired { next, low } => {
            let mark = mark_of(facts).or(reached.and_then(|at| at.mark));
            Ok(Begin::behind_gap(*next, *low, mark))
        }
        // the output is new: the group's own commit says how far the old one went
        Refusal::Recreated { .. } => {
            let offset = group.committed.as_ref().map_or(0, |commit| commit.offset);
            let mark = reached.and_then(|at| at.mark);
            continued(broker, facts, offset, mark).await
        }
        Refusal::UnknownEnd { .. } | Refusal::Metadata { .. } => {
            behind_the_readers(broker, facts).await
        }
    }
}

/// Nothing of ours says where the output ended: what the furthest reader has seen was in it.
async fn behind_the_readers(broker: &Broker, facts: &Partition) -> Result<Begin, Failure> {
    let seen = facts
        .groups
        .iter()
        .filter(|group| group.role != Role::Enricher)
        .filter_map(|group| checkpoint(group.committed.as_ref()?));
    let furthest = seen.max_by_key(|at| at.position.map(|at| (at.epoch, at.offset)));
    match furthest.and_then(|at| Some((at.position?, at.mark))) {
        Some((position, mark)) => Ok(Begin {
            goes_on: false,
            ..continued(broker, facts, position.offset + 1, mark).await?
        }),
        None => Ok(Begin::at(facts.cdc.low)),
    }
}

/// At `offset`, if the change topic is still the one in which it was reached; otherwise at its start, with the highest mark
/// that anybody knows: both topics are new then, and what the readers have seen may be sent again.
async fn continued(
    broker: &Broker,
    facts: &Partition,
    offset: i64,
    mark: Option<Mark>,
) -> Result<Begin, Failure> {
    let log = facts.cdc;
    if offset > log.high {
        return Ok(Begin::anew(log.low, highest_mark(facts)));
    }
    if offset < log.low {
        return Ok(Begin::behind_gap(offset, log.low, mark));
    }
    let pair = pair_before(broker, facts, offset).await?;
    // what was read before the mark is at or below it; a new topic goes on above
    let is_another = mark.is_some_and(|mark| pair.is_some_and(|pair| pair > mark.pair()));
    Ok(if is_another {
        Begin::anew(log.low, highest_mark(facts))
    } else {
        Begin {
            offset,
            mark,
            gap: None,
            goes_on: mark.is_some(),
        }
    })
}

/// The pair of the change right before an offset, if it has one.
async fn pair_before(
    broker: &Broker,
    facts: &Partition,
    offset: i64,
) -> Result<Option<(u64, u64)>, Failure> {
    let low = facts.cdc.low;
    let before = broker.before(&broker.cdc, facts.number, offset, low);
    let before = before.await?;
    let parsed = before
        .as_ref()
        // a letter that was sent back stands out of the order
        .filter(|record| !stream::redrive::is_copy(record))
        .map(|record| broker.parser.event(input(record)));
    Ok(match parsed {
        Some(Ok(CdcRecord::Change(change))) => {
            change.meta.commit_lsn.map(|at| (at, change.meta.lsn))
        }
        _ => None,
    })
}

/// The group's commit may be further than the tail, past records that needed no output; its metadata must say so.
fn proven_end(facts: &Partition, group: &Group, next: i64) -> i64 {
    let tail = facts.tail.as_ref().map(|event| event.source.position());
    let committed = group.committed.as_ref().filter(|commit| {
        checkpoint(commit).is_some_and(|at| at.position == tail) && commit.offset <= facts.cdc.high
    });
    committed.map_or(next, |commit| commit.offset.max(next))
}

/// The highest mark that a group of the newest epoch has reached: an older epoch may be of another database.
fn highest_mark(facts: &Partition) -> Option<Mark> {
    let known = facts
        .groups
        .iter()
        .filter_map(|group| checkpoint(group.committed.as_ref()?));
    let furthest = known.max_by_key(|at| (epoch_of(at), at.mark.map(Mark::pair)));
    furthest.and_then(|at| at.mark)
}

fn epoch_of(at: &Checkpoint) -> u8 {
    at.epoch.max(at.position.map_or(0, |to| to.epoch))
}

fn mark_of(facts: &Partition) -> Option<Mark> {
    let source = facts.tail.as_ref()?.source;
    let mark = Mark {
        commit_lsn: source.commit_lsn,
        lsn: source.lsn,
        committed_at: source.committed_at,
    };
    Some(mark).filter(|mark| mark.pair() != (0, 0))
}

/// The highest epoch that the log or a group knows.
fn highest_epoch(facts: &Partition) -> u8 {
    let known = facts
        .groups
        .iter()
        .filter_map(|group| Some(epoch_of(&checkpoint(group.committed.as_ref()?)?)));
    let written = facts.tail.iter().map(|event| event.source.epoch);
    known.chain(written).max().unwrap_or(0)
}

fn opened(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    why: String,
    begin: Begin,
) -> Result<Decision, Failure> {
    let reached = group.committed.as_ref().and_then(checkpoint);
    let same = reached.filter(|_| begin.goes_on).map(|at| at.epoch);
    let Some(epoch) = same.or(highest_epoch(facts).checked_add(1)) else {
        return Err(Failure::repair(format!(
            "partition {}: epoch 255 is in use, and there is no higher one",
            facts.number
        ))
        .remedy("begin with empty topics, groups and sinks, and a snapshot"));
    };
    let noted = reached.and_then(|at| at.database);
    let checkpoint = Checkpoint {
        epoch,
        mark: begin.mark,
        // a mark means nothing in another database, which the enricher refuses by this
        database: noted.filter(|_| begin.mark.is_some()),
        ..Checkpoint::default()
    };
    Ok(Decision {
        partition: facts.number,
        group: group.name.clone(),
        role: Role::Enricher,
        topic: broker.cdc.clone(),
        why,
        from: group.committed.clone(),
        to: Committed {
            offset: begin.offset,
            metadata: checkpoint.to_string(),
        },
        gap: begin.gap,
    })
}
