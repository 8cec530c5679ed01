//! How a pipeline goes on where a service refuses to: a new epoch for the enricher, a new position for a reader.
//!
//! Invariant: a decision never skips what is still in a log and was not done, and what is lost already is named as a
//! gap. The enricher's decision opens a new epoch, so that no reader takes the new chain for the old one; it keeps the old
//! one only where the same changes get the same positions again.

mod enricher;
mod reader;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;
use service::Failure;
use stream::Committed;

use super::aggregates::Aggregates;
use super::broker::{Broker, occupied};
use super::facts::{Partition, Role};
use super::judge::checkpoint;
use crate::cli::AdoptArgs;

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
    /// What was lost before: to be found by `verify`.
    gap: Option<String>,
}

/// To be said where it matters: a mark that is believed of another database would hide its changes.
const MARK_KEPT: &str = "what was committed before the mark counts as sent already; if the database was restored or replaced, add --new-epoch";

impl Decision {
    /// Whether the enricher goes on with a mark.
    fn keeps_mark(&self) -> bool {
        let to = checkpoint(&self.to);
        self.role == Role::Enricher && to.is_some_and(|to| to.mark.is_some())
    }
}

/// What to write for one partition.
///
/// # Errors
/// The broker cannot be asked, or the epochs are used up.
pub(super) async fn decide(
    broker: &Broker,
    facts: &Partition,
    args: &AdoptArgs,
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
                plan.extend(enricher::decide(broker, facts, group, args.new_epoch).await?);
            }
            Role::Reader | Role::Aggregates => {
                plan.extend(reader::decide(broker, facts, group, args.table));
            }
        }
    }
    Ok(plan)
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
        if decision.keeps_mark() {
            let _ = writeln!(text, "    {MARK_KEPT}");
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
