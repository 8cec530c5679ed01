//! Asks the broker where silent partitions end.
//!
//! A lane that fetches is told by every answer where its log ends. One that does not (stopped, waiting for its store, not opened
//! yet, with a full inbox) is told nothing, and a broker that stands still tells nobody anything. Both are found out here.
//!
//! Invariant: the poll thread never waits for an answer, and a busy partition is not asked about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::debug;

use super::group::Group;

/// Pause between two looks, and how long a partition must have been silent to be looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A broker that has not answered after this time does not answer.
const ASK: Duration = Duration::from_secs(4);
/// What the end of the loop waits for a question under way.
const LAST: Duration = Duration::from_millis(500);

/// The questions of one loop.
#[derive(Default)]
pub(super) struct Pulse {
    asking: Option<JoinHandle<()>>,
    asked: Option<Instant>,
}

impl Pulse {
    /// Asks, when it is time, about every partition that has been silent.
    pub(super) fn turn(&mut self, runtime: &Handle, group: &Arc<Group>) {
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < EVERY);
        let is_asking = self.asking.as_ref().is_some_and(|task| !task.is_finished());
        if is_early || is_asking {
            return;
        }
        let silent = group.status.silent(EVERY);
        if silent.is_empty() {
            return;
        }
        self.asked = Some(Instant::now());
        let group = Arc::clone(group);
        self.asking = Some(runtime.spawn_blocking(move || look(&group, &silent)));
    }

    /// The client is about to be closed: a question under way would hold it.
    pub(super) fn end(&mut self, runtime: &Handle) {
        let Some(asking) = self.asking.take() else {
            return;
        };
        let _ = runtime.block_on(async { tokio::time::timeout(LAST, asking).await });
    }
}

fn look(group: &Group, partitions: &[i32]) {
    match group.ends_within(partitions, ASK) {
        Ok(ends) => {
            for (partition, end) in ends {
                group.status.looked(partition, end);
            }
        }
        Err(error) => {
            debug!(topic = %group.topic, ?partitions, %error, "the broker was asked for the ends of the log");
            if let Some(partition) = partitions.first() {
                group.status.no_answer(*partition, &error.to_string());
            }
        }
    }
}
