//! Where a partition goes on, and the proof that its topic is still the one the sums were made from.
//!
//! Invariant: a partition starts at zero only if its group has never applied anything.

use engagement::event::Position;
use faults::Point;
use stream::checkpoint::Checkpoint;
use stream::lineage::{reader_proof, reader_resume};
use stream::resume::{refused, source_position};
use stream::{Committed, LaneError, LaneHandle, Watermarks};

use crate::error::StoreError;
use crate::history::History;
use crate::position::{Applied, State};
use crate::republish;
use crate::store::Store;

/// An opened partition.
pub struct Opened {
    /// What Redis says.
    pub state: State,
}

/// Reads the position from Redis and proves it, or makes a new one.
///
/// # Errors
/// `Stop` when Redis was wiped or the topic is another one; `Retry` when one of them does not answer.
pub async fn open(handle: &LaneHandle, store: &Store) -> Result<Opened, LaneError> {
    let partition = handle.partition();
    crate::metrics::opened(partition);
    let log = handle.watermarks().await?;
    let Some(state) = store.read(partition).await? else {
        if let Some(committed) = handle
            .committed()
            .filter(|committed| has_applied(committed))
        {
            let key = store.position_key(partition);
            return Err(StoreError::Wiped {
                key,
                partition,
                offset: committed.offset - 1,
            }
            .into());
        }
        return begin(handle, store, log).await;
    };
    store.register(partition).await?;
    prove(handle, &state.applied, log).await?;
    republish::after_open(store, partition, &state).await?;
    tracing::info!(partition, position = %state.applied, "continuing from the position in redis");
    Ok(Opened { state })
}

async fn begin(handle: &LaneHandle, store: &Store, log: Watermarks) -> Result<Opened, LaneError> {
    // a start that was chosen before stays chosen: what has expired since was never counted
    let first = handle.committed().map_or(log.low, |commit| commit.offset);
    let applied = Applied::nothing_before(first);
    prove(handle, &applied, log).await?;
    is_whole(store, handle.partition(), first)?;
    faults::reach(Point::RedisAggregatorBeginBefore).await;
    if faults::fails(Point::RedisAggregatorBeginBefore) {
        return Err(LaneError::retry("redis does not answer"));
    }
    if !store.initialise(handle.partition(), applied, 0).await? {
        return Err(LaneError::retry(
            "another instance has begun this partition meanwhile",
        ));
    }
    faults::reach(Point::RedisAggregatorBeginAfter).await;
    handle
        .commit_now(first, Checkpoint::default().to_string())
        .await?;
    tracing::info!(
        partition = handle.partition(),
        offset = first,
        "no position in redis, beginning where the group stands"
    );
    let state = State {
        applied,
        history: History::Empty,
        watermark: 0,
        newest_commit: None,
        bucket_us: store.config.window.bucket_us(),
        origin: store.config.input.enriched_topic.clone(),
    };
    Ok(Opened { state })
}

/// Totals that begin in the middle are no totals, unless that is what is wanted.
fn is_whole(store: &Store, partition: i32, first: i64) -> Result<(), LaneError> {
    if first == 0 {
        return Ok(());
    }
    if !store.config.input.partial_totals {
        return Err(StoreError::Partial { partition, first }.into());
    }
    crate::metrics::partial(partition);
    tracing::warn!(partition, first, "totals are counted from here only");
    Ok(())
}

/// Whether a commit speaks of records that were applied; one of a fresh start does not.
fn has_applied(committed: &Committed) -> bool {
    match committed.metadata.parse::<Checkpoint>() {
        Ok(checkpoint) => checkpoint.position.is_some() || checkpoint.before.is_some(),
        Err(_) => committed.offset > 0,
    }
}

/// Rule 5, with the position of Redis in place of the committed one: the record there must be the one that was applied.
async fn prove(handle: &LaneHandle, applied: &Applied, log: Watermarks) -> Result<(), LaneError> {
    let checkpoint = Checkpoint {
        epoch: applied.source.map_or(0, |source| source.epoch),
        position: applied.source,
        before: applied.before,
        ..Checkpoint::default()
    };
    let next = applied.enriched + 1;
    let stored = Committed {
        offset: next,
        metadata: checkpoint.to_string(),
    };
    reader_resume(log, Some(&stored)).map_err(|refusal| refused(handle, &refusal))?;
    let Some(expected) = applied.before.filter(|_| applied.enriched >= log.low) else {
        return Ok(());
    };
    let found = position_at(handle, applied.enriched).await?;
    reader_proof(next, expected, Some(found)).map_err(|refusal| refused(handle, &refusal))
}

/// The source position of the record at an offset that is within the log.
async fn position_at(handle: &LaneHandle, offset: i64) -> Result<Option<Position>, LaneError> {
    let record = handle
        .read_one(handle.topic(), handle.partition(), offset)
        .await?;
    Ok(record.as_ref().and_then(source_position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_commit_that_speaks_of_records_means_that_redis_was_wiped() {
        let committed = |offset, metadata: &str| Committed {
            offset,
            metadata: metadata.to_owned(),
        };
        assert!(!has_applied(&committed(0, "engage1 epoch=0")));
        assert!(!has_applied(&committed(7, "engage1 epoch=0")));
        assert!(has_applied(&committed(
            7,
            "engage1 epoch=0 position=live/0/3/6"
        )));
        assert!(has_applied(&committed(7, "another tool's words")));
        assert!(!has_applied(&committed(0, "")));
    }
}
