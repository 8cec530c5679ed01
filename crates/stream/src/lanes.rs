//! The consumer loop: one poll thread, one task per assigned partition.
//!
//! Invariant: a partition is given back only after its lane has ended and its last commit was sent; a record reaches
//! a lane only from the exact offset that the lane named. See the crate's documentation for the order of a rebalance.

mod closing;
mod committing;
mod context;
mod cursor;
mod engine;
mod group;
mod handle;
mod lane;
mod preflight;
mod pulse;
mod supervisor;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use handle::blocking;
pub use handle::{Committer, LaneHandle};

use crate::error::{LaneError, RunError};
use crate::settings::{InboxLimits, KafkaSettings};
use crate::status::Status;

/// An offset of the group with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Next offset to read.
    pub offset: i64,
    /// What was committed with it; usually a [`crate::checkpoint::Checkpoint`].
    pub metadata: String,
}

/// Where a log starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the oldest record still there.
    pub low: i64,
    /// Offset the next record will get.
    pub high: i64,
}

/// What to consume, and within which limits.
#[derive(Clone, Debug)]
pub struct LanesOptions {
    /// Connection.
    pub settings: KafkaSettings,
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Number of partitions the topic must have, where that matters.
    pub partitions: Option<i32>,
    /// Records and bytes a lane may hold untaken.
    pub inbox: InboxLimits,
    /// How long the first contact with a broker may take.
    pub startup: Duration,
    /// How long a lane may take to end when told to; it is aborted afterwards.
    pub drain: Duration,
    /// First pause before a failed lane is opened again; doubles up to [`Self::retry_max`].
    pub retry_min: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// Wall clock: microseconds since 1970 UTC.
    pub clock: fn() -> i64,
}

impl LanesOptions {
    /// The usual limits.
    #[must_use]
    pub fn new(settings: KafkaSettings, group: &str, topic: &str, clock: fn() -> i64) -> Self {
        Self {
            settings,
            group: group.to_owned(),
            topic: topic.to_owned(),
            partitions: None,
            inbox: InboxLimits::default(),
            startup: Duration::from_secs(30),
            drain: Duration::from_secs(20),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(10),
            clock,
        }
    }
}

/// Consumes until `stop` is cancelled (then `Ok`) or nothing is left to do.
///
/// `lane` is called for each partition whenever it is assigned, and again after a [`LaneError::Retry`]; its future is
/// the lane. A lane that is told to stop (`recv` answers `None`) flushes or drops what it holds and returns `Ok`.
///
/// # Errors
/// See [`RunError`]; [`RunError::kind`] is the exit code.
pub async fn run<F, Fut>(
    options: LanesOptions,
    stop: CancellationToken,
    status: Arc<Status>,
    lane: F,
) -> Result<(), RunError>
where
    F: Fn(LaneHandle) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), LaneError>> + Send + 'static,
{
    if let Some(problem) = options.settings.problems().into_iter().next() {
        return Err(problem.into());
    }
    status.begin(&options.group, &options.topic);
    crate::metrics::nothing_yet(&options.topic, &options.group);
    let consumer = context::connect(&options, &status)?;
    preflight::check(&options, &status, &consumer, &stop).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    // dropping this future must end the thread too
    let stop = stop.child_token();
    let _ended = stop.clone().drop_guard();
    let group = group::Group::new(options, consumer, status);
    let open: supervisor::Open = Arc::new(move |handle| Box::pin(lane(handle)));
    engine::spawn(group, open, stop).await
}
