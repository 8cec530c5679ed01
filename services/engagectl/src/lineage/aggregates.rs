//! The aggregates' position, which stands in Redis beside the sums that it vouches for.
//!
//! Invariant: a position is replaced only where it is still the one that was read, and nothing else of the state is touched.

use std::time::Duration;

use engagement::event::Position;
use service::Failure;
use stream::Committed;
use stream::checkpoint::Checkpoint;

use crate::config::Config;

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Compare and set, in one step.
const REPLACE: &str = "if redis.call('HGET', KEYS[1], 'at') ~= ARGV[1] then return 0 end \
     redis.call('HSET', KEYS[1], 'at', ARGV[2], 'enriched', ARGV[3]) return 1";

/// Where the positions are.
pub(crate) struct Aggregates {
    client: redis::Client,
    prefix: String,
    address: String,
}

impl Aggregates {
    /// `None` where the URL is none, a file of `[redis.tls]` cannot be used, or there are no aggregates.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        Some(Self {
            client: config.redis.client().ok()?,
            prefix: config.redis.prefix.clone(),
            address: config.redis.address(),
        })
        .filter(|_| !config.groups.redis.is_empty())
    }

    /// The position of a partition, in the form of a commit; `None` where nothing is stored.
    pub(crate) async fn position(&self, partition: i32) -> Result<Option<Committed>, Failure> {
        let mut connection = self.connect().await?;
        let stored: Option<String> = redis::cmd("HGET")
            .arg(self.key(partition))
            .arg("at")
            .query_async(&mut connection)
            .await
            .map_err(|error| self.unanswered(&error))?;
        match stored {
            None => Ok(None),
            Some(text) => match as_commit(&text) {
                Some(commit) => Ok(Some(commit)),
                None => Err(Failure::repair(format!(
                    "redis at {} holds the position {text:?} in {}, which is none",
                    self.address,
                    self.key(partition)
                ))
                .remedy("a rebuild that did not come to its end is carried out by running it again; anything else is made anew with --replace")
                .next("engagectl rebuild redis")),
            },
        }
    }

    /// Replaces a position that is still `from`.
    pub(super) async fn replace(
        &self,
        partition: i32,
        from: &Committed,
        to: &Committed,
    ) -> Result<(), Failure> {
        let key = self.key(partition);
        let mut connection = self.connect().await?;
        let done: i64 = redis::cmd("EVAL")
            .arg(REPLACE)
            .arg(1)
            .arg(&key)
            .arg(as_stored(from))
            .arg(as_stored(to))
            .arg(to.offset - 1)
            .query_async(&mut connection)
            .await
            .map_err(|error| self.unanswered(&error))?;
        if done == 1 {
            return Ok(());
        }
        Err(
            Failure::try_again(format!("{key} is not {} any more", as_stored(from)))
                .remedy("stop every aggregator first")
                .next("engagectl lineage adopt --execute"),
        )
    }

    fn key(&self, partition: i32) -> String {
        format!("{}{{{partition}}}:pos", self.prefix)
    }

    async fn connect(&self) -> Result<redis::aio::MultiplexedConnection, Failure> {
        // the client's own half second is short for a busy machine, and an answer given up leaves a write in doubt
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&patient);
        let connected = connecting.await;
        connected.map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &redis::RedisError) -> Failure {
        Failure::unavailable(format!("redis at {}: {error}", self.address))
            .remedy("start it, correct REDIS_URL, or set groups.redis = \"\" where there are no aggregates")
            .next("engagectl check")
    }
}

/// `live/0/3/41~live/0/3/40@57` as a commit of offset 58.
fn as_commit(stored: &str) -> Option<Committed> {
    let (chain, enriched) = stored.split_once('@')?;
    let (source, before) = chain.split_once('~').unwrap_or((chain, chain));
    let position = |text: &str| match text {
        "-" => Some(None),
        text => text.parse::<Position>().ok().map(Some),
    };
    let source = position(source)?;
    let checkpoint = Checkpoint {
        epoch: source.map_or(0, |source| source.epoch),
        position: source,
        before: position(before)?,
        ..Checkpoint::default()
    };
    Some(Committed {
        offset: enriched.parse::<i64>().ok()? + 1,
        metadata: checkpoint.to_string(),
    })
}

/// The inverse.
fn as_stored(commit: &Committed) -> String {
    let checkpoint: Checkpoint = commit.metadata.parse().unwrap_or_default();
    let text = |position: Option<Position>| {
        position.map_or_else(|| "-".to_owned(), |position| position.to_string())
    };
    let chain = if checkpoint.before == checkpoint.position {
        text(checkpoint.position)
    } else {
        format!("{}~{}", text(checkpoint.position), text(checkpoint.before))
    };
    format!("{chain}@{}", commit.offset - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_holds_reads_as_a_commit_and_back() {
        for stored in [
            "-@-1",
            "live/0/3/41@57",
            "live/0/3/41~live/0/3/40@57",
            "live/1/3/41~-@57",
        ] {
            assert_eq!(as_stored(&as_commit(stored).unwrap()), stored);
        }
        for bad in ["", "live/0/3/41", "x@1", "-@x"] {
            assert_eq!(as_commit(bad), None, "{bad}");
        }
    }
}
