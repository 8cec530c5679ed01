//! The enriched topic (or Postgres, where the topic does not reach back far enough) against Redis.
//!
//! Invariant: each partition is compared at the position that Redis itself says; so a moving pipeline is no difference.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::StreamExt;
use tokio::time::Instant;

use crate::error::Error;
use crate::log::Log;
use crate::postgres::Source;
use crate::reader_keys;
use crate::redis_state::{Aggregates, Held, HeldWindow};
use crate::report::{Kind, SinkReport};
use crate::sources::{Options, RedisSource, Sink};
use crate::sums::{Recount, Sums, score};

/// What Redis holds, read before the topic is.
pub(crate) async fn read(source: &RedisSource, log: &Log) -> Result<Vec<Held>, Error> {
    let mut aggregates = Aggregates::open(source).await?;
    let mut all = Vec::new();
    for span in &log.spans {
        let held = aggregates.held(span.partition).await?;
        // Without any state everything is expected: a wiped server is a difference.
        all.push(held.unwrap_or_else(|| Held {
            partition: span.partition,
            opened: false,
            rebuilt: false,
            enriched: span.to - 1,
            totals: HashMap::new(),
            windows: Vec::new(),
            weights: [0; 5],
        }));
    }
    Ok(all)
}

/// An empty recount for each partition, up to where Redis is.
pub(crate) fn recounts(held: &[Held]) -> BTreeMap<i32, Recount> {
    let of = |held: &Held| {
        let windows = held.windows.iter().map(|window| window.window).collect();
        (held.partition, Recount::new(held.enriched, windows))
    };
    held.iter().map(of).collect()
}

/// Compares what was read with what was recounted, and the reader keys with both.
pub(crate) async fn compare(
    source: &RedisSource,
    held: &[Held],
    recounts: &BTreeMap<i32, Recount>,
    log: &Log,
    postgres: &mut Source,
    options: &Options,
) -> Result<SinkReport, Error> {
    let begun = Instant::now();
    options.say("comparing sums in Redis");
    let mut report = SinkReport::new(Sink::Redis);
    if log.is_truncated() {
        against_postgres(held, postgres, options, &mut report).await?;
    }
    let mut otherwise = HashMap::new();
    for held in held {
        let empty = Recount::default();
        let recount = recounts.get(&held.partition).unwrap_or(&empty);
        if !log.is_truncated() {
            let found = of_topic(held, recount, options, &mut report);
            otherwise.extend(found);
        }
        windows(held, recount, log, options, &mut report);
    }
    if !otherwise.is_empty() {
        report.notes.push(format!(
            "{} contents of partitions that were rebuilt hold other totals than the topic gives: compared with Postgres as it is now",
            otherwise.len()
        ));
        in_postgres(otherwise, postgres, options, &mut report).await?;
    }
    if let Some(before) = &source.count_key {
        reader_keys::compare(source, before, held, options, &mut report).await?;
    }
    report.elapsed = begun.elapsed();
    Ok(report)
}

/// Totals against the topic. Those of a partition that was rebuilt also hold what a later snapshot or a backfill brought, which the topic's
/// rule leaves out: where they differ, they are given back, for Postgres to decide.
fn of_topic(
    held: &Held,
    recount: &Recount,
    options: &Options,
    report: &mut SinkReport,
) -> HashMap<String, Sums> {
    let counted = recount.contents.iter();
    let mut expected: HashMap<String, Sums> =
        counted.map(|(id, sums)| (id.clone(), sums[0])).collect();
    let mut otherwise = HashMap::new();
    if !held.rebuilt {
        totals(expected, &held.totals, options, report);
        return otherwise;
    }
    let mut found = held.totals.clone();
    let ids: HashSet<String> = expected.keys().chain(found.keys()).cloned().collect();
    for id in ids {
        let here = found.get(&id).copied().unwrap_or_default();
        if expected.get(&id).copied().unwrap_or_default() != here {
            expected.remove(&id);
            found.remove(&id);
            otherwise.insert(id, here);
        }
    }
    totals(expected, &found, options, report);
    otherwise
}

fn windows(held: &Held, recount: &Recount, log: &Log, options: &Options, report: &mut SinkReport) {
    for (index, window) in held.windows.iter().enumerate() {
        if covers(log, window) {
            compare_window(recount, index, window, options, report);
            compare_rankings(window, &held.weights, options, report);
        } else {
            report.notes.push(format!(
                "partition {}: a window begins before the retained log and was not recomputed",
                held.partition
            ));
        }
    }
    let span = log
        .spans
        .iter()
        .find(|span| span.partition == held.partition);
    let (from, to) = span.map_or((0, 0), |span| (span.from, span.to));
    let done = if held.opened { held.enriched + 1 } else { from };
    report.behind += u64::try_from(to - done).unwrap_or(0);
}

fn covers(log: &Log, window: &HeldWindow) -> bool {
    let begin = (window.window.hi - window.window.span).saturating_mul(window.window.bucket_us);
    log.covered_from.is_none_or(|from| begin >= from.0)
}

fn totals(
    mut expected: HashMap<String, Sums>,
    found: &HashMap<String, Sums>,
    options: &Options,
    report: &mut SinkReport,
) {
    for (id, found) in found {
        let expected = expected.remove(id).unwrap_or_default();
        judge(id, "total", &expected, found, options, report);
    }
    for (id, expected) in expected {
        judge(&id, "total", &expected, &Sums::default(), options, report);
    }
}

fn judge(
    id: &str,
    of: &str,
    expected: &Sums,
    found: &Sums,
    options: &Options,
    report: &mut SinkReport,
) {
    report.compared += expected[0].unsigned_abs();
    if expected == found {
        report.equal += 1;
        return;
    }
    let (kind, count) = match found[0].cmp(&expected[0]) {
        std::cmp::Ordering::Less => (Kind::Missing, &mut report.missing),
        std::cmp::Ordering::Greater => (Kind::Surplus, &mut report.surplus),
        std::cmp::Ordering::Equal => (Kind::Changed, &mut report.changed),
    };
    *count += 1;
    let what = format!("{of}: expected {}, found {}", told(expected), told(found));
    report.name(options.limit, kind, format!("content {id}"), what);
}

fn told(sums: &Sums) -> String {
    let [events, ms, timed, play, pause, finish, click] = sums;
    format!("{events} events ({play}/{pause}/{finish}/{click}), {ms} ms in {timed}")
}

fn compare_window(
    recount: &Recount,
    index: usize,
    held: &HeldWindow,
    options: &Options,
    report: &mut SinkReport,
) {
    let name = format!(
        "window of {} buckets at watermark {}",
        held.window.span, held.window.hi
    );
    let ids: HashSet<&String> = recount.contents.keys().chain(held.sums.keys()).collect();
    for id in ids {
        let expected = recount
            .contents
            .get(id)
            .map_or([0; 7], |sums| sums[1 + index]);
        let mut found = [0; 7];
        if let Some(sums) = held.sums.get(id) {
            found.copy_from_slice(&sums[..7]);
        }
        let compared = report.compared;
        judge(id, &name, &expected, &found, options, report);
        // Events of a window were counted with the totals.
        report.compared = compared;
    }
}

/// A ranking is derived from the sums beside it: every score above zero, no other.
fn compare_rankings(
    held: &HeldWindow,
    weights: &[i64; 5],
    options: &Options,
    report: &mut SinkReport,
) {
    for (kind, ranking) in &held.rankings {
        let mut expected = HashMap::new();
        for (id, values) in &held.sums {
            let mut sums = [0; 7];
            sums.copy_from_slice(&values[..7]);
            let Some(points) = score(kind, &sums, values[7], weights) else {
                report.notes.push(format!(
                    "score {kind} is not known here and was not compared"
                ));
                return;
            };
            if points > 0 {
                expected.insert(id, points);
            }
        }
        let ids: HashSet<&String> = expected.keys().copied().chain(ranking.keys()).collect();
        for id in ids {
            let (expected, found) = (expected.get(id), ranking.get(id));
            if expected != found {
                report.changed += 1;
                let what = format!(
                    "ranking {kind} of {} buckets: expected {expected:?}, found {found:?}",
                    held.window.span
                );
                report.name(options.limit, Kind::Changed, format!("content {id}"), what);
            }
        }
    }
}

async fn against_postgres(
    held: &[Held],
    postgres: &mut Source,
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    report.notes.push(
        "the topic does not reach back to its first record: totals were compared with Postgres as it is now".into(),
    );
    let mut found: HashMap<&String, &Sums> = held.iter().flat_map(|held| &held.totals).collect();
    let mut rows = postgres.totals();
    while let Some((id, expected)) = rows.next().await.transpose()? {
        let found = found.remove(&id).copied().unwrap_or_default();
        judge(&id, "total", &expected, &found, options, report);
    }
    for (id, sums) in found {
        judge(id, "total", &Sums::default(), sums, options, report);
    }
    Ok(())
}

/// Some contents, whose totals are these in Redis.
async fn in_postgres(
    mut found: HashMap<String, Sums>,
    postgres: &mut Source,
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let mut rows = postgres.totals();
    while let Some((id, expected)) = rows.next().await.transpose()? {
        if let Some(sums) = found.remove(&id) {
            judge(&id, "total", &expected, &sums, options, report);
        }
    }
    for (id, sums) in found {
        judge(&id, "total", &Sums::default(), &sums, options, report);
    }
    Ok(())
}
