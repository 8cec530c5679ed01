//! What every partition was where its lane will begin: cuts, rows of the table, records of the log.
//!
//! The order matters: the commits of clickhouse-sink first, then the table (which holds at least what they say), then the end of the log
//! (which holds at least what the table has).

use std::collections::BTreeMap;

use engagement::event::Micros;
use redis_aggregator::config::Config as Aggregator;
use redis_aggregator::history::History;
use redis_aggregator::position::Applied;
use redis_aggregator::rebuild::Goal;
use redis_aggregator::window::bucket_of;
use service::Failure;
use stream::checkpoint::Checkpoint;
use stream::resume::source_position;

use super::cut::{self, Cut};
use super::place;
use super::redis::Servers;
use super::sums::{self, Frame, Made, Replay};
use crate::reset::Target;
use crate::reset::plan::Fact;

/// The lane reads this much more than the longest window, so that hardly an event that was dated ahead has to come from ClickHouse.
const MARGIN_US: i64 = 300_000_000;
/// A log in which nothing was committed for so long stands still: windows end now.
const STILL_US: i64 = 60_000_000;

/// What a partition is to become.
pub(super) struct Work {
    pub(super) replay: Replay,
    pub(super) made: Made,
}

/// What every partition was where its lane will begin.
pub(super) async fn works(
    servers: &Servers<'_>,
    facts: &[Fact],
) -> Result<BTreeMap<i32, Work>, Failure> {
    let until = ends_at(newest_commit(facts), service::clock::now());
    let (frame, watermark, since) = frame(&servers.aggregator, until);
    let cuts = cuts(servers, since).await?;
    let asked: Vec<Cut> = cuts.iter().map(|(cut, _)| cut.clone()).collect();
    eprintln!("summing in ClickHouse");
    let rows = servers.table.sums(&asked, frame).await?;
    let rows = place::by_partition(rows, cuts.len())?;
    let replays = cuts.into_iter().map(|(cut, (applied, history))| {
        let goal = Goal {
            applied,
            history,
            watermark,
        };
        (cut.partition, Replay::new(goal, cut.upto, frame))
    });
    eprintln!("reading the log");
    let replays = servers.log.replay(replays.collect()).await?;
    let works = replays
        .into_iter()
        .zip(rows)
        .map(|((partition, replay), rows)| {
            let made = sums::made(&replay, &rows);
            whole(partition, &made).map(|()| (partition, Work { replay, made }))
        });
    works.collect()
}

/// The buckets that windows need when they end then, the bucket of that moment, and from when on the lane reads.
fn frame(aggregator: &Aggregator, until: i64) -> (Frame, i64, Micros) {
    let bucket_us = aggregator.window.bucket_us();
    let watermark = bucket_of(Micros(until), bucket_us);
    let longest = aggregator.spans().last().map_or(0, |span| span.buckets);
    let frame = Frame {
        oldest: watermark - longest,
        bucket_us,
    };
    let kept = aggregator.keys.minute_bucket.ttl.unwrap_or_default();
    let kept = i64::try_from(kept.as_micros()).unwrap_or(0);
    let back = (longest * bucket_us).max(kept) + MARGIN_US;
    (frame, watermark, Micros(until - back))
}

/// The moment at which windows end: that of the newest commit, and now where nothing comes any more.
fn ends_at(newest: Option<Micros>, now: i64) -> i64 {
    match newest {
        Some(Micros(at)) if now.saturating_sub(at) < STILL_US => at.min(now),
        _ => now,
    }
}

/// The newest commit that clickhouse-sink has read.
fn newest_commit(facts: &[Fact]) -> Option<Micros> {
    let commits = facts.iter().filter_map(|fact| fact.committed.as_ref());
    let marks = commits.filter_map(|commit| commit.metadata.parse::<Checkpoint>().ok()?.mark);
    marks.map(|mark| mark.committed_at).max()
}

/// A partition: its cut, and where its lane begins.
type Begun = (Cut, (Applied, History));

async fn cuts(servers: &Servers<'_>, since: Micros) -> Result<Vec<Begun>, Failure> {
    // before the commits: so what the table holds beyond the last of them is not taken for what comes after the log
    let highest = servers.table.highest().await?;
    let facts = servers.sink.facts(None, Target::Time(since)).await?;
    let facts = servers.log.with_ends(facts).await?;
    let mut cuts = Vec::with_capacity(facts.len());
    for fact in facts {
        let highest = highest.get(&fact.partition).copied();
        cuts.push(begun(servers, fact, highest).await?);
    }
    Ok(cuts)
}

async fn begun(
    servers: &Servers<'_>,
    fact: Fact,
    highest: Option<(u8, i64)>,
) -> Result<Begun, Failure> {
    let commit = fact.committed.as_ref();
    let stored = commit.and_then(|commit| commit.metadata.parse::<Checkpoint>().ok()?.stored);
    let table = servers.table.standing(stored.as_ref(), highest).await?;
    let before = match commit {
        Some(commit) if (fact.log.low + 1..=fact.log.high).contains(&commit.offset) => {
            let at = Fact {
                to: commit.offset,
                ..fact.clone()
            };
            servers.sink.before(&at).await?
        }
        _ => Vec::new(),
    };
    let cut = cut::cut(&fact, table, before.last().map(source_position))?;
    for from in [fact.to.clamp(cut.log.low, cut.upto), cut.log.low] {
        let at = Fact {
            to: from,
            log: cut.log,
            ..fact.clone()
        };
        let before = servers.sink.before(&at).await?;
        if let Some(start) = cut::start(&cut, from, &before) {
            return Ok((cut, start));
        }
    }
    Err(Failure::internal(format!(
        "partition {}: no place to begin at",
        cut.partition
    )))
}

/// The table has all that the log has.
fn whole(partition: i32, made: &Made) -> Result<(), Failure> {
    let Some(first) = made.lacking.first() else {
        return Ok(());
    };
    let contents = made.lacking.len();
    let events: i64 = made.lacking.iter().map(|lack| lack.events).sum();
    Err(Failure::repair(format!(
        "partition {partition}: ClickHouse lacks {events} events of {contents} contents that the enriched topic holds below what its \
         sink has committed, the first of content {}",
        first.content
    ))
    .remedy(
        "totals made from it would be too small. `engagectl verify --sinks clickhouse` names them; what its sink has given up comes back \
         by `engagectl dlq redrive --service clickhouse-sink`, rows that were deleted by a backfill",
    )
    .next("engagectl verify --sinks clickhouse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_reads_more_than_the_longest_window_and_the_minutes_that_are_kept() {
        let aggregator = Aggregator::default();
        let until = 1_767_882_112_000_000;
        let (frame, watermark, since) = frame(&aggregator, until);
        assert_eq!(
            (watermark - frame.oldest, frame.bucket_us),
            (60, 10_000_000)
        );
        assert_eq!(until - since.0, 900_000_000 + MARGIN_US);
    }

    #[test]
    fn windows_end_at_the_newest_commit_and_now_where_nothing_comes() {
        let now = 1_000_000_000;
        assert_eq!(ends_at(Some(Micros(now - 5)), now), now - 5);
        assert_eq!(ends_at(Some(Micros(now + 5)), now), now);
        assert_eq!(ends_at(Some(Micros(now - STILL_US)), now), now);
        assert_eq!(ends_at(None, now), now);
    }
}
