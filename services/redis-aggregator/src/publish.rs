//! Publishes the leaderboards: reads the best of every partition, merges them, writes each board as a whole.
//!
//! Invariant: a board is always a complete ranking of some moment; it is replaced atomically and disappears by its TTL
//! when nobody publishes any more. An empty board is deleted, so an idle leaderboard empties.
//!
//! Members of different partitions are disjoint (the content is Kafka's key), so the best of all are among the best of
//! each. One process publishes, whichever partitions it has: the one that holds a lease in Redis, so that no stopped lane
//! stops the boards. Should two publish for a moment, the next round repairs what the slower one wrote, since
//! everything is written again at least every [`REPEAT`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use faults::Point;
use redis::{Cmd, RedisResult, cmd, pipe};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::board::{Description, Leaderboard, merge};
use crate::connection::Connection;
use crate::metrics;
use crate::msgpack::unpack;
use crate::republish::ask_all;
use crate::store::{Store, pass};

/// Boards are written again after this long even if nothing changed.
pub const REPEAT: Duration = Duration::from_secs(5);

/// A publisher that said nothing for so long has lost its turn.
pub const LEASE: Duration = Duration::from_secs(2);

/// Takes or renews the lease; 1: it is ours.
const LEAD: &str = "local holder = redis.call('GET', KEYS[1]) \
     if holder and holder ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1";

/// Publishes until dropped, whenever this process holds the lease.
pub async fn forever(store: Arc<Store>) {
    let mut ticks = interval(store.config.publish.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut publisher = Publisher::new();
    loop {
        ticks.tick().await;
        let began = Instant::now();
        let done = publisher.round(&store).await;
        metrics::published(began.elapsed().as_secs_f64(), done);
    }
}

type Ranking = Vec<(String, i64)>;

/// What was read and written last.
struct Publisher {
    /// Who holds the lease.
    name: u64,
    partitions: Vec<i32>,
    /// Per partition: the version read, and the best of each board.
    read: BTreeMap<i32, (i64, Vec<Ranking>)>,
    written: Option<Instant>,
}

impl Publisher {
    fn new() -> Self {
        Self {
            name: service::backoff::random(),
            partitions: Vec::new(),
            read: BTreeMap::new(),
            written: None,
        }
    }

    async fn leads(&self, store: &Store, connection: &mut Connection) -> RedisResult<bool> {
        cmd("EVAL")
            .arg(LEAD)
            .arg(1)
            .arg(store.publisher_key())
            .arg(self.name)
            .arg(millis(LEASE.max(4 * store.config.publish.every)))
            .query_async(connection)
            .await
    }

    /// One publication; `false` when another process publishes, or Redis did not do it (the lanes wait for it and say so).
    async fn round(&mut self, store: &Store) -> bool {
        let Ok(mut lease) = store.lease().await else {
            return false;
        };
        match self.publish(store, &mut lease.connection).await {
            Ok(done) => done,
            Err(cause) => {
                self.written = None;
                let error = store.failed(&lease, cause).await;
                tracing::warn!(error = %error, "leaderboards not published");
                false
            }
        }
    }

    async fn publish(&mut self, store: &Store, connection: &mut Connection) -> RedisResult<bool> {
        if !self.leads(store, connection).await? {
            self.written = None;
            return Ok(false);
        }
        pass(Point::RedisAggregatorPublishBefore).await?;
        let due = self.written.is_none_or(|at| at.elapsed() >= REPEAT);
        // Asked each time: a partition that has just begun must not wait for a quiet moment of the others.
        self.partitions = partitions(store, connection).await?;
        let changed = self.read_changed(store, connection).await?;
        if changed || due {
            self.write(store, connection).await?;
            self.written = Some(Instant::now());
        }
        faults::reach(Point::RedisAggregatorPublishAfter).await;
        Ok(true)
    }

    /// Reads the partitions whose version moved; whether there were any.
    async fn read_changed(
        &mut self,
        store: &Store,
        connection: &mut Connection,
    ) -> RedisResult<bool> {
        let ask: Vec<Cmd> = self
            .partitions
            .iter()
            .map(|p| command("HGET", &store.position_key(*p), &["seq"]))
            .collect();
        let versions: Vec<Option<i64>> = ask_all(connection, &ask).await?;
        let stale: Vec<(i32, i64)> = std::iter::zip(&self.partitions, versions)
            .map(|(partition, version)| (*partition, version.unwrap_or(-1)))
            .filter(|(partition, version)| {
                self.read
                    .get(partition)
                    .is_none_or(|(read, _)| read != version)
            })
            .collect();
        let boards: Vec<&Leaderboard> = store.config.published().collect();
        let ask: Vec<Cmd> = stale
            .iter()
            .flat_map(|(partition, _)| boards.iter().map(|board| best_of(store, *partition, board)))
            .collect();
        let mut found = ask_all::<Ranking>(connection, &ask).await?.into_iter();
        for (partition, version) in &stale {
            let rankings = found.by_ref().take(boards.len()).collect();
            self.read.insert(*partition, (*version, rankings));
        }
        Ok(!stale.is_empty())
    }

    async fn write(&self, store: &Store, connection: &mut Connection) -> RedisResult<()> {
        for (index, board) in store.config.published().enumerate() {
            let rankings = self
                .read
                .values()
                .map(|(_, rankings)| rankings[index].clone());
            let merged = merge(rankings, board.top);
            let described = if board.needs_description() {
                self.describe(store, connection, index, &merged).await?
            } else {
                HashMap::new()
            };
            let mut replace = pipe();
            replace.atomic().del(&board.key).ignore();
            if !merged.is_empty() {
                replace
                    .add_command(members(board, &merged, &described))
                    .ignore();
                replace
                    .cmd("PEXPIRE")
                    .arg(&board.key)
                    .arg(millis(board.ttl))
                    .ignore();
            }
            replace.exec_async(connection).await?;
        }
        Ok(())
    }

    /// Type and title of the ranked contents, from the partitions that rank them.
    async fn describe(
        &self,
        store: &Store,
        connection: &mut Connection,
        index: usize,
        merged: &Ranking,
    ) -> RedisResult<HashMap<String, Description>> {
        let ranked: std::collections::HashSet<&str> =
            merged.iter().map(|(id, _)| id.as_str()).collect();
        let mut ask = Vec::new();
        let mut asked = Vec::new();
        for (partition, (_, rankings)) in &self.read {
            let ids: Vec<&str> = rankings[index]
                .iter()
                .map(|(id, _)| id.as_str())
                .filter(|id| ranked.contains(id))
                .collect();
            if !ids.is_empty() {
                ask.push(command("HMGET", &store.key(*partition, "t"), &ids));
                asked.push(ids);
            }
        }
        let found: Vec<Vec<Option<Vec<u8>>>> = ask_all(connection, &ask).await?;
        let pairs = std::iter::zip(asked, found).flat_map(|(ids, raw)| std::iter::zip(ids, raw));
        Ok(pairs
            .filter_map(|(id, raw)| Some((id.to_owned(), description(&raw?))))
            .collect())
    }
}

async fn partitions(store: &Store, connection: &mut Connection) -> RedisResult<Vec<i32>> {
    let fields: Vec<String> = cmd("HKEYS")
        .arg(store.meta_key())
        .query_async(connection)
        .await?;
    let mut partitions: Vec<i32> = fields
        .iter()
        .filter_map(|field| field.strip_prefix("p:")?.parse().ok())
        .collect();
    partitions.sort_unstable();
    Ok(partitions)
}

fn best_of(store: &Store, partition: i32, board: &Leaderboard) -> Cmd {
    let key = store.key(
        partition,
        &format!("w:{}:{}", store.config.span_of(board), board.score.name()),
    );
    let mut ask = cmd("ZREVRANGE");
    ask.arg(key).arg(0).arg(board.top - 1).arg("WITHSCORES");
    ask
}

fn members(board: &Leaderboard, merged: &Ranking, described: &HashMap<String, Description>) -> Cmd {
    let unknown = Description::default();
    let mut zadd = cmd("ZADD");
    zadd.arg(&board.key);
    for (id, stored) in merged {
        zadd.arg(board.score.publish(*stored))
            .arg(board.member(id, described.get(id).unwrap_or(&unknown)));
    }
    zadd
}

/// Type and title stand at the end of the packed totals.
fn description(raw: &[u8]) -> Description {
    let values = unpack(raw).unwrap_or_default();
    let text = |index: usize| {
        values
            .get(index)
            .map(crate::msgpack::Packed::text)
            .unwrap_or_default()
    };
    Description {
        content_type: text(10),
        title: text(11),
    }
}

fn command(name: &str, key: &str, args: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(key).arg(args);
    command
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
