//! The counts that readers read, against the totals that they are made from.
//!
//! Invariant: a count that differs is read once more together with its totals, so that a newer one is no difference.

use redis::cmd;

use crate::error::Error;
use crate::redis_state::{Aggregates, Held, WHAT};
use crate::report::{Kind, SinkReport};
use crate::sources::{Options, RedisSource};

/// Keys asked for at once.
const PAGE: usize = 500;

/// `content:count:{id}` is the number of events of the totals.
pub(crate) async fn compare(
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
