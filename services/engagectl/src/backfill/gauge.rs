//! How far the live stream is, and those that a run is for.
//!
//! Invariant: it only asks; nothing is joined or committed.

use std::sync::Arc;
use std::time::Duration;

use engagement::event::Micros;
use service::Failure;
use stream::LaneError;
use stream::scan::{Scanner, Span};

use super::log::Log;
use super::throttle::{Bound, CADENCE, Reading};
use crate::kafka;

/// The ClickHouse sink's live topic, and the topic of backfills in the name of each group that a run is for.
pub(super) struct Gauge {
    live: Arc<Scanner>,
    readers: Vec<(String, Arc<Scanner>)>,
    clickhouse: String,
}

impl Gauge {
    /// Of a run that these groups read.
    pub(super) async fn open(log: &Log, readers: Vec<String>) -> Result<Self, Failure> {
        let (settings, clickhouse) = (log.settings.clone(), log.clickhouse.clone());
        let (enriched, lane) = (log.enriched.clone(), log.lane.clone());
        kafka::ask(move || {
            let open = |group: String| {
                let scanner = Scanner::open(&settings, &group, &lane)?;
                Ok((group, Arc::new(scanner)))
            };
            Ok(Self {
                live: Arc::new(Scanner::open(&settings, &clickhouse, &enriched)?),
                readers: readers
                    .into_iter()
                    .map(open)
                    .collect::<Result<_, LaneError>>()?,
                clickhouse,
            })
        })
        .await
    }

    /// How far the live stream is behind, and what has not been read of the backfill.
    pub(super) async fn reading(&self, now: Micros, bound: Bound) -> Result<Reading, Failure> {
        let live = Arc::clone(&self.live);
        let (beyond_stop, beyond_go) = kafka::ask(move || {
            Ok((
                is_behind(&live, now, bound.0)?,
                is_behind(&live, now, bound.go())?,
            ))
        })
        .await?;
        Ok(Reading {
            beyond_stop,
            beyond_go,
            unread: holds_back(&self.unread().await?, &self.clickhouse),
        })
    }

    /// Records of the lane topic that each reader has not committed.
    pub(super) async fn unread(&self) -> Result<Vec<(String, u64)>, Failure> {
        let readers = self.readers.clone();
        kafka::ask(move || {
            let of = |(group, lane): &(String, Arc<Scanner>)| {
                let spans = lane.spans()?;
                let committed = lane.committed(&numbers(&spans))?;
                let unread = spans.iter().map(|span| {
                    let from = committed.get(&span.partition).copied().unwrap_or(0);
                    u64::try_from(span.to - from.max(span.from)).unwrap_or(0)
                });
                Ok((group.clone(), unread.sum()))
            };
            readers.iter().map(of).collect()
        })
        .await
    }
}

/// What is not written faster than it is read: by the ClickHouse sink, where a run is for it, so that no endpoint holds it up.
fn holds_back(unread: &[(String, u64)], clickhouse: &str) -> u64 {
    let of = |(group, unread): &(String, u64)| (group == clickhouse).then_some(*unread);
    let most = || unread.iter().map(|(_, unread)| *unread).max();
    unread.iter().find_map(of).or_else(most).unwrap_or(0)
}

/// Whether the group has something to do that was there so long ago; partitions without a commit are of nobody.
fn is_behind(live: &Scanner, now: Micros, bound: Duration) -> Result<bool, LaneError> {
    let allowed = i64::try_from((bound + CADENCE).as_millis()).unwrap_or(i64::MAX);
    let spans = live.spans()?;
    let committed = live.committed(&numbers(&spans))?;
    let since = live.since(&spans, now.millis().saturating_sub(allowed))?;
    // what was written before that moment ends where this begins
    let is_behind = |span: &Span| {
        committed
            .get(&span.partition)
            .is_some_and(|at| *at < span.from)
    };
    Ok(since.iter().any(is_behind))
}

fn numbers(spans: &[Span]) -> Vec<i32> {
    spans.iter().map(|span| span.partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_slow_does_not_hold_clickhouse_up_and_is_waited_for_where_it_is_alone() {
        let unread = |of: &[(&str, u64)]| -> Vec<(String, u64)> {
            of.iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect()
        };
        let both = unread(&[("clickhouse-sink", 5), ("hooks.crm.backfill", 900)]);
        assert_eq!(holds_back(&both, "clickhouse-sink"), 5);
        assert_eq!(holds_back(&both[1..], "clickhouse-sink"), 900);
        assert_eq!(holds_back(&[], "clickhouse-sink"), 0);
    }
}
