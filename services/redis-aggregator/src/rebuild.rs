//! The state of a partition made from outside, for a Redis that has lost it: what `engagectl rebuild redis` writes.
//!
//! A partition that is being made has a position that no lane takes for one (`rebuilding:<run>:<step>`), so that a lane which is
//! opened meanwhile refuses. Its sums are added by the script that counts, step by step, each compared with the step before; the last
//! step is the one that writes the real position.
//! Invariant: whoever is killed leaves a partition that is begun again, never one that is half counted and looks whole.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, cmd};
use service::Backoff;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Wanted};
use crate::config::Config;
use crate::connection::Connection;
use crate::emitted;
use crate::error::StoreError;
use crate::history::History;
use crate::position::Applied;
use crate::script::{Said, Verdict};
use crate::store::Store;

const BEGIN: &str = include_str!("lua/begin.lua");
/// What the position of a partition that is being made begins with.
const MAKING: &str = "rebuilding:";
/// `enriched` of the steps: below every offset, rising.
const BELOW: i64 = -1_000_000_000_000;
/// Marks what was made from outside.
const REBUILT: &str = "rebuilt";
/// A server that does not answer is asked so often, with pauses of up to half a second.
const ATTEMPTS: u32 = 60;

/// What stands where the position of a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The text; empty where there is nothing, `*` where it is no position of ours.
    at: String,
    rebuilt: bool,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Empty,
    /// A state that was begun to be made and is not whole.
    Begun,
    /// A state that was made from outside, and what a lane has added to it.
    Rebuilt(Applied),
    /// A state that a lane has made.
    Counted(Applied),
    /// Something that is no state of ours.
    Damaged,
}

impl Place {
    /// As the two fields of the key say.
    #[must_use]
    pub fn new(at: &str, rebuilt: bool) -> Self {
        let at = at.to_owned();
        Self { at, rebuilt }
    }

    /// What it says.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.at.as_str(), self.at.parse::<Applied>(), self.rebuilt) {
            ("", ..) => Standing::Empty,
            (at, ..) if at.starts_with(MAKING) => Standing::Begun,
            (_, Ok(applied), true) => Standing::Rebuilt(applied),
            (_, Ok(applied), false) => Standing::Counted(applied),
            (_, Err(_), _) => Standing::Damaged,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// No answer.
    pub async fn read(connection: &mut Connection, key: &str) -> RedisResult<Self> {
        let kind: String = cmd("TYPE").arg(key).query_async(connection).await?;
        let (at, rebuilt) = match kind.as_str() {
            "none" => (Some(String::new()), false),
            "hash" => {
                let mut ask = cmd("HMGET");
                ask.arg(key).arg("at").arg(REBUILT);
                let (at, rebuilt): (Option<String>, Option<String>) =
                    ask.query_async(connection).await?;
                (at, rebuilt.is_some())
            }
            _ => (None, false),
        };
        Ok(Self::new(at.as_deref().unwrap_or("*"), rebuilt))
    }
}

/// What a partition is to say beside its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Where a lane goes on.
    pub applied: Applied,
    /// What kinds of records the sums hold.
    pub history: History,
    /// The bucket of now.
    pub watermark: i64,
}

/// The configuration by which a state is made: of the keys for readers only the counts, which have no end; the others come with
/// the events that the lane counts.
#[must_use]
pub fn quiet(mut config: Config) -> Config {
    for key in [
        &mut config.keys.content_last,
        &mut config.keys.content_stats,
        &mut config.keys.content_users,
        &mut config.keys.minute_bucket,
    ] {
        key.enabled = false;
    }
    config.keys.recent_events.enabled = false;
    config
}

/// An empty batch for sums that were counted elsewhere.
#[must_use]
pub fn batch(config: &Config) -> Batch {
    Batch::new(Wanted {
        bucket_us: config.window.bucket_us(),
        last: false,
        recent: 0,
        users: false,
        minutes: false,
    })
}

/// Makes the state of one partition.
pub struct Maker {
    store: Arc<Store>,
    partition: i32,
    goal: Goal,
    run: u64,
    step: i64,
}

impl Maker {
    /// Drops what the partition holds, if that is still what was found, and begins. `run` tells this process from others.
    ///
    /// # Errors
    /// No answer, or the partition is another one's by now.
    pub async fn begin(
        store: Arc<Store>,
        partition: i32,
        found: &Place,
        goal: Goal,
        run: u64,
    ) -> Result<Self, StoreError> {
        let maker = Self {
            store,
            partition,
            goal,
            run,
            step: 0,
        };
        maker.patiently(async || maker.register().await).await?;
        if maker.patiently(async || maker.clear(found).await).await? {
            Ok(maker)
        } else {
            Err(maker.moved("another one".into(), found.at.clone()))
        }
    }

    /// Adds sums.
    ///
    /// # Errors
    /// No answer, or somebody else writes this partition too.
    pub async fn add(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let next = self.step + 1;
        let enriched = BELOW.saturating_add(next);
        self.write(self.at(next), enriched, batch.encode()).await?;
        self.step = next;
        Ok(())
    }

    /// Writes the position: from then on the partition is a lane's.
    ///
    /// # Errors
    /// As [`Maker::add`].
    pub async fn finish(self) -> Result<(), StoreError> {
        let Applied { enriched, .. } = self.goal.applied;
        let nothing = batch(&self.store.config).encode();
        self.write(self.goal.applied.to_string(), enriched, nothing)
            .await
    }

    fn at(&self, step: i64) -> String {
        format!("{MAKING}{:016x}:{step}", self.run)
    }

    async fn register(&self) -> Result<(), StoreError> {
        self.store.register(self.partition).await.map(drop)
    }

    async fn clear(&self, found: &Place) -> Result<bool, StoreError> {
        let config = &self.store.config;
        let mut begin = cmd("EVAL");
        begin
            .arg(BEGIN)
            .arg(1)
            .arg(self.store.position_key(self.partition))
            .arg(&found.at)
            .arg(self.at(0));
        begin.arg("enriched").arg(BELOW).arg("seq").arg(0);
        begin.arg("hi").arg(self.goal.watermark);
        begin.arg("history").arg(self.goal.history.to_string());
        begin.arg("commit").arg(0);
        begin.arg("bucket").arg(config.window.bucket_us());
        begin.arg("origin").arg(&config.input.enriched_topic);
        begin.arg(REBUILT).arg(1);
        let mut lease = self.store.lease().await?;
        let begun: RedisResult<bool> = begin.query_async(&mut lease.connection).await;
        match begun {
            Ok(begun) => Ok(begun),
            Err(cause) => Err(self.store.failed(&lease, cause).await),
        }
    }

    async fn write(&self, at: String, enriched: i64, payload: Vec<u8>) -> Result<(), StoreError> {
        let key = self.store.position_key(self.partition);
        let expected = self.at(self.step);
        let mut call = self.store.scripts.apply.prepare_invoke();
        call.key(key).arg(&expected).arg(&at).arg(enriched);
        call.arg(self.goal.watermark)
            .arg(self.goal.history.to_string())
            .arg(0)
            .arg(self.goal.watermark)
            .arg(&payload[..]);
        let said = self.patiently(async || self.send(&call).await).await?;
        match said.verdict {
            Verdict::Applied => Ok(()),
            Verdict::Already if said.stored == at => Ok(()),
            _ => Err(self.moved(said.stored, expected)),
        }
    }

    async fn send(&self, call: &redis::ScriptInvocation<'_>) -> Result<Said, StoreError> {
        let mut lease = self.store.lease().await?;
        let answered: RedisResult<Said> = call.invoke_async(&mut lease.connection).await;
        let sent = match answered {
            Ok(said) if self.store.config.redis.cluster => {
                let sent = emitted::send_answered(&mut lease.connection, &said.emitted).await;
                sent.map(|()| said)
            }
            other => other,
        };
        match sent {
            Ok(said) => Ok(said),
            Err(cause) => Err(self.store.failed(&lease, cause).await),
        }
    }

    /// Asks again while it is in doubt whether the server has done it: each step is compared with the one before.
    async fn patiently<T>(
        &self,
        ask: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let never = CancellationToken::new();
        for _ in 1..ATTEMPTS {
            match ask().await {
                Err(error) if error.is_doubt() => {
                    tracing::warn!(partition = self.partition, error = %error, "in doubt, asking again");
                }
                settled => return settled,
            }
            backoff.wait(&never).await;
        }
        ask().await
    }

    fn moved(&self, found: String, expected: String) -> StoreError {
        StoreError::Moved {
            partition: self.partition,
            found,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(at: &str, rebuilt: bool) -> Standing {
        Place::new(at, rebuilt).standing()
    }

    #[test]
    fn a_partition_that_is_being_made_is_no_position_to_a_lane() {
        let at = format!("{MAKING}{:016x}:{}", 7, 3);
        assert_eq!(standing(&at, true), Standing::Begun);
        assert!(at.parse::<Applied>().is_err());
    }

    #[test]
    fn what_stands_there_is_told_apart() {
        let applied: Applied = "live/0/3/41@57".parse().unwrap();
        assert_eq!(standing("", false), Standing::Empty);
        assert_eq!(
            standing("live/0/3/41@57", false),
            Standing::Counted(applied)
        );
        assert_eq!(standing("live/0/3/41@57", true), Standing::Rebuilt(applied));
        for bad in ["*", "what is this"] {
            assert_eq!(standing(bad, false), Standing::Damaged);
        }
    }

    #[test]
    fn windows_are_those_of_the_configuration_that_the_lanes_have() {
        let config = Config::default();
        let quiet = quiet(config.clone());
        assert_eq!(quiet.spans(), config.spans());
        assert_eq!(quiet.problems(), Vec::<String>::new());
        assert!(quiet.keys.content_count.enabled);
    }
}
