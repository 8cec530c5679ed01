//! How a pipeline goes on where a service refuses to: a new epoch for the enricher, a new position for a reader.
//!
//! Invariant: a decision never skips what is still in a log and was not done, and what is lost already is named as a
//! gap. The enricher's decision opens a new epoch, so that no reader takes the new chain for the old one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engagement::envelope::CdcRecord;
use engagement::event::Position;
use serde_json::json;
use service::Failure;
use stream::Committed;
use stream::lineage::{Checkpoint, Mark, Refusal};

use super::aggregates::Aggregates;
use super::broker::{Broker, occupied};
use super::facts::{Group, Partition, Role, input};
use super::judge::{Standing, checkpoint};

/// One position to write.
#[derive(Debug)]
pub(super) struct Decision {
    partition: i32,
    group: String,
    role: Role,
    topic: String,
    why: String,
    from: Option<Committed>,
    to: Committed,
    /// What was lost before: to be found by `verify` and brought by `backfill`.
    gap: Option<String>,
}

/// Where the enricher's new chain begins.
struct Begin {
    offset: i64,
    mark: Option<Mark>,
    gap: Option<String>,
}

impl Begin {
    const fn at(offset: i64) -> Self {
        Self {
            offset,
            mark: None,
            gap: None,
        }
    }
}

/// What to write for one partition.
///
/// # Errors
/// The broker cannot be asked, or the epochs are used up.
pub(super) async fn decide(
    broker: &Broker,
    facts: &Partition,
    new_epoch: bool,
) -> Result<Vec<Decision>, Failure> {
    if let Some(reason) = &facts.unreadable {
        return Err(Failure::repair(format!(
            "topic {} partition {}: {reason}",
            broker.enriched, facts.number
        ))
        .remedy("write it with nothing but enrichers: move other records away first")
        .next("engagectl lineage show"));
    }
    let mut plan = Vec::new();
    for group in &facts.groups {
        match group.role {
            Role::Enricher => {
                let begin = enricher(broker, facts, group, new_epoch).await?;
                if let Some((why, begin)) = begin {
                    plan.push(opened(broker, facts, group, why, begin)?);
                }
            }
            Role::Reader | Role::Aggregates => plan.extend(reader(broker, facts, group)),
        }
    }
    Ok(plan)
}

async fn enricher(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    new_epoch: bool,
) -> Result<Option<(String, Begin)>, Failure> {
    let (why, begin) = match &group.standing {
        Standing::Refused(refusal) => (
            refusal.to_string(),
            begin(broker, facts, group, refusal).await?,
        ),
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
        Refusal::BeyondEnd { .. } | Refusal::OtherRecord { .. } | Refusal::CommitGone { .. } => {
            Ok(Begin::at(facts.cdc.low))
        }
        Refusal::Expired { next, low } => Ok(Begin {
            offset: *low,
            mark: mark_of(facts).or(reached.and_then(|at| at.mark)),
            gap: Some(format!("change offsets {next} to {low} expired unread")),
        }),
        // the output is new: the group's own commit says how far the old one went
        Refusal::Recreated { .. } => {
            let offset = group.committed.as_ref().map_or(0, |commit| commit.offset);
            let mark = reached.and_then(|at| at.mark);
            continued(broker, facts, offset, mark).await
        }
        // nothing of ours says where the output ended: what the furthest reader has seen was in it
        Refusal::UnknownEnd { .. } | Refusal::Metadata { .. } => {
            let seen = facts
                .groups
                .iter()
                .filter(|group| group.role != Role::Enricher)
                .filter_map(|group| checkpoint(group.committed.as_ref()?));
            let furthest = seen.max_by_key(|at| at.position.map(|at| (at.epoch, at.offset)));
            match furthest.and_then(|at| Some((at.position?, at.mark))) {
                Some((position, mark)) => continued(broker, facts, position.offset + 1, mark).await,
                None => Ok(Begin::at(facts.cdc.low)),
            }
        }
    }
}

/// At `offset`, if the change topic is still the one in which it was reached; otherwise at its start.
async fn continued(
    broker: &Broker,
    facts: &Partition,
    offset: i64,
    mark: Option<Mark>,
) -> Result<Begin, Failure> {
    let log = facts.cdc;
    if offset > log.high {
        return Ok(Begin::at(log.low));
    }
    if offset < log.low {
        return Ok(Begin {
            offset: log.low,
            mark,
            gap: Some(format!(
                "change offsets {offset} to {} expired unread",
                log.low
            )),
        });
    }
    let before = broker
        .before(&broker.cdc, facts.number, offset, log.low)
        .await?;
    let parsed = before
        .as_ref()
        .map(|record| broker.parser.event(input(record)));
    let pair = match parsed {
        Some(Ok(CdcRecord::Change(change))) => {
            change.meta.commit_lsn.map(|at| (at, change.meta.lsn))
        }
        _ => None,
    };
    // what was read before the mark is at or below it; a new topic goes on above
    let is_another = mark.is_some_and(|mark| pair.is_some_and(|pair| pair > mark.pair()));
    Ok(if is_another {
        Begin::at(log.low)
    } else {
        Begin {
            offset,
            mark,
            gap: None,
        }
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

fn mark_of(facts: &Partition) -> Option<Mark> {
    let source = facts.tail.as_ref()?.source;
    let mark = Mark {
        commit_lsn: source.commit_lsn,
        lsn: source.lsn,
        committed_at: source.committed_at,
    };
    Some(mark).filter(|mark| mark.pair() != (0, 0))
}

fn opened(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    why: String,
    begin: Begin,
) -> Result<Decision, Failure> {
    let known = facts.groups.iter().filter_map(|group| {
        let at = checkpoint(group.committed.as_ref()?)?;
        Some(
            at.epoch
                .max(at.position.map_or(0, |position| position.epoch)),
        )
    });
    let written = facts.tail.iter().map(|event| event.source.epoch);
    let highest = known.chain(written).max().unwrap_or(0);
    let Some(epoch) = highest.checked_add(1) else {
        return Err(Failure::repair(format!(
            "partition {}: epoch 255 is in use, and there is no higher one",
            facts.number
        ))
        .remedy("begin with empty topics, groups and sinks, and a snapshot"));
    };
    let checkpoint = Checkpoint {
        epoch,
        mark: begin.mark,
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

fn reader(broker: &Broker, facts: &Partition, group: &Group) -> Option<Decision> {
    let log = facts.enriched;
    let at = group.committed.as_ref().and_then(checkpoint);
    let (why, offset, checkpoint, gap) = match &group.standing {
        Standing::New | Standing::Agrees { .. } | Standing::Unproven { .. } => return None,
        Standing::Hole {
            offset,
            missing,
            reason,
        } => {
            let (offset, to) = behind(group, at.unwrap_or_default(), *offset, *missing);
            (reason.clone(), offset, to, Some(reason.clone()))
        }
        Standing::Refused(refusal) => {
            let (to, gap) = moved(facts, refusal, at.unwrap_or_default());
            (refusal.to_string(), log.low, to, gap)
        }
    };
    Some(Decision {
        partition: facts.number,
        group: group.name.clone(),
        role: group.role,
        topic: broker.enriched.clone(),
        why,
        from: group.committed.clone(),
        to: Committed {
            offset,
            metadata: checkpoint.to_string(),
        },
        gap,
    })
}

/// A reader stays where it is, and knows what is missing: what stands before the hole is still done. What Redis holds
/// has no place for that, but its position is always right before the hole.
fn behind(group: &Group, at: Checkpoint, offset: i64, missing: Position) -> (i64, Checkpoint) {
    if group.role == Role::Aggregates {
        let to = Checkpoint {
            epoch: missing.epoch,
            position: Some(missing),
            ..Checkpoint::default()
        };
        return (offset, to);
    }
    let to = Checkpoint {
        hole: Some(missing),
        ..at
    };
    (
        group
            .committed
            .as_ref()
            .map_or(offset, |commit| commit.offset),
        to,
    )
}

/// What a reader knows at the start of the log. Its last position stays where the log may still hold it: what is at
/// or below is dropped, and a hole above is seen.
fn moved(facts: &Partition, refusal: &Refusal, at: Checkpoint) -> (Checkpoint, Option<String>) {
    match refusal {
        Refusal::Expired { next, low } => (
            Checkpoint {
                epoch: at.epoch,
                ..Checkpoint::default()
            },
            Some(format!("enriched offsets {next} to {low} expired unread")),
        ),
        Refusal::Metadata { .. } | Refusal::UnknownEnd { .. } => (Checkpoint::default(), None),
        Refusal::Recreated { .. }
        | Refusal::BeyondEnd { .. }
        | Refusal::OtherRecord { .. }
        | Refusal::CommitGone { .. } => (Checkpoint { before: None, ..at }, unread(facts, &at)),
    }
}

/// What was in the old topic beyond what this reader had read, as far as the enricher's commit says.
fn unread(facts: &Partition, at: &Checkpoint) -> Option<String> {
    let enricher = facts
        .groups
        .iter()
        .find(|group| group.role == Role::Enricher)?;
    let written = checkpoint(enricher.committed.as_ref()?)?.position?;
    let read = at.position?;
    (facts.tail.is_none() && (written.epoch, written.offset) > (read.epoch, read.offset))
        .then(|| format!("{read} to {written} were in the old topic and not read"))
}

/// The plan for people.
pub(super) fn text(plan: &[Decision], execute: bool) -> String {
    let mut text = String::new();
    for decision in plan {
        let Decision {
            partition,
            group,
            topic,
            why,
            to,
            ..
        } = decision;
        let _ = writeln!(text, "partition {partition}  group {group}: {why}");
        let _ = writeln!(
            text,
            "    continue at offset {} of {topic} ({})",
            to.offset, to.metadata
        );
        if let Some(gap) = &decision.gap {
            let _ = writeln!(text, "    gap: {gap}");
        }
    }
    let end = match (plan.is_empty(), execute) {
        (true, _) => "nothing to adopt: every group agrees with its log",
        (false, false) => {
            "nothing was written; stop these groups, then: engagectl lineage adopt --execute"
        }
        (false, true) => "start the services again, then find what the gaps cost: engagectl verify",
    };
    let _ = writeln!(text, "{end}");
    text
}

/// The plan for programs.
pub(super) fn json(plan: &[Decision]) -> serde_json::Value {
    plan.iter()
        .map(|decision| {
            json!({
                "partition": decision.partition, "group": decision.group, "topic": decision.topic,
                "why": decision.why, "offset": decision.to.offset, "metadata": decision.to.metadata,
                "gap": decision.gap,
            })
        })
        .collect()
}

/// Writes the plan. Nothing is written while any of its groups has members.
pub(super) async fn execute(
    broker: &Broker,
    aggregates: Option<&Aggregates>,
    plan: &[Decision],
) -> Result<(), Failure> {
    let groups: BTreeSet<&str> = plan
        .iter()
        .map(|decision| decision.group.as_str())
        .collect();
    for group in groups {
        let members = broker.members(group).await?;
        if !members.is_empty() {
            return Err(occupied(group, &members.join(", ")));
        }
    }
    for decision in plan {
        let Decision {
            partition,
            group,
            topic,
            to,
            ..
        } = decision;
        match (decision.role, aggregates, &decision.from) {
            (Role::Aggregates, Some(aggregates), Some(from)) => {
                aggregates.replace(*partition, from, to).await?;
            }
            _ => broker.commit(group, topic, *partition, to).await?,
        }
        eprintln!(
            "partition {partition}, group {group}: continues at offset {}",
            to.offset
        );
    }
    Ok(())
}
