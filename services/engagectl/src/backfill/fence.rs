//! From where the write-ahead log was to where the live topic is: the offsets behind which nothing of a snapshot can come.
//!
//! Debezium has confirmed everything below the LSN, so it is in the change topic, which ends at C. The enricher has committed C, so what
//! was made of it is in the enriched topic, which ends at E. Both ends are asked for after what they depend on was seen.
//! Invariant: E is never guessed; where one of the steps does not come, the run stops and says which.

use std::time::{Duration, Instant};

use service::Failure;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::source::Source;

/// How long each step may take without any progress.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(250);

/// Waits until everything below `lsn` is in the enriched topic, and says where each partition of that ends. `None`: told to stop.
///
/// # Errors
/// Debezium or the enricher does not get there.
pub(super) async fn wait(
    source: &mut Source,
    log: &Log,
    slot: &str,
    lsn: u64,
    stop: &CancellationToken,
) -> Result<Option<Vec<i64>>, Failure> {
    if !confirmed(source, slot, lsn, stop).await? {
        return Ok(None);
    }
    let changes = log.ends(&log.cdc).await?;
    if !copied(log, &changes, stop).await? {
        return Ok(None);
    }
    log.ends(&log.enriched).await.map(Some)
}

async fn confirmed(
    source: &mut Source,
    slot: &str,
    lsn: u64,
    stop: &CancellationToken,
) -> Result<bool, Failure> {
    let (mut begun, mut last) = (Instant::now(), None);
    loop {
        let Some(at) = source.confirmed(slot).await? else {
            return Err(Failure::repair(format!("there is no replication slot {slot} with a position"))
                .remedy("start the connector, or correct connect.slot: without it nothing live arrives, and nobody can tell what is under way")
                .next("engagectl init"));
        };
        if at >= lsn {
            return Ok(true);
        }
        if last != Some(at) {
            (begun, last) = (Instant::now(), Some(at));
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::try_again(format!(
                "slot {slot} does not confirm: it stands at {at:X}, the snapshot was taken at {lsn:X}"
            ))
            .remedy("Debezium does not run, or its heartbeat is off: repair it, then resume")
            .next("engagectl check"));
        }
        if !pause(stop).await {
            return Ok(false);
        }
    }
}

/// Whether the enricher has committed these ends of the change topic.
async fn copied(log: &Log, changes: &[i64], stop: &CancellationToken) -> Result<bool, Failure> {
    let count = i32::try_from(changes.len()).unwrap_or(i32::MAX);
    let (mut begun, mut last) = (Instant::now(), Vec::new());
    loop {
        let committed = log.committed(&log.enricher, &log.cdc, count).await?;
        let Some(partition) = first_behind(changes, &committed) else {
            return Ok(true);
        };
        if last != committed {
            (begun, last) = (Instant::now(), committed);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::try_again(format!(
                "group {} does not move: partition {partition} of {} ends at {}",
                log.enricher, log.cdc, changes[partition]
            ))
            .remedy("start the enricher, or repair what its /readyz names, then resume")
            .next("engagectl lineage show"));
        }
        if !pause(stop).await {
            return Ok(false);
        }
    }
}

/// The first partition whose commit has not reached its end. An empty one needs none.
fn first_behind(ends: &[i64], committed: &[Option<i64>]) -> Option<usize> {
    let behind = |(end, at): (&i64, &Option<i64>)| *end > 0 && at.is_none_or(|at| at < *end);
    ends.iter().zip(committed).position(behind)
}

async fn pause(stop: &CancellationToken) -> bool {
    let pause = tokio::time::sleep(PAUSE);
    stop.run_until_cancelled(pause).await.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_that_holds_anything_must_be_committed_to_its_end() {
        assert_eq!(first_behind(&[0, 5], &[None, Some(5)]), None);
        assert_eq!(first_behind(&[0, 5], &[None, Some(4)]), Some(1));
        assert_eq!(first_behind(&[3, 5], &[None, Some(9)]), Some(0));
    }
}
