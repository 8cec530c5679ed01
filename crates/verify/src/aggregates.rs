//! The enriched topic (or Postgres, where the topic does not reach back far enough) against Redis.
//!
//! Invariant: each partition is compared at the position that Redis itself says; so a moving pipeline is no difference.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::StreamExt;
use redis::cmd;
use tokio::time::Instant;

use crate::error::Error;
use crate::log::Log;
use crate::postgres::Source;
use crate::redis_state::{Aggregates, Held, HeldWindow, WHAT};
use crate::report::{Kind, SinkReport};
use crate::sources::{Options, RedisSource, Sink};
use crate::sums::{Recount, Sums, score};

/// Keys asked for at once.
const PAGE: usize = 500;

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
    for held in held {
        let empty = Recount::default();
        let recount = recounts.get(&held.partition).unwrap_or(&empty);
        if !log.is_truncated() {
            let expected = recount
                .contents
                .iter()
                .map(|(id, sums)| (id.clone(), sums[0]));
            totals(expected.collect(), &held.totals, options, &mut report);
        }
        for (index, window) in held.windows.iter().enumerate() {
            if covers(log, window) {
                compare_window(recount, index, window, options, &mut report);
                compare_rankings(window, &held.weights, options, &mut report);
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
    if let Some(before) = &source.count_key {
        reader_keys(source, before, held, options, &mut report).await?;
    }
    report.elapsed = begun.elapsed();
    Ok(report)
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

/// `content:count:{id}` is the number of events of the totals.
async fn reader_keys(
    source: &RedisSource,
    before: &str,
    held: &[Held],
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let mut aggregates = Aggregates::open(source).await?;
    let refused = |e| Error::refused(WHAT, "the counts of contents", e);
    for held in held {
        let ids: Vec<&String> = held.totals.keys().collect();
        for page in ids.chunks(PAGE) {
            let keys: Vec<String> = page.iter().map(|id| format!("{before}{id}")).collect();
            let counts: Vec<Option<i64>> = cmd("MGET")
                .arg(&keys)
                .query_async(&mut aggregates.connection)
                .await
                .map_err(refused)?;
            for (id, count) in page.iter().zip(counts) {
                if count != Some(held.totals[*id][0].max(0)) {
                    again(&mut aggregates, before, held.partition, id, options, report).await?;
                }
            }
        }
    }
    unknown_keys(&mut aggregates, before, held, options, report).await
}

/// A count that differs may only be newer: it is read once more, together with the totals it was made from.
async fn again(
    aggregates: &mut Aggregates<'_>,
    before: &str,
    partition: i32,
    id: &str,
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let (packed, count): (Option<Vec<u8>>, Option<String>) = redis::pipe()
        .atomic()
        .hget(aggregates.totals_key(partition), id)
        .get(format!("{before}{id}"))
        .query_async(&mut aggregates.connection)
        .await
        .map_err(|e| Error::refused(WHAT, "the count of a content", e))?;
    let sums = packed.and_then(|bytes| crate::msgpack::integers::<7>(&bytes));
    let expected = sums.unwrap_or_default()[0].max(0).to_string();
    if count.as_ref() != Some(&expected) {
        report.changed += 1;
        let found = count.unwrap_or_else(|| "nothing".into());
        let what = format!("expected {expected}, found {found}");
        report.name(options.limit, Kind::Changed, format!("{before}{id}"), what);
    }
    Ok(())
}

/// Counts of contents that have no totals.
async fn unknown_keys(
    aggregates: &mut Aggregates<'_>,
    before: &str,
    held: &[Held],
    options: &Options,
    report: &mut SinkReport,
) -> Result<(), Error> {
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<String>) = cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{before}*"))
            .arg("COUNT")
            .arg(1000)
            .query_async(&mut aggregates.connection)
            .await
            .map_err(|e| Error::refused(WHAT, "the keys that readers read", e))?;
        for key in keys {
            let id = key.strip_prefix(before).unwrap_or_default();
            if !held.iter().any(|held| held.totals.contains_key(id))
                && !is_new(aggregates, held, id).await?
            {
                report.surplus += 1;
                report.name(
                    options.limit,
                    Kind::Surplus,
                    key,
                    "no totals stand behind it",
                );
            }
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// A content whose first event came while this was read has totals by now.
async fn is_new(aggregates: &mut Aggregates<'_>, held: &[Held], id: &str) -> Result<bool, Error> {
    let mut ask = redis::pipe();
    for held in held {
        ask.cmd("HEXISTS")
            .arg(aggregates.totals_key(held.partition))
            .arg(id);
    }
    let known: Vec<bool> = ask
        .query_async(&mut aggregates.connection)
        .await
        .map_err(|e| Error::refused(WHAT, "the totals of a content", e))?;
    Ok(known.contains(&true))
}
