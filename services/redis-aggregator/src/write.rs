//! Writes the changes of one partition, each exactly once.
//!
//! Invariant: `Writer::applied` is what Redis holds or held; a change is confirmed only by the position that Redis
//! answers with. A change that is in doubt is sent again: the comparison inside the script is the re-reading of the
//! position, and both answers, "applied now" and "was applied already", settle it.

use std::sync::Arc;
use std::time::Duration;

use engagement::event::Micros;
use faults::Point;
use redis::RedisResult;
use service::Backoff;
use tokio_util::sync::CancellationToken;

use crate::emitted;
use crate::error::StoreError;
use crate::history::History;
use crate::metrics;
use crate::position::{Applied, State};
use crate::script::{Answer, Verdict};
use crate::store::{Lease, Store, pass};

/// One change of the state.
#[derive(Debug)]
pub struct Change {
    /// The position after it.
    pub applied: Applied,
    /// What kinds of records were counted after it.
    pub history: History,
    /// The newest commit after it.
    pub newest_commit: Option<Micros>,
    /// The watermark to move to, as a bucket number; a lower one than stored changes nothing.
    pub watermark: i64,
    /// The sums, as [`crate::batch::Batch::encode`] gives them.
    pub payload: Vec<u8>,
}

/// The writer of one partition.
pub struct Writer {
    store: Arc<Store>,
    partition: i32,
    state: State,
    /// The watermark at that time: TTLs that were set before may have run out unnoticed.
    opened: i64,
    stop: CancellationToken,
}

/// How a write ended, other than by an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is in Redis.
    Done,
    /// The lane must end; whether it was written is unknown, the position in Redis says it.
    Stopped,
}

impl Writer {
    /// Continues from a state read from Redis.
    #[must_use]
    pub fn new(store: Arc<Store>, partition: i32, state: State, stop: CancellationToken) -> Self {
        let opened = state.watermark;
        Self {
            store,
            partition,
            state,
            opened,
            stop,
        }
    }

    /// The state after the last confirmed change.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Applies a change and waits for as long as Redis is away.
    ///
    /// # Errors
    /// The position in Redis is another one, or gone, or the state is damaged.
    pub async fn apply(&mut self, change: &Change) -> Result<Written, StoreError> {
        let (key, expected) = (
            self.store.position_key(self.partition),
            self.state.applied.to_string(),
        );
        let store = Arc::clone(&self.store);
        let mut call = store.scripts.apply.prepare_invoke();
        call.key(key)
            .arg(expected)
            .arg(change.applied.to_string())
            .arg(change.applied.enriched)
            .arg(change.watermark);
        call.arg(change.history.to_string())
            .arg(change.newest_commit.map_or(0, |at| at.0))
            .arg(self.opened)
            .arg(&change.payload[..]);
        let Some(answer) = self.settle(&call, change.applied).await? else {
            return Ok(Written::Stopped);
        };
        self.state.applied = change.applied;
        self.state.history = change.history;
        self.state.newest_commit = change.newest_commit;
        self.state.watermark = answer.watermark;
        Ok(Written::Done)
    }

    /// Drops the sums of the partition; the position stays.
    ///
    /// # Errors
    /// As [`Writer::apply`].
    pub async fn reset(&mut self, history: History) -> Result<Written, StoreError> {
        self.store.forget_counts(self.partition).await?;
        let (key, at) = (self.store.position_key(self.partition), self.state.applied);
        let store = Arc::clone(&self.store);
        let mut call = store.scripts.reset.prepare_invoke();
        call.key(key).arg(at.to_string()).arg(history.to_string());
        let Some(_) = self.settle(&call, at).await? else {
            return Ok(Written::Stopped);
        };
        self.state.history = history;
        Ok(Written::Done)
    }

    /// Sends the call until an answer settles it; `None` when the lane must end before.
    async fn settle(
        &self,
        call: &redis::ScriptInvocation<'_>,
        target: Applied,
    ) -> Result<Option<Answer>, StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.send(call).await {
                Ok(answer) => return self.judge(answer, target).map(Some),
                Err(error) if error.is_doubt() => {
                    service::metrics::sink_error(metrics::SINK, error.kind());
                    metrics::doubt();
                    tracing::warn!(partition = self.partition, error = %error, "in doubt, asking again");
                }
                Err(error) => return Err(error),
            }
            if !backoff.wait(&self.stop).await {
                return Ok(None);
            }
        }
    }

    async fn send(&self, call: &redis::ScriptInvocation<'_>) -> Result<Answer, StoreError> {
        let mut lease = self.store.lease().await?;
        if let Err(cause) = pass(Point::RedisAggregatorScriptBefore).await {
            return Err(self.store.failed(&lease, cause).await);
        }
        let answered: RedisResult<Answer> = call.invoke_async(&mut lease.connection).await;
        let lost = pass(Point::RedisAggregatorScriptAfter).await;
        match lost.and(answered) {
            Ok(answer) => {
                self.forward(&mut lease, &answer).await?;
                Ok(answer)
            }
            Err(cause) => Err(self.store.failed(&lease, cause).await),
        }
    }

    /// In cluster mode reader keys live in other slots; the script hands the commands back. Where it has run before, its
    /// answer was lost, or only a part of them was sent: they are kept beside the state.
    async fn forward(&self, lease: &mut Lease, answer: &Answer) -> Result<(), StoreError> {
        if !self.store.config.redis.cluster {
            return Ok(());
        }
        let connection = &mut lease.connection;
        let sent = match answer.verdict {
            Verdict::Applied => emitted::send_answered(connection, &answer.emitted).await,
            Verdict::Already => {
                let key = self.store.pending_key(self.partition);
                emitted::send_pending(connection, &key).await
            }
            Verdict::Gap | Verdict::Wiped => Ok(()),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(cause) => Err(self.store.failed(lease, cause).await),
        }
    }

    fn judge(&self, answer: Answer, target: Applied) -> Result<Answer, StoreError> {
        let moved = |found: Option<Applied>| StoreError::Moved {
            partition: self.partition,
            found: found.map_or_else(|| "absent".into(), |at| at.to_string()),
            expected: self.state.applied.to_string(),
        };
        match answer.verdict {
            Verdict::Applied => Ok(answer),
            Verdict::Already if answer.applied == Some(target) => Ok(answer),
            Verdict::Already | Verdict::Gap => Err(moved(answer.applied)),
            Verdict::Wiped => Err(StoreError::Wiped {
                key: self.store.position_key(self.partition),
                partition: self.partition,
                offset: self.state.applied.enriched,
            }),
        }
    }
}
