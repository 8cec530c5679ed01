//! What readers read is written again from the state when a partition is opened.
//!
//! Invariant: after it, no reader key is behind the state because a process died, or because its TTL ran out while
//! nobody was there to write.

use faults::Point;
use redis::{Cmd, RedisResult, cmd, pipe};

use crate::connection::Connection;
use crate::emitted;
use crate::error::StoreError;
use crate::position::State;
use crate::store::{Lease, Store, pass};

/// Writes the minutes that are still kept, and in cluster mode what the last script handed back.
///
/// # Errors
/// No answer, or a key of the state holds something else.
pub async fn after_open(store: &Store, partition: i32, state: &State) -> Result<(), StoreError> {
    let mut lease = store.lease().await?;
    let done = match pass(Point::RedisAggregatorReaderKeysBefore).await {
        Ok(()) => everything(store, &mut lease, partition, state).await,
        lost => lost,
    };
    faults::reach(Point::RedisAggregatorReaderKeysAfter).await;
    match done {
        Ok(()) => Ok(()),
        Err(cause) => Err(store.failed(&lease, cause).await),
    }
}

async fn everything(
    store: &Store,
    lease: &mut Lease,
    partition: i32,
    state: &State,
) -> RedisResult<()> {
    let connection = &mut lease.connection;
    if matches!(connection, Connection::Cluster(_)) {
        emitted::send_pending(connection, &store.pending_key(partition)).await?;
    }
    if store.config.keys.minute_bucket.enabled {
        minutes(store, connection, partition, state).await?;
    }
    Ok(())
}

async fn minutes(
    store: &Store,
    connection: &mut Connection,
    partition: i32,
    state: &State,
) -> RedisResult<()> {
    let key = &store.config.keys.minute_bucket;
    let kept: Vec<(String, i64)> = cmd("ZRANGE")
        .arg(store.key(partition, "ms"))
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query_async(connection)
        .await?;
    for (name, minute) in kept {
        let counts: Vec<(String, i64)> = cmd("HGETALL")
            .arg(store.key(partition, &format!("m:{name}")))
            .query_async(connection)
            .await?;
        let reader = key.of(&name);
        for some in counts.chunks(500) {
            let mut zadd = cmd("ZADD");
            zadd.arg(&reader);
            some.iter()
                .filter(|(_, events)| *events > 0)
                .for_each(|(id, events)| {
                    zadd.arg(*events).arg(id);
                });
            if some.iter().any(|(_, events)| *events > 0) {
                zadd.exec_async(connection).await?;
            }
        }
        if let Some(ttl) = key.ttl {
            let left = left_to_live(
                minute,
                state,
                i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            );
            cmd("EXPIRE")
                .arg(&reader)
                .arg(left)
                .exec_async(connection)
                .await?;
        }
    }
    Ok(())
}

/// As long as the key would have lived: its TTL from the end of the minute on, by the stored watermark.
fn left_to_live(minute: i64, state: &State, ttl: i64) -> i64 {
    let now = state.watermark.saturating_mul(state.bucket_us) / 1_000_000;
    ((minute + 1) * 60 + ttl - now).clamp(1, ttl)
}

/// Sends commands that may belong to different slots and returns the answers in order.
///
/// # Errors
/// No answer, or the server refuses one of them.
pub async fn ask_all<T: redis::FromRedisValue>(
    connection: &mut Connection,
    commands: &[Cmd],
) -> RedisResult<Vec<T>> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    if matches!(connection, Connection::Single(_)) {
        let mut all = pipe();
        commands.iter().for_each(|command| {
            all.add_command(command.clone());
        });
        return all.query_async(connection).await;
    }
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        answers.push(command.query_async(connection).await?);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_written_again_lives_no_longer_than_before() {
        let state = State {
            applied: crate::position::Applied::nothing_before(0),
            history: crate::history::History::Closed,
            watermark: 12 * 6,
            newest_commit: None,
            bucket_us: 10_000_000,
            origin: String::new(),
        };
        assert_eq!(left_to_live(11, &state, 900), 900);
        assert_eq!(left_to_live(2, &state, 900), 360);
        assert_eq!(left_to_live(-20, &state, 900), 1);
    }
}
