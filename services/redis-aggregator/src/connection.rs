//! One connection to a server or a cluster, and what is looked at before anything is written to it.
//!
//! Invariant: nothing is written to a server that may throw keys away, nor, after it was started anew with an
//! append-only file, before that file was written afresh.
//!
//! The second half: Redis 7.0 that was killed while it wrote its append-only file drops the torn end at the next start,
//! goes on appending after it, and can count a script twice when it is loaded again (measured: 774 of 904 cut points).
//! A new `run_id` therefore means `BGREWRITEAOF` first. `eng:meta` remembers for which run it was done.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, FromRedisValue, IntoConnectionInfo,
    Pipeline, RedisFuture, RedisResult, TlsCertificates, Value, cmd,
};
use secrecy::ExposeSecret;

use crate::config;
use crate::error::{REBUILD, StoreError};

/// A server or a cluster.
#[derive(Clone)]
pub enum Connection {
    /// One server. It does not reconnect by itself, so a new server is always noticed.
    Single(MultiplexedConnection),
    /// A cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// How to reach it.
#[derive(Clone)]
pub struct Server {
    target: Target,
    address: String,
    meta: String,
    connect_timeout: Duration,
    response_timeout: Duration,
}

#[derive(Clone)]
enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Server {
    /// Reads the settings; nothing is opened yet.
    ///
    /// # Errors
    /// The URL is none, or a file of `[redis.tls]` cannot be used.
    pub fn new(settings: &config::Redis) -> Result<Self, StoreError> {
        let bad = |cause| StoreError::Url { cause };
        let urls: Vec<&str> = settings
            .url
            .expose_secret()
            .split(',')
            .map(str::trim)
            .collect();
        let mut addresses = Vec::new();
        for url in &urls {
            addresses.push(url.into_connection_info().map_err(bad)?.addr().to_string());
        }
        let certificates = certificates(settings)?;
        let target = if settings.cluster {
            let mut builder = ClusterClient::builder(urls)
                .connection_timeout(settings.connect_timeout)
                .response_timeout(settings.response_timeout);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            Target::Cluster(Box::new(builder.build().map_err(bad)?))
        } else {
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(urls[0], certificates),
                None => Client::open(urls[0]),
            };
            Target::Single(Box::new(client.map_err(bad)?))
        };
        Ok(Self {
            target,
            address: addresses.join(","),
            meta: format!("{}meta", settings.prefix),
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
        })
    }

    /// Host and port, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Opens a connection that may be written to.
    ///
    /// # Errors
    /// No answer, or the server must not be written to.
    pub async fn open(&self) -> Result<Connection, StoreError> {
        let mut connection = self.look().await?;
        if let Connection::Single(single) = &mut connection {
            self.rewrite_after_restart(single).await?;
        }
        Ok(connection)
    }

    /// Opens a connection to read by: nothing is changed by opening it.
    ///
    /// # Errors
    /// No answer, or the server must not be written to.
    pub async fn look(&self) -> Result<Connection, StoreError> {
        let mut connection = self.connect().await.map_err(|cause| self.error(cause))?;
        self.check(&mut connection).await?;
        Ok(connection)
    }

    /// Looks at the server without changing it: version and eviction policy.
    ///
    /// # Errors
    /// No answer, or the server must not be written to.
    pub async fn inspect(&self) -> Result<String, StoreError> {
        let mut connection = self.look().await?;
        let server = info(&mut connection, "server")
            .await
            .map_err(|cause| self.error(cause))?;
        Ok(format!(
            "{} at {}",
            server
                .get("redis_version")
                .map_or("unknown version", String::as_str),
            self.address
        ))
    }

    /// An error of the client, with the address.
    #[must_use]
    pub fn error(&self, cause: redis::RedisError) -> StoreError {
        StoreError::of(&self.address, cause)
    }

    async fn connect(&self) -> RedisResult<Connection> {
        match &self.target {
            Target::Single(client) => {
                let options = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.connect_timeout))
                    .set_response_timeout(Some(self.response_timeout));
                client
                    .get_multiplexed_async_connection_with_config(&options)
                    .await
                    .map(Connection::Single)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), StoreError> {
        if matches!(connection, Connection::Cluster(_)) {
            return Ok(()); // INFO is per node; each node's policy is named by `redis-aggregator check` on that node
        }
        let memory = info(connection, "memory")
            .await
            .map_err(|cause| self.error(cause))?;
        match memory.get("maxmemory_policy").map(String::as_str) {
            Some("noeviction") | None => Ok(()),
            Some(policy) => Err(StoreError::Evicts {
                server: self.address.clone(),
                policy: policy.to_owned(),
            }),
        }
    }

    async fn rewrite_after_restart(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        let told = |cause| self.error(cause);
        let run = info(connection, "server")
            .await
            .map_err(told)?
            .remove("run_id")
            .unwrap_or_default();
        let seen: Option<String> = self.meta_field(connection, "run_id").await?;
        let persistence = info(connection, "persistence").await.map_err(told)?;
        if seen.as_deref() == Some(run.as_str())
            || persistence.get("aof_enabled").map(String::as_str) != Some("1")
        {
            return Ok(());
        }
        tracing::info!(
            server = self.address,
            run_id = run,
            "server was started anew, rewriting its append-only file first"
        );
        self.rewrite(connection).await?;
        let stored: RedisResult<()> = cmd("HSET")
            .arg(&self.meta)
            .arg("run_id")
            .arg(run)
            .query_async(connection)
            .await;
        stored.map_err(told)
    }

    /// Until a rewrite that began in this run of the server has ended well. `aof_last_rewrite_time_sec` is -1 before. One
    /// that failed, for want of space for example, is asked for again, once at each opening.
    async fn rewrite(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        let told = |cause| self.error(cause);
        let mut asked = false;
        loop {
            let state = info(connection, "persistence").await.map_err(told)?;
            let is =
                |field: &str, value: &str| state.get(field).is_some_and(|found| found == value);
            if !is("aof_rewrite_in_progress", "1") && !is("aof_rewrite_scheduled", "1") {
                let never = is("aof_last_rewrite_time_sec", "-1");
                match is("aof_last_bgrewrite_status", "ok") {
                    true if !never => return Ok(()),
                    false if asked => return Err(self.unwritten()),
                    _ => {
                        asked = true;
                        self.ask_to_rewrite(connection).await?;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Another lane or process may have asked since the look; the server then says that it is at it.
    async fn ask_to_rewrite(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        match cmd("BGREWRITEAOF").exec_async(connection).await {
            Err(cause) if !cause.to_string().contains("already in progress") => {
                Err(self.error(cause))
            }
            _ => Ok(()),
        }
    }

    fn unwritten(&self) -> StoreError {
        StoreError::Unwritten {
            server: self.address.clone(),
        }
    }

    async fn meta_field<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        field: &str,
    ) -> Result<T, StoreError> {
        let found: RedisResult<T> = cmd("HGET")
            .arg(&self.meta)
            .arg(field)
            .query_async(connection)
            .await;
        found.map_err(|cause| match self.error(cause) {
            StoreError::Damaged { what, .. } => StoreError::Damaged {
                what: format!("{} is no hash: {what}", self.meta),
                remedy: REBUILD.into(),
            },
            other => other,
        })
    }
}

/// The files of `[redis.tls]`; `None` where none is set.
fn certificates(settings: &config::Redis) -> Result<Option<TlsCertificates>, StoreError> {
    if settings.tls.is_empty() {
        return Ok(None);
    }
    let pem = settings.tls.read("redis").map_err(StoreError::Tls)?;
    let client_tls = pem.client.map(|(client_cert, client_key)| ClientTlsConfig {
        client_cert,
        client_key,
    });
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert: pem.ca,
    }))
}

async fn info(
    connection: &mut impl ConnectionLike,
    section: &str,
) -> RedisResult<HashMap<String, String>> {
    let text: String = cmd("INFO").arg(section).query_async(connection).await?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    #[test]
    fn a_url_that_is_none_is_refused_without_showing_the_password() {
        let settings = config::Redis {
            url: SecretString::from("reddis://:secret@host"),
            ..config::Redis::default()
        };
        let error = Server::new(&settings).err().unwrap();
        assert!(matches!(error, StoreError::Url { .. }));
        assert!(!format!("{error} {}", error.remedy()).contains("secret"));
    }

    #[test]
    fn the_address_carries_no_credentials() {
        let settings = config::Redis {
            url: SecretString::from("redis://u:secret@h:6380/2"),
            ..config::Redis::default()
        };
        assert_eq!(Server::new(&settings).unwrap().address(), "h:6380");
    }
}
