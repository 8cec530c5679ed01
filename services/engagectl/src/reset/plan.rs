//! What a reset changes, and what that means for whoever reads. Pure.
//!
//! Invariant: a reader of ours gets the commit that it would have written itself at that offset, so that its proof holds and what
//! an old enricher appends behind it is still known as a repeat.

use std::fmt::Write as _;

use engagement::event::{Lane, Position};
use serde_json::{Value, json};
use service::Failure;
use stream::checkpoint::Checkpoint;
use stream::resume::source_position;
use stream::{Committed, Record, Watermarks, redrive};

use crate::config::Groups;

/// What a group does with its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The enricher: its position is the tail of its own output.
    Enricher,
    /// redis-aggregator: its position stands in Redis.
    Aggregates,
    /// clickhouse-sink: the offset, and what the table holds.
    ClickHouse,
    /// A webhook endpoint: the offset.
    Webhook,
    /// A reader that is none of ours.
    Other,
}

impl Kind {
    pub(super) fn of(group: &str, groups: &Groups) -> Self {
        let endpoint = group.strip_prefix(&groups.webhooks);
        match group {
            _ if group == groups.enricher => Self::Enricher,
            _ if group == groups.redis => Self::Aggregates,
            _ if group == groups.clickhouse => Self::ClickHouse,
            _ if endpoint.is_some_and(|rest| rest.starts_with('.')) => Self::Webhook,
            _ => Self::Other,
        }
    }

    /// The others keep their position elsewhere.
    pub(super) const fn goes_by_its_offset(&self) -> bool {
        !matches!(self, Self::Enricher | Self::Aggregates)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Enricher => "enricher",
            Self::Aggregates => "redis-aggregator",
            Self::ClickHouse => "clickhouse-sink",
            Self::Webhook => "webhook-forwarder",
            Self::Other => "another reader",
        }
    }

    /// What happens when it goes on elsewhere.
    const fn meaning(&self) -> &'static str {
        match self {
            Self::Enricher => {
                "the enricher goes on behind the tail of its own output, whatever its offset says: a reset would change nothing"
            }
            Self::Aggregates => {
                "redis-aggregator goes on at the position that stands in Redis beside its sums, whatever its offset says: a reset would \
                 change nothing"
            }
            Self::ClickHouse => {
                "clickhouse-sink reads from there; rows that the table holds already are not written again (their positions stand in \
                 them), so going back doubles nothing and writes what is missing. What is passed over by going forward is missing in the \
                 table until the group goes back (engagectl verify names it)"
            }
            Self::Webhook => {
                "the endpoint gets everything from there, in order; what it had already comes with the same webhook-id and the same body, \
                 and it is for the receiver to know it. What is passed over by going forward is never delivered"
            }
            Self::Other => {
                "this is no group of ours: it reads from there, and what that means is for it to know"
            }
        }
    }
}

/// What is known of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) partition: i32,
    pub(crate) log: Watermarks,
    pub(crate) committed: Option<Committed>,
    /// Where it is to go on.
    pub(crate) to: i64,
}

/// One partition's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) partition: i32,
    pub(crate) from: Option<i64>,
    pub(crate) to: Committed,
}

/// The change of a partition; `before` are the last records below the new offset.
///
/// # Errors
/// The offset is not in the log (64).
pub(crate) fn moved(fact: Fact, before: &[Record], kind: &Kind) -> Result<Move, Failure> {
    let Fact {
        partition,
        log,
        committed,
        to,
    } = fact;
    if !(log.low..=log.high).contains(&to) {
        return Err(Failure::usage(format!(
            "offset {to} of partition {partition} is not in the log, which holds {} to {}",
            log.low, log.high
        ))
        .remedy("give an offset between the two, or --to-earliest"));
    }
    let old = committed.as_ref();
    let ours = old.and_then(|commit| commit.metadata.parse::<Checkpoint>().ok());
    let metadata = match (kind, ours) {
        (Kind::ClickHouse | Kind::Webhook, ours) => {
            there(before, ours.unwrap_or_default()).to_string()
        }
        // a reader that commits as ours do is proven as ours are
        (Kind::Other, Some(ours)) => there(before, ours).to_string(),
        (_, _) => String::new(),
    };
    Ok(Move {
        partition,
        from: old.map(|commit| commit.offset),
        to: Committed {
            offset: to,
            metadata,
        },
    })
}

/// The state of a reader that has read up to there: the last record's position is its proof, the highest one what it has seen.
pub(crate) fn there(before: &[Record], old: Checkpoint) -> Checkpoint {
    let positions = before
        .iter()
        .filter(|record| !redrive::is_copy(record))
        .filter_map(source_position);
    let highest = positions
        .filter(|position: &Position| position.lane == Lane::Live)
        .max_by_key(|position| (position.epoch, position.offset));
    Checkpoint {
        epoch: highest.map_or(old.epoch, |position| position.epoch),
        position: highest,
        before: before.last().and_then(source_position),
        mark: None,
        database: None,
        ..old
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) kind: Kind,
    /// Who is in the group now.
    pub(super) members: Vec<String>,
    pub(super) partitions: Vec<Move>,
}

impl Plan {
    /// The partitions whose offset changes.
    pub(super) fn changes(&self) -> Vec<Move> {
        let changes = self.partitions.iter();
        changes
            .filter(|change| change.from != Some(change.to.offset))
            .cloned()
            .collect()
    }

    /// # Errors
    /// The service does not go by its offset (64), or the group is at work (75).
    pub(super) fn may_be_written(&self) -> Result<(), Failure> {
        let remedy = match self.kind {
            Kind::Enricher => Some((
                "where its topics were made anew or have lost records, adopt that",
                "engagectl lineage adopt",
            )),
            Kind::Aggregates => Some((
                "where Redis has lost it, or holds what it should not, it is made anew from ClickHouse and the log",
                "engagectl rebuild redis",
            )),
            _ => None,
        };
        if let Some((remedy, next)) = remedy {
            return Err(Failure::usage(self.kind.meaning())
                .remedy(remedy)
                .next(next));
        }
        if self.members.is_empty() {
            return Ok(());
        }
        Err(
            Failure::try_again(format!("group {} has members: {}", self.group, self.members.join(", ")))
                .remedy("stop every process of the group first (a member that died is listed until its session ends)")
                .next(format!("engagectl lag --group {}", self.group)),
        )
    }

    pub(super) fn text(&self, executed: bool) -> String {
        let mut text = format!(
            "group {} on {} ({})\n",
            self.group,
            self.topic,
            self.kind.name()
        );
        for change in &self.partitions {
            let Move {
                partition,
                from,
                to,
            } = change;
            let old = from.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
            let _ = writeln!(
                text,
                "  partition {partition:<3} {old} -> {}{}",
                to.offset,
                far(*from, to.offset)
            );
        }
        let _ = writeln!(text, "{}", self.kind.meaning());
        let changes = self.changes().len();
        let _ = match (changes, executed, self.members.len()) {
            (0, _, _) => writeln!(text, "nothing to change"),
            (some, true, _) => writeln!(text, "{some} partitions changed; start the group again"),
            (_, false, 0) => writeln!(text, "nothing was written; --execute writes it"),
            (_, false, members) => writeln!(
                text,
                "nothing was written; the group has {members} members, stop them before --execute: {}",
                self.members.join(", ")
            ),
        };
        text
    }

    pub(super) fn value(&self, executed: bool) -> Value {
        let partitions: Vec<Value> = self
            .partitions
            .iter()
            .map(|change| {
                json!({
                    "partition": change.partition, "old": change.from, "new": change.to.offset,
                    "metadata": change.to.metadata,
                })
            })
            .collect();
        json!({
            "group": self.group, "topic": self.topic, "kind": self.kind.name(), "meaning": self.kind.meaning(),
            "members": self.members, "partitions": partitions, "executed": executed,
        })
    }
}

fn far(from: Option<i64>, to: i64) -> String {
    match from.map(|from| to - from) {
        Some(0) => "  (unchanged)".to_owned(),
        Some(back) if back < 0 => format!("  ({} offsets are read again)", -back),
        Some(forward) => format!("  ({forward} offsets are passed over)"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stream::headers::ENGAGEMENT_SOURCE;

    use super::*;

    fn record(offset: i64, source: &str) -> Record {
        let header = (
            ENGAGEMENT_SOURCE.to_owned(),
            Some(Bytes::from(source.to_owned())),
        );
        Record {
            topic: "enriched".into(),
            partition: 3,
            offset,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: vec![header],
        }
    }

    fn fact(committed: Option<(i64, &str)>, to: i64) -> Fact {
        let committed = committed.map(|(offset, metadata)| Committed {
            offset,
            metadata: metadata.to_owned(),
        });
        let log = Watermarks { low: 10, high: 100 };
        Fact {
            partition: 3,
            log,
            committed,
            to,
        }
    }

    fn plan(kind: Kind, members: &[&str]) -> Plan {
        let change = moved(fact(Some((90, "")), 40), &[], &Kind::Webhook).unwrap();
        let same = moved(fact(Some((40, "")), 40), &[], &Kind::Webhook).unwrap();
        Plan {
            group: "g".into(),
            topic: "t".into(),
            kind,
            members: members.iter().map(|name| (*name).to_owned()).collect(),
            partitions: vec![change, same],
        }
    }

    #[test]
    fn groups_are_told_apart_by_their_configured_names() {
        let groups = Groups::default();
        for (group, kind) in [
            ("enricher", Kind::Enricher),
            ("redis-aggregator", Kind::Aggregates),
            ("clickhouse-sink", Kind::ClickHouse),
            ("webhook-forwarder.crm", Kind::Webhook),
            ("webhook-forwarders", Kind::Other),
            ("mine", Kind::Other),
        ] {
            assert_eq!(Kind::of(group, &groups), kind, "{group}");
        }
    }

    #[test]
    fn a_reader_gets_the_commit_it_would_have_written_there() {
        let before = [
            record(37, "live/1/3/500"),
            record(38, "live/1/3/501"),
            // an old enricher's run stands last
            record(39, "live/1/3/499"),
        ];
        let old = "engage1 epoch=1 position=live/1/3/900 before=live/1/3/900 stored=live/1/3/899@5";
        for kind in [Kind::ClickHouse, Kind::Webhook, Kind::Other] {
            let change = moved(fact(Some((90, old)), 40), &before, &kind).unwrap();
            assert_eq!(change.to.offset, 40);
            assert_eq!(
                change.to.metadata,
                "engage1 epoch=1 position=live/1/3/501 before=live/1/3/499 stored=live/1/3/899@5",
                "{kind:?}"
            );
        }
    }

    #[test]
    fn at_the_start_of_the_log_nothing_has_been_seen_and_what_is_foreign_stays_foreign() {
        let change = moved(
            fact(Some((90, "engage1 epoch=2")), 10),
            &[],
            &Kind::ClickHouse,
        );
        assert_eq!(change.unwrap().to.metadata, "engage1 epoch=2");
        let foreign = moved(fact(Some((90, "their own words")), 40), &[], &Kind::Other);
        assert_eq!(foreign.unwrap().to.metadata, "");
        let new = moved(fact(None, 40), &[], &Kind::Webhook).unwrap();
        assert_eq!(
            (new.from, new.to.metadata.as_str()),
            (None, "engage1 epoch=0")
        );
    }

    #[test]
    fn an_offset_outside_of_the_log_is_refused_with_its_bounds() {
        for to in [9, 101] {
            let refused = moved(fact(None, to), &[], &Kind::Other).unwrap_err();
            assert!(refused.what().contains("10 to 100"), "{}", refused.what());
        }
        assert!(moved(fact(None, 100), &[], &Kind::Other).is_ok());
    }

    #[test]
    fn a_group_at_work_and_one_that_does_not_go_by_its_offset_are_refused() {
        assert!(plan(Kind::ClickHouse, &[]).may_be_written().is_ok());
        let busy = plan(Kind::ClickHouse, &["engage at 127.0.0.1"]).may_be_written();
        assert_eq!(busy.unwrap_err().exit().code(), 75);
        for kind in [Kind::Enricher, Kind::Aggregates] {
            let refused = plan(kind, &[]).may_be_written().unwrap_err();
            assert_eq!(refused.exit().code(), 64);
            assert!(
                refused.what().contains("would change nothing")
                    || refused.what().contains("change nothing")
            );
        }
    }

    #[test]
    fn the_plan_shows_old_and_new_and_writes_only_what_changes() {
        let plan = plan(Kind::Webhook, &["m"]);
        let text = plan.text(false);
        assert!(
            text.contains("90 -> 40  (50 offsets are read again)"),
            "{text}"
        );
        assert!(text.contains("40 -> 40  (unchanged)"));
        assert!(text.contains("1 members") && text.contains("same webhook-id"));
        assert_eq!(plan.changes().len(), 1);
        let value = plan.value(true);
        assert_eq!(
            (&value["partitions"][0]["old"], &value["executed"]),
            (&json!(90), &json!(true))
        );
    }
}
