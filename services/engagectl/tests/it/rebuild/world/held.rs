//! What Redis holds of a test, and whether that is what the log says.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis_aggregator::window::bucket_of;

use super::World;
use super::sums::{self, ByContent, Packs, unequal};
use crate::broker::{WAIT, eventually};

/// In microseconds.
const BUCKET: i64 = 10_000_000;
/// In buckets.
const SPAN: i64 = 60;

/// What Redis holds of one partition.
struct Held {
    pos: BTreeMap<String, String>,
    totals: ByContent,
    window: ByContent,
}

impl Held {
    /// A number of its position; one that nothing else is where it has none.
    fn number(&self, field: &str) -> i64 {
        let text = self.pos.get(field);
        text.and_then(|text| text.parse().ok()).unwrap_or(-9)
    }
}

impl World {
    pub(crate) fn redis_url(&self) -> String {
        self.stack.redis().url.clone()
    }

    async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.stack.redis().url.as_str()).unwrap();
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(WAIT))
            .set_response_timeout(Some(WAIT));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap()
    }

    /// As a new server would be, for this test.
    pub(crate) async fn empty_redis(&self) {
        let mut redis = self.redis().await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*", self.name))
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(!keys.is_empty());
        let _: i64 = redis::cmd("DEL")
            .arg(keys)
            .query_async(&mut redis)
            .await
            .unwrap();
    }

    fn key(&self, partition: i32, rest: &str) -> String {
        format!("{}:{{{partition}}}:{rest}", self.name)
    }

    /// The position of each partition, and whether it was made by a rebuild.
    pub(crate) async fn places(&self) -> Vec<(String, bool)> {
        let mut redis = self.redis().await;
        let mut places = Vec::new();
        for partition in 0..self.partitions {
            let mut ask = redis::cmd("HMGET");
            ask.arg(self.key(partition, "pos")).arg("at").arg("rebuilt");
            let (at, made): (Option<String>, Option<String>) =
                ask.query_async(&mut redis).await.unwrap();
            places.push((at.unwrap_or_default(), made.is_some()));
        }
        places
    }

    /// Waits until Redis holds what the log says: totals, windows, and the counts that readers read.
    pub(crate) async fn counted(&self, when: &str) {
        let mut redis = self.redis().await;
        for partition in 0..self.partitions {
            eventually(&format!("{when}: partition {partition}"), async || {
                self.differs(&mut redis, partition)
                    .await
                    .map_or(Ok(()), Err)
            })
            .await;
        }
    }

    async fn differs(&self, redis: &mut MultiplexedConnection, partition: i32) -> Option<String> {
        let log = &self.logs[partition as usize];
        let held = self.held(redis, partition).await;
        if held.number("enriched") != log.len() as i64 - 1 {
            return Some(format!("{:?} of {}", held.pos, log.len()));
        }
        let mut totals = sums::of_log(log, |_| true);
        for (content, sums) in self.beside.iter().filter(|_| partition == 0) {
            *totals.entry(content.clone()).or_default() += *sums;
        }
        let hi = held.number("hi");
        let window = sums::of_log(log, |at| (hi - SPAN..=hi).contains(&bucket_of(at, BUCKET)));
        let differs = unequal("totals", &totals, &held.totals)
            .or_else(|| unequal(&format!("window at {hi}"), &window, &held.window));
        match differs {
            Some(differs) => Some(differs),
            None => self.wrong_count(redis, &totals).await,
        }
    }

    async fn held(&self, redis: &mut MultiplexedConnection, partition: i32) -> Held {
        let (pos, totals, window): (_, Packs, Packs) = redis::pipe()
            .atomic()
            .hgetall(self.key(partition, "pos"))
            .hgetall(self.key(partition, "t"))
            .hgetall(self.key(partition, &format!("w:{SPAN}")))
            .query_async(redis)
            .await
            .unwrap();
        Held {
            pos,
            totals: sums::of_packs(&totals),
            window: sums::of_packs(&window),
        }
    }

    /// Of the counts that readers read, the first that is not what it must be.
    async fn wrong_count(
        &self,
        redis: &mut MultiplexedConnection,
        totals: &ByContent,
    ) -> Option<String> {
        for (content, sums) in totals {
            let key = format!("{}:count:{content}", self.name);
            let mut ask = redis::cmd("GET");
            let count: Option<i64> = ask.arg(&key).query_async(redis).await.unwrap();
            if count != Some(sums.events) {
                return Some(format!("{key}: expected {}, found {count:?}", sums.events));
            }
        }
        None
    }
}
