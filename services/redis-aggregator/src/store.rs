//! The state of the partitions in Redis: opening it, making it, and one shared connection to it.
//!
//! Invariant: a partition without a position is either new or wiped, and the two are told apart before anything is written.

use std::collections::HashMap;
use std::sync::Arc;

use faults::Point;
use redis::{RedisResult, cmd};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::connection::{Connection, Server};
use crate::error::{REBUILD, StoreError};
use crate::history::History;
use crate::position::{Applied, State};
use crate::script::Scripts;

/// A position that is there already is never overwritten: an instance that stood still may come too late.
const INITIALISE: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end \
     redis.call('HSET', KEYS[1], unpack(ARGV)) return 1";

/// The cursor to go on with (0: the end), then fields and values.
type Page = (u64, Vec<(String, Vec<u8>)>);

/// What all lanes share.
pub struct Store {
    /// The configuration.
    pub config: Config,
    /// The scripts.
    pub scripts: Scripts,
    server: Server,
    live: Mutex<Option<(u64, Connection)>>,
    health: service::Condition,
}

/// A connection and which one it is, for [`Store::failed`].
pub struct Lease {
    /// The connection.
    pub connection: Connection,
    generation: u64,
}

impl Store {
    /// For a configuration; nothing is opened yet. `health` follows whether the server answers.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(config: Config, health: service::Condition) -> Result<Arc<Self>, StoreError> {
        let (server, scripts) = (Server::new(&config.redis)?, Scripts::new(&config));
        Ok(Arc::new(Self {
            config,
            scripts,
            server,
            live: Mutex::new(None),
            health,
        }))
    }

    /// Host and port, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// The shared connection, opened and checked if there is none.
    ///
    /// # Errors
    /// No answer, or the server must not be written to.
    pub async fn lease(&self) -> Result<Lease, StoreError> {
        let mut live = self.live.lock().await;
        let generation = match &*live {
            Some((generation, connection)) => {
                return Ok(Lease {
                    connection: connection.clone(),
                    generation: *generation,
                });
            }
            None => service::backoff::random(),
        };
        match self.server.open().await {
            Ok(connection) => {
                *live = Some((generation, connection.clone()));
                self.health.ready();
                Ok(Lease {
                    connection,
                    generation,
                })
            }
            Err(error) => {
                self.health
                    .not_ready(format!("{error}; {}", error.remedy()));
                Err(error)
            }
        }
    }

    /// Sorts an error and forgets a connection that it may have broken: the next lease opens another. Of one that was
    /// forgotten before, the error says nothing of the connection in use.
    pub async fn failed(&self, lease: &Lease, cause: redis::RedisError) -> StoreError {
        let error = self.server.error(cause);
        if error.is_doubt() {
            let mut live = self.live.lock().await;
            if live
                .as_ref()
                .is_some_and(|(generation, _)| *generation == lease.generation)
            {
                *live = None;
                self.health.not_ready(error.to_string());
            }
        }
        error
    }

    /// The key of a partition's position; what it starts with is what every key of that partition starts with.
    #[must_use]
    pub fn position_key(&self, partition: i32) -> String {
        self.key(partition, "pos")
    }

    /// Where, in cluster mode, the script keeps the commands of the last batch.
    #[must_use]
    pub fn pending_key(&self, partition: i32) -> String {
        self.key(partition, "pending")
    }

    /// Any key of a partition.
    #[must_use]
    pub fn key(&self, partition: i32, rest: &str) -> String {
        format!("{}{{{partition}}}:{rest}", self.config.redis.prefix)
    }

    /// The marker of the whole deployment.
    #[must_use]
    pub fn meta_key(&self) -> String {
        format!("{}meta", self.config.redis.prefix)
    }

    /// Who publishes the leaderboards.
    #[must_use]
    pub fn publisher_key(&self) -> String {
        format!("{}publisher", self.config.redis.prefix)
    }

    /// The stored state of a partition; `None` where there is no position.
    ///
    /// # Errors
    /// No answer, or what is there is not ours, or was made from another topic or with other buckets.
    pub async fn read(&self, partition: i32) -> Result<Option<State>, StoreError> {
        let mut lease = self.lease().await?;
        let key = self.position_key(partition);
        if let Err(cause) = pass(Point::RedisAggregatorPositionBefore).await {
            return Err(self.failed(&lease, cause).await);
        }
        let found: RedisResult<HashMap<String, String>> = cmd("HGETALL")
            .arg(&key)
            .query_async(&mut lease.connection)
            .await;
        faults::reach(Point::RedisAggregatorPositionAfter).await;
        let fields = match found {
            Ok(fields) => fields,
            Err(cause) => return Err(self.failed(&lease, cause).await),
        };
        if fields.is_empty() {
            return Ok(None);
        }
        let damaged = |what: String, remedy: String| StoreError::Damaged {
            what: format!("{key}: {what}"),
            remedy,
        };
        let state = State::parse(&fields).map_err(|what| damaged(what, REBUILD.into()))?;
        let topic = &self.config.input.enriched_topic;
        if state.origin != *topic {
            return Err(damaged(
                format!(
                    "made from topic {}, this process reads {topic}",
                    state.origin
                ),
                "use another redis.prefix or another server for another topic".into(),
            ));
        }
        let bucket = self.config.window.bucket_us();
        if state.bucket_us != bucket {
            return Err(damaged(
                format!(
                    "made with buckets of {} us, window.bucket says {bucket} us",
                    state.bucket_us
                ),
                format!("set window.bucket back, or {REBUILD}"),
            ));
        }
        Ok(Some(state))
    }

    /// Makes the state of a new partition, with the markers that tell it from a wiped one. `watermark` is a bucket number.
    /// `false`: another instance has made it meanwhile, and nothing was changed.
    ///
    /// # Errors
    /// No answer.
    pub async fn initialise(
        &self,
        partition: i32,
        applied: Applied,
        watermark: i64,
    ) -> Result<bool, StoreError> {
        let lease = self.register(partition).await?;
        let key = self.position_key(partition);
        let mut hset = cmd("EVAL");
        hset.arg(INITIALISE)
            .arg(1)
            .arg(&key)
            .arg("at")
            .arg(applied.to_string())
            .arg("enriched")
            .arg(applied.enriched);
        hset.arg("hi")
            .arg(watermark)
            .arg("seq")
            .arg(0)
            .arg("history")
            .arg(History::Empty.to_string())
            .arg("commit")
            .arg(0);
        hset.arg("bucket")
            .arg(self.config.window.bucket_us())
            .arg("origin")
            .arg(&self.config.input.enriched_topic);
        let mut connection = lease.connection.clone();
        let made: RedisResult<bool> = hset.query_async(&mut connection).await;
        match made {
            Ok(made) => Ok(made),
            Err(cause) => Err(self.failed(&lease, cause).await),
        }
    }

    /// Notes in the deployment's marker that this partition exists, so that the publisher asks it.
    ///
    /// # Errors
    /// No answer.
    pub async fn register(&self, partition: i32) -> Result<Lease, StoreError> {
        let mut lease = self.lease().await?;
        let mut hset = cmd("HSET");
        hset.arg(self.meta_key())
            .arg("version")
            .arg(1)
            .arg("topic")
            .arg(&self.config.input.enriched_topic);
        hset.arg(format!("p:{partition}")).arg(1);
        let noted: RedisResult<()> = hset.query_async(&mut lease.connection).await;
        match noted {
            Ok(()) => Ok(lease),
            Err(cause) => Err(self.failed(&lease, cause).await),
        }
    }

    /// Counts of contents that the next snapshot may not bring again would stay for ever: they are removed first.
    ///
    /// # Errors
    /// No answer.
    pub async fn forget_counts(&self, partition: i32) -> Result<(), StoreError> {
        let (totals, keys) = (self.key(partition, "t"), &self.config.keys);
        let mut cursor = 0_u64;
        loop {
            let mut lease = self.lease().await?;
            let mut scan = cmd("HSCAN");
            scan.arg(&totals).arg(cursor).arg("COUNT").arg(1000);
            let page: RedisResult<Page> = scan.query_async(&mut lease.connection).await;
            let (next, entries) = match page {
                Ok(page) => page,
                Err(cause) => return Err(self.failed(&lease, cause).await),
            };
            let mut gone = redis::pipe();
            for (id, _) in &entries {
                for key in [&keys.content_count, &keys.content_last, &keys.content_stats] {
                    gone.del(key.of(id)).ignore();
                }
            }
            // a pipeline of nothing is refused by the client
            let done: RedisResult<()> = match entries.is_empty() {
                true => Ok(()),
                false => gone.query_async(&mut lease.connection).await,
            };
            if let Err(cause) = done {
                return Err(self.failed(&lease, cause).await);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

/// A fault point: a command or its answer is lost there.
///
/// # Errors
/// The connection is broken.
pub async fn pass(point: Point) -> RedisResult<()> {
    faults::reach(point).await;
    if faults::fails(point) {
        return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
    }
    Ok(())
}
