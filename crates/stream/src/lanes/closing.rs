//! Ends lanes and the consumer, each within a deadline.
//!
//! Invariant: waiting here is bounded, so that the poll thread stays within `max.poll.interval.ms`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tracing::warn;

use super::group::Group;
use super::supervisor::Lane;

const POLL: Duration = Duration::from_millis(100);
/// After an abort a task ends at its next await; longer is not waited.
const ABORTED: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// Waits for lanes that were told to stop; what is left after `drain` is aborted.
pub(super) fn join(runtime: &Handle, drain: Duration, closing: Vec<Lane>) {
    let aborts: Vec<_> = closing
        .iter()
        .map(|lane| (lane.shared.partition, lane.task.abort_handle()))
        .collect();
    let mut all = Box::pin(join_all(closing.into_iter().map(|lane| lane.task)));
    let joined = runtime.block_on(async { tokio::time::timeout(drain, &mut all).await.is_ok() });
    if joined {
        return;
    }
    for (partition, task) in aborts.iter().filter(|(_, task)| !task.is_finished()) {
        warn!(
            partition,
            drain_s = drain.as_secs(),
            "lane did not end in time: aborted"
        );
        task.abort();
    }
    let _ = runtime.block_on(async { tokio::time::timeout(ABORTED, &mut all).await });
}

/// The last owner closes the consumer by dropping it. A lane that was abandoned still holds it: then it is closed around it.
pub(super) fn close_consumer(group: Arc<Group>) {
    let group = match Arc::try_unwrap(group) {
        Ok(group) if Arc::strong_count(&group.consumer) == 1 => return drop(group),
        Ok(group) => Arc::new(group),
        Err(group) => group,
    };
    if let Err(error) = group.consumer.close_queue() {
        warn!(%error, "consumer not closed");
        return;
    }
    let begun = Instant::now();
    while !group.consumer.closed() && begun.elapsed() < LEAVE {
        drop(group.consumer.poll(POLL));
    }
}
