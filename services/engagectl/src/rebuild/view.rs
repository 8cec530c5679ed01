//! The plan of `rebuild redis`, for people and for programs. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::place::word;
use super::redis::{Part, Plan};

impl Part {
    fn contents(&self) -> usize {
        self.work
            .as_ref()
            .map_or(0, |work| work.made.contents.len())
    }

    fn events(&self) -> i64 {
        self.work.as_ref().map_or(0, |work| work.made.events)
    }

    /// Sums of buckets that ClickHouse brings, because their events were committed before the lane begins.
    fn buckets(&self) -> usize {
        let contents = self
            .work
            .iter()
            .flat_map(|work| work.made.contents.values());
        contents.map(|held| held.buckets.len()).sum()
    }
}

/// For people.
pub(super) fn text(plan: &Plan, executed: bool) -> String {
    let mut text = format!(
        "redis at {}: totals from ClickHouse, windows from {}\n",
        plan.address, plan.topic
    );
    for part in &plan.partitions {
        let _ = writeln!(text, "{}", line(part));
    }
    let to_make = plan.partitions.iter().filter(|part| part.work.is_some());
    let contents: usize = plan.partitions.iter().map(Part::contents).sum();
    let events: i64 = plan.partitions.iter().map(Part::events).sum();
    let works = || plan.partitions.iter().filter_map(|part| part.work.as_ref());
    let records: u64 = works().map(|work| work.replay.records).sum();
    let in_windows: u64 = works().map(|work| work.replay.in_windows).sum();
    let to_make = to_make.count();
    if to_make > 0 {
        let _ = writeln!(
            text,
            "{to_make} partitions: {contents} contents, {events} events; redis-aggregator reads {records} records again, {in_windows} of \
             them for windows"
        );
    }
    if let Some(ttl) = plan.ttl.as_ref().filter(|_| to_make > 0) {
        let _ = writeln!(
            text,
            "the table forgets ({ttl}): totals will lack what it has deleted"
        );
    }
    text.push_str(&ending(plan, to_make, executed));
    text
}

fn ending(plan: &Plan, to_make: usize, executed: bool) -> String {
    match (to_make, executed, plan.members.len()) {
        (0, ..) => "nothing to make: every partition is there; start redis-aggregator, then: engagectl verify --within 60s\n".into(),
        (_, true, _) => "made; start redis-aggregator, then: engagectl verify --within 60s\n".into(),
        (_, false, 0) => "nothing was written; --execute writes it\n".into(),
        (_, false, members) => format!(
            "nothing was written; group {} has {members} members, stop them before --execute: {}\n",
            plan.group,
            plan.members.join(", ")
        ),
    }
}

fn line(part: &Part) -> String {
    let (number, word) = (part.number, word(&part.standing));
    let Some(work) = &part.work else {
        return format!("  partition {number:<3} {word}, stays");
    };
    let goal = work.replay.goal();
    format!(
        "  partition {number:<3} {word}; ClickHouse has everything below offset {}; goes on at {} ({}) with {} contents, {} events",
        work.replay.upto(),
        goal.applied.enriched + 1,
        goal.applied,
        part.contents(),
        part.events()
    )
}

/// For programs.
pub(super) fn json(plan: &Plan, executed: bool) -> Value {
    let partitions: Vec<Value> = plan.partitions.iter().map(part_json).collect();
    json!({
        "redis": plan.address, "topic": plan.topic, "group": plan.group, "members": plan.members, "table_ttl": plan.ttl,
        "partitions": partitions, "executed": executed && plan.partitions.iter().any(|part| part.work.is_some()),
    })
}

fn part_json(part: &Part) -> Value {
    let work = part.work.as_ref();
    json!({
        "partition": part.number,
        "found": word(&part.standing),
        "complete_below": work.map(|work| work.replay.upto()),
        "goes_on_at": work.map(|work| work.replay.goal().applied.enriched + 1),
        "position": work.map(|work| work.replay.goal().applied.to_string()),
        "contents": part.contents(),
        "events": part.events(),
        "records_read_again": work.map_or(0, |work| work.replay.records),
        "window_records": work.map_or(0, |work| work.replay.in_windows),
        "buckets_from_clickhouse": part.buckets(),
    })
}
