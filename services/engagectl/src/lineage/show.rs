//! What `lineage show` prints.
//!
//! Invariant: whatever makes the exit code 78 is printed with the words of the service that refuses it, and its remedy.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::broker::Broker;
use super::facts::{Group, Partition};
use super::judge::Standing;
use super::scan::Scan;

/// One partition as it is shown.
pub(super) struct Shown {
    pub(super) facts: Partition,
    /// With `--check`.
    pub(super) scan: Option<Scan>,
}

impl Shown {
    /// Whether a person must repair something.
    pub(super) fn is_violated(&self) -> bool {
        self.facts.unreadable.is_some()
            || self
                .facts
                .groups
                .iter()
                .any(|group| group.standing.is_violated())
            || self.scan.as_ref().is_some_and(Scan::is_violated)
    }
}

/// For people.
pub(super) fn text(broker: &Broker, shown: &[Shown]) -> String {
    let mut text = String::new();
    for Shown { facts, scan } in shown {
        let (cdc, enriched) = (facts.cdc, facts.enriched);
        let _ = writeln!(
            text,
            "partition {}  {} {}..{}  {} {}..{}",
            facts.number,
            broker.cdc,
            cdc.low,
            cdc.high,
            broker.enriched,
            enriched.low,
            enriched.high
        );
        let _ = writeln!(text, "    {}", end_of_chain(facts));
        for group in &facts.groups {
            let _ = writeln!(text, "    {:<28} {}", group.name, standing(group));
        }
        if let Some(scan) = scan {
            let _ = writeln!(text, "    {}", read(scan));
            for (offset, what) in &scan.violations {
                let _ = writeln!(text, "    VIOLATION at offset {offset}: {what}");
            }
        }
    }
    let violated = shown.iter().filter(|shown| shown.is_violated()).count();
    let _ = match violated {
        0 => writeln!(text, "{} partitions, no violation", shown.len()),
        some => writeln!(text, "{} partitions, {some} with violations", shown.len()),
    };
    text
}

fn end_of_chain(facts: &Partition) -> String {
    if let Some(reason) = &facts.unreadable {
        return format!("VIOLATION: {reason}");
    }
    let Some(tail) = &facts.tail else {
        return "the log holds no record".to_owned();
    };
    let source = &tail.source;
    format!(
        "last {} prev {} mark {:x}:{:x} event {}",
        source.position(),
        source.prev,
        source.commit_lsn,
        source.lsn,
        tail.event_id
    )
}

fn standing(group: &Group) -> String {
    let at = group.committed.as_ref().map_or_else(
        || "no position".to_owned(),
        |commit| format!("at {} [{}]", commit.offset, commit.metadata),
    );
    match &group.standing {
        Standing::New => at,
        Standing::Agrees { next } => format!("{at} agrees, continues at {next}"),
        Standing::Unproven { .. } => format!("{at} not compared"),
        Standing::Refused(refusal) => format!("{at} VIOLATION: {refusal}; {}", refusal.remedy()),
        Standing::Hole { offset, reason, .. } => format!(
            "{at} VIOLATION at offset {offset}: {reason}; `engagectl verify` names the events, `engagectl lineage adopt` goes on behind the hole"
        ),
    }
}

fn read(scan: &Scan) -> String {
    format!(
        "checked {} records: {} duplicates in {} out-of-order runs, {} redriven, {} holes, {} unreadable",
        scan.records, scan.duplicates, scan.runs, scan.redriven, scan.holes, scan.unreadable
    )
}

/// For programs.
pub(super) fn json(broker: &Broker, shown: &[Shown]) -> Value {
    let partitions: Vec<Value> = shown.iter().map(partition).collect();
    json!({
        "cdc": broker.cdc,
        "enriched": broker.enriched,
        "partitions": partitions,
        "violated": shown.iter().any(Shown::is_violated),
    })
}

fn partition(shown: &Shown) -> Value {
    let facts = &shown.facts;
    let last = facts.tail.as_ref().map(|event| {
        let source = &event.source;
        json!({
            "position": source.position().to_string(), "prev": source.prev, "event_id": event.event_id,
            "mark": { "commit_lsn": source.commit_lsn, "lsn": source.lsn, "committed_at": source.committed_at.0 },
        })
    });
    let groups: Vec<Value> = facts.groups.iter().map(group).collect();
    json!({
        "partition": facts.number,
        "cdc": { "start": facts.cdc.low, "end": facts.cdc.high },
        "enriched": { "start": facts.enriched.low, "end": facts.enriched.high },
        "last": last,
        "unreadable": facts.unreadable,
        "groups": groups,
        "check": shown.scan.as_ref().map(check),
    })
}

fn group(group: &Group) -> Value {
    let (state, reason, remedy) = match &group.standing {
        Standing::New => ("new", None, None),
        Standing::Agrees { .. } => ("agrees", None, None),
        Standing::Unproven { .. } => ("unproven", None, None),
        Standing::Refused(refusal) => {
            ("refused", Some(refusal.to_string()), Some(refusal.remedy()))
        }
        Standing::Hole { reason, .. } => (
            "hole",
            Some(reason.clone()),
            Some("engagectl lineage adopt"),
        ),
    };
    json!({
        "group": group.name,
        "offset": group.committed.as_ref().map(|commit| commit.offset),
        "checkpoint": group.committed.as_ref().map(|commit| &commit.metadata),
        "state": state, "reason": reason, "remedy": remedy,
    })
}

fn check(scan: &Scan) -> Value {
    let violations: Vec<Value> = scan
        .violations
        .iter()
        .map(|(offset, what)| json!({ "offset": offset, "what": what }))
        .collect();
    json!({
        "records": scan.records, "duplicates": scan.duplicates, "runs": scan.runs, "redriven": scan.redriven,
        "holes": scan.holes, "unreadable": scan.unreadable, "violations": violations,
    })
}
