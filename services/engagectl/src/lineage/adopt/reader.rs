//! Where a reader goes on, by what its service refuses. Pure.
//!
//! Invariant: what stands in the log and was not done is read again; a reader's last position is forgotten only where the
//! log no longer holds what follows it.

use engagement::event::Position;
use stream::Committed;
use stream::lineage::{Checkpoint, Refusal};

use super::Decision;
use crate::cli::Adopted;
use crate::lineage::broker::Broker;
use crate::lineage::facts::{Group, Partition, Role};
use crate::lineage::judge::{Standing, checkpoint};

/// The decision for a reader's group; `None`: it agrees with its log.
pub(super) fn decide(
    broker: &Broker,
    facts: &Partition,
    group: &Group,
    table: Option<Adopted>,
) -> Option<Decision> {
    let (why, to, gap) = match &group.standing {
        Standing::Refused(_) | Standing::Hole { .. } => refused(facts, group)?,
        Standing::New | Standing::Agrees { .. } | Standing::Unproven { .. } => {
            other_table(facts.enriched.low, group.committed.as_ref()?, table?)?
        }
    };
    Some(Decision {
        partition: facts.number,
        group: group.name.clone(),
        role: group.role,
        topic: broker.enriched.clone(),
        why,
        from: group.committed.clone(),
        to,
        gap,
    })
}

/// Only a group that remembers a row of its table can refuse another one.
fn other_table(
    low: i64,
    committed: &Committed,
    table: Adopted,
) -> Option<(String, Committed, Option<String>)> {
    let at = checkpoint(committed)?;
    let stored = at.stored?;
    let why = format!(
        "its table may lack {} and what came before",
        stored.position
    );
    let (offset, to, gap) = match table {
        // known holes are still known; what stands in the table is recognised by its position
        Adopted::Refill => {
            let to = Checkpoint {
                epoch: at.epoch,
                hole: at.hole,
                ..Checkpoint::default()
            };
            let expired =
                format!("what stood before offset {low} of the enriched topic has expired");
            (low, to, (low > 0).then_some(expired))
        }
        Adopted::AsIs => {
            let to = Checkpoint { stored: None, ..at };
            let gap = "what the table lacks now stays missing".to_owned();
            (committed.offset, to, Some(gap))
        }
    };
    let metadata = to.to_string();
    Some((why, Committed { offset, metadata }, gap))
}

fn refused(facts: &Partition, group: &Group) -> Option<(String, Committed, Option<String>)> {
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
    let metadata = checkpoint.to_string();
    Some((why, Committed { offset, metadata }, gap))
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
                stored: at.stored,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(metadata: &str) -> Committed {
        Committed {
            offset: 58,
            metadata: metadata.to_owned(),
        }
    }

    const STORED: &str = "engage1 epoch=1 position=live/1/3/42 before=live/1/3/42 stored=live/1/3/41@1767882112000000";

    #[test]
    fn a_refill_begins_at_the_start_of_the_log_and_names_what_has_expired() {
        let adopt = |low| other_table(low, &committed(STORED), Adopted::Refill).unwrap();
        let (why, to, gap) = adopt(7);
        assert!(why.contains("live/1/3/41"), "{why}");
        assert_eq!((to.offset, to.metadata.as_str()), (7, "engage1 epoch=1"));
        assert!(gap.unwrap().contains("before offset 7"));
        assert_eq!(adopt(0).2, None);
    }

    #[test]
    fn a_table_that_is_as_it_should_be_is_gone_on_with_and_not_remembered() {
        let (_, to, gap) = other_table(7, &committed(STORED), Adopted::AsIs).unwrap();
        let expected = "engage1 epoch=1 position=live/1/3/42 before=live/1/3/42";
        assert_eq!((to.offset, to.metadata.as_str()), (58, expected));
        assert!(gap.is_some());
    }

    #[test]
    fn a_group_that_remembers_no_row_is_left_alone() {
        for metadata in [
            "engage1 epoch=1 position=live/1/3/42",
            "another tool's words",
        ] {
            let adopted = other_table(7, &committed(metadata), Adopted::Refill);
            assert_eq!(adopted, None);
        }
    }
}
