//! `engagectl rebuild clickhouse`.
//!
//! Invariant: only positions of clickhouse-sink are written, and only where it would refuse the table or has an empty one; rows come
//! from the sink itself.

use std::fmt::Write as _;

use serde_json::json;
use service::{Exit, Failure};
use stream::checkpoint::Checkpoint;

use super::args::RebuildClickhouseArgs;
use super::idle;
use super::refill::{self, Found, From};
use super::table::Table;
use crate::backfill::{self, Whole};
use crate::cli::Output;
use crate::config::Config;
use crate::reset::Target;
use crate::reset::group::Group;
use crate::reset::plan::{Fact, Move};

const NEXT: &str = "engagectl rebuild clickhouse --execute";

/// A topic that the sink reads, and where it begins in it.
struct Lane {
    topic: String,
    group: Group,
    moves: Vec<Move>,
    records: i64,
}

struct Plan {
    found: Found,
    from: From,
    members: Vec<String>,
    lanes: Vec<Lane>,
    /// What Postgres has, where it is needed.
    whole: Option<Whole>,
}

pub(super) async fn run(
    config: &Config,
    args: &RebuildClickhouseArgs,
    output: Output,
) -> Result<(), Failure> {
    let plan = plan(config).await?;
    if args.execute {
        idle(&config.groups.clickhouse, &plan.members, NEXT)?;
        for lane in plan.in_order() {
            let done = lane.group.commit(&lane.moves).await;
            done.map_err(|failure| failure.next(NEXT))?;
        }
    }
    crate::cli::print(&match output {
        Output::Table => plan.text(args.execute),
        Output::Json => format!("{:#}\n", plan.value(args.execute)),
    });
    Ok(())
}

async fn plan(config: &Config) -> Result<Plan, Failure> {
    let group = |topic: &str| Group::new(&config.kafka, &config.groups.clickhouse, topic);
    let live = group(&config.topics.enriched);
    let facts = live.facts(None, Target::Earliest).await?;
    let found = found(&Table::new(&config.clickhouse)?, &facts).await?;
    refill::needed(found)?;
    let from = From::of(&facts);
    let members = live.members().await?;
    let mut lanes = vec![lane(&config.topics.enriched, live, &facts)?];
    let beside = group(&config.topics.backfill);
    match beside.facts(None, Target::Earliest).await {
        Ok(facts) => lanes.push(lane(&config.topics.backfill, beside, &facts)?),
        // there is no such topic: nothing was ever backfilled
        Err(failure) if failure.exit() == Exit::Usage => {}
        Err(failure) => return Err(failure),
    }
    let whole = match from {
        From::Log => None,
        From::LogAndPostgres(_) => backfill::whole(config).await?,
    };
    Ok(Plan {
        found,
        from,
        members,
        lanes,
        whole,
    })
}

fn lane(topic: &str, group: Group, facts: &[Fact]) -> Result<Lane, Failure> {
    Ok(Lane {
        topic: topic.to_owned(),
        group,
        moves: refill::moves(facts)?,
        records: refill::records(facts),
    })
}

async fn found(table: &Table<'_>, facts: &[Fact]) -> Result<Found, Failure> {
    let Some(rows) = table.rows().await? else {
        return Err(Failure::repair("ClickHouse has no table events_enriched")
            .remedy("make it first; a sink that runs waits for it")
            .next("engagectl init"));
    };
    let highest = table.highest().await?;
    let mut lost = 0;
    for fact in facts {
        let commit = fact.committed.as_ref();
        let stored = commit.and_then(|commit| commit.metadata.parse::<Checkpoint>().ok()?.stored);
        let Some(stored) = stored else { continue };
        let highest = highest.get(&fact.partition).copied();
        let standing = table.standing(Some(&stored), highest).await?;
        let position = (stored.position.epoch, stored.position.offset);
        lost += usize::from(!standing.witness && standing.highest < Some(position));
    }
    Ok(Found {
        rows,
        lost,
        partitions: facts.len(),
    })
}

impl Plan {
    /// In which order the lanes are written: that the table was lost is told by what the commits of the live lane remember, so a run
    /// that is killed before those are written is carried out by the next one.
    fn in_order(&self) -> impl Iterator<Item = &Lane> {
        let (live, beside) = self.lanes.split_at(1);
        beside.iter().chain(live)
    }

    /// What brings the rows that the log does not hold, to be typed once the sink runs.
    fn backfill(&self) -> Option<String> {
        self.whole.as_ref().map(Whole::command)
    }

    fn text(&self, executed: bool) -> String {
        let Found {
            rows,
            lost,
            partitions,
        } = self.found;
        let mut text = format!(
            "the table holds {rows} rows and lacks what clickhouse-sink remembers in {lost} of {partitions} partitions\n{}\n",
            self.from.why(partitions)
        );
        for lane in &self.lanes {
            let moves = lane.moves.len();
            let _ = writeln!(
                text,
                "  {}: begins again in {moves} partitions, {} records to read",
                lane.topic, lane.records
            );
        }
        if let Some(whole) = &self.whole {
            let _ = writeln!(text, "  Postgres: {whole}");
        }
        let _ = match (executed, self.members.len()) {
            (true, _) => writeln!(text, "written; start clickhouse-sink"),
            (false, 0) => writeln!(
                text,
                "nothing was written; --execute writes it, then start clickhouse-sink"
            ),
            (false, members) => writeln!(
                text,
                "nothing was written; {members} members of its group are at work, stop them before --execute: {}",
                self.members.join(", ")
            ),
        };
        if let Some(command) = self.backfill() {
            let _ = writeln!(text, "when it runs, the rest: {command}");
        }
        text.push_str("at last: engagectl verify --sinks clickhouse --within 10m\n");
        text
    }

    fn value(&self, executed: bool) -> serde_json::Value {
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .map(|lane| {
                let moves: Vec<_> = lane
                    .moves
                    .iter()
                    .map(|one| json!({"partition": one.partition, "old": one.from, "new": one.to.offset, "metadata": one.to.metadata}))
                    .collect();
                json!({"topic": lane.topic, "records": lane.records, "moves": moves})
            })
            .collect();
        let source = match self.from {
            From::Log => "log",
            From::LogAndPostgres(_) => "log and postgres",
        };
        json!({
            "rows": self.found.rows, "partitions_lost": self.found.lost, "source": source,
            "why": self.from.why(self.found.partitions), "members": self.members, "lanes": lanes,
            "backfill": self.backfill(), "backfill_rows": self.whole.as_ref().map(Whole::rows), "executed": executed,
        })
    }
}

#[cfg(test)]
mod tests {
    use stream::KafkaSettings;

    use super::*;

    fn lane(topic: &str) -> Lane {
        Lane {
            topic: topic.to_owned(),
            group: Group::new(&KafkaSettings::default(), "g", topic),
            moves: Vec::new(),
            records: 0,
        }
    }

    #[test]
    fn the_commits_that_tell_that_the_table_was_lost_are_written_last() {
        let plan = Plan {
            found: Found {
                rows: 9,
                lost: 1,
                partitions: 1,
            },
            from: From::Log,
            members: Vec::new(),
            lanes: vec![lane("live"), lane("beside")],
            whole: None,
        };
        let order: Vec<&str> = plan.in_order().map(|lane| lane.topic.as_str()).collect();
        assert_eq!(order, ["beside", "live"]);
    }
}
