//! Where a reader goes on, by what its service refuses. Pure.
//!
//! Invariant: what stands in the log and was not done is read again; a reader's last position is forgotten only where the
//! log no longer holds what follows it.

use engagement::event::Position;
use stream::Committed;
use stream::lineage::{Checkpoint, Refusal};

use super::Decision;
use crate::lineage::broker::Broker;
use crate::lineage::facts::{Group, Partition, Role};
use crate::lineage::judge::{Standing, checkpoint};

/// The decision for a reader's group; `None`: it agrees with its log.
pub(super) fn decide(broker: &Broker, facts: &Partition, group: &Group) -> Option<Decision> {
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
