//! The Redis aggregator: the number of events counted for each content.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use devstack::Launch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Names, SinkUnderTest};
use crate::World;
use crate::wait::PATIENCE;

/// A server has sixteen databases unless configured otherwise.
const DATABASES: u32 = 16;

struct Sink {
    server: SocketAddr,
    database: u32,
    client: redis::Client,
}

pub(super) fn make(world: &'static World, _: String) -> BoxFuture<'static, Box<dyn SinkUnderTest>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    async move {
        let database = NEXT.fetch_add(1, Ordering::SeqCst);
        assert!(database < DATABASES, "each check has a database of its own");
        let url = world.stack().redis().url.clone();
        let server = url.trim_start_matches("redis://").trim_end_matches('/');
        let server: SocketAddr = server.parse().unwrap();
        let client = redis::Client::open(format!("redis://{server}/{database}")).unwrap();
        Box::new(Sink {
            server,
            database,
            client,
        }) as Box<dyn SinkUnderTest>
    }
    .boxed()
}

impl Sink {
    /// A busy machine may need longer than the client's own half second.
    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&patient)
            .await;
        connected.unwrap_or_else(|error| panic!("redis does not answer: {error}"))
    }
}

impl SinkUnderTest for Sink {
    fn service(&self) -> &'static str {
        "redis-aggregator"
    }

    fn store(&self) -> SocketAddr {
        self.server
    }

    fn configure(&self, launch: Launch, names: &Names, store: SocketAddr) -> Launch {
        launch
            .env("REDIS_URL", format!("redis://{store}/{}", self.database))
            .args(["--set", "redis.response_timeout=1s"])
            .args([
                "--set",
                &format!("input.dead_letter_topic={}", names.letters),
            ])
    }

    fn holds(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        async {
            let mut connection = self.connection().await;
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg("content:count:*")
                .query_async(&mut connection)
                .await
                .unwrap();
            let mut held = BTreeMap::new();
            for key in keys {
                let count: u64 = redis::cmd("GET")
                    .arg(&key)
                    .query_async(&mut connection)
                    .await
                    .unwrap();
                held.insert(key.trim_start_matches("content:count:").to_owned(), count);
            }
            held
        }
        .boxed()
    }

    fn lineage_arguments(&self, names: &Names) -> Vec<String> {
        vec![
            format!("redis.url=redis://{}/{}", self.server, self.database),
            format!("groups.redis={}", names.name),
        ]
    }

    fn write_point(&self) -> &'static str {
        "redis-aggregator.script.before"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "engage_sink_batch_rows_count",
            "engage_sink_write_seconds_count",
        ]
    }
}
