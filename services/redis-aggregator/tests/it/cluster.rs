//! Cluster mode, on a real cluster of one node: reader keys are written by commands that the script hands back.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::cluster_async::ClusterConnection;
use redis_aggregator::config::Config;
use redis_aggregator::republish;
use redis_aggregator::store::Store;
use redis_aggregator::write::{Writer, Written};
use tokio_util::sync::CancellationToken;

use crate::scripts::{NOW, change};
use crate::support::*;

/// A server that has all slots; killed when dropped.
struct Node {
    child: Child,
    directory: std::path::PathBuf,
    url: String,
}

impl Node {
    async fn start() -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(unique("redis-cluster"));
        std::fs::create_dir_all(&directory).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--cluster-enabled", "yes", "--save", "", "--dir"])
            .arg(&directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self {
            child,
            directory,
            url: format!("redis://127.0.0.1:{port}/"),
        };
        eventually("the node takes its slots", || node.take_slots()).await;
        node
    }

    async fn take_slots(&self) -> Result<(), String> {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let connection = client.get_multiplexed_async_connection().await;
        let mut connection = connection.map_err(|error| error.to_string())?;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16383);
        // the second time they are busy: what counts is the state
        let _: Result<(), _> = slots.query_async(&mut connection).await;
        let info: String = redis::cmd("CLUSTER")
            .arg("INFO")
            .query_async(&mut connection)
            .await
            .unwrap();
        info.contains("cluster_state:ok").then_some(()).ok_or(info)
    }

    async fn connect(&self) -> ClusterConnection {
        let client = redis::cluster::ClusterClient::new(vec![self.url.as_str()]).unwrap();
        client.get_async_connection().await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One whose cluster bus, 10000 above, is a port too.
fn free_port() -> u16 {
    let listeners: Vec<_> = (0..50)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port());
    let mut ports = ports.filter(|port| *port < 55_000);
    ports.next().unwrap()
}

/// Two writers that know the same state, as one that has lost an answer knows what was before.
async fn twins(config: &Config) -> (Writer, Writer, std::sync::Arc<Store>) {
    let writer = crate::scripts::writer(config).await;
    let health = service::Health::default().condition("redis");
    let store = Store::new(config.clone(), health).unwrap();
    let state = store.read(0).await.unwrap().unwrap();
    let twin = Writer::new(
        std::sync::Arc::clone(&store),
        0,
        state,
        CancellationToken::new(),
    );
    (writer, twin, store)
}

fn in_cluster(node: &Node, name: &str) -> Config {
    let mut config = config(&unique(name), &node.url);
    config.redis.cluster = true;
    config
}

/// The names of everything that readers see.
async fn reader_keys(connection: &mut ClusterConnection, config: &Config) -> Vec<String> {
    let pattern = format!("{}:*", config.input.enriched_topic);
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg(pattern)
        .query_async(connection)
        .await
        .unwrap();
    keys.retain(|key| !key.contains("{0}") && !key.ends_with(":meta"));
    keys.sort();
    keys
}

/// The recent events of all contents: `key id`.
async fn recent(connection: &mut ClusterConnection, config: &Config) -> Vec<String> {
    let mut entries = Vec::new();
    for key in reader_keys(connection, config).await {
        if key.contains("recent_events") {
            let found: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
                .arg(&key)
                .arg("-")
                .arg("+")
                .query_async(connection)
                .await
                .unwrap();
            entries.extend(found.into_iter().map(|(id, _)| format!("{key} {id}")));
        }
    }
    entries
}

#[tokio::test]
async fn what_readers_read_is_complete_when_the_answer_of_the_script_was_lost() {
    let node = Node::start().await;
    let config = in_cluster(&node, "lost");
    let mut connection = node.connect().await;
    let (mut first, mut twin, _) = twins(&config).await;
    let batch = change(&config, &first, &random_log(3, 0, 60, NOW), NOW);
    assert_eq!(first.apply(&batch).await.unwrap(), Written::Done);
    let complete = reader_keys(&mut connection, &config).await;
    let entries = recent(&mut connection, &config).await;
    for kind in [
        "content:last",
        "content:count",
        "content_stats",
        "content_users",
        "top:content:bucket",
    ] {
        assert!(
            complete.iter().any(|key| key.contains(kind)),
            "no {kind} in {complete:?}"
        );
    }
    assert!(!entries.is_empty());
    for lost in complete.iter().step_by(2) {
        let mut del = redis::cmd("DEL");
        del.arg(lost).exec_async(&mut connection).await.unwrap();
    }
    // the answer is "was applied already": every second command was not sent
    assert_eq!(twin.apply(&batch).await.unwrap(), Written::Done);
    assert_eq!(reader_keys(&mut connection, &config).await, complete);
    assert_eq!(
        recent(&mut connection, &config).await,
        entries,
        "an entry twice, or none"
    );
}

#[tokio::test]
async fn a_partition_opens_again_when_everything_had_been_sent() {
    let node = Node::start().await;
    let config = in_cluster(&node, "opened");
    let mut connection = node.connect().await;
    let (mut writer, _, store) = twins(&config).await;
    let batch = change(&config, &writer, &random_log(4, 0, 60, NOW), NOW);
    writer.apply(&batch).await.unwrap();
    let entries = recent(&mut connection, &config).await;
    assert!(!entries.is_empty());
    let state = store.read(0).await.unwrap().unwrap();
    for _ in 0..2 {
        republish::after_open(&store, 0, &state).await.unwrap();
    }
    assert_eq!(recent(&mut connection, &config).await, entries);
}

#[tokio::test]
async fn a_reader_key_of_another_type_is_replaced_in_a_cluster_too() {
    let node = Node::start().await;
    let config = in_cluster(&node, "foreign");
    let mut connection = node.connect().await;
    let (mut writer, _, _) = twins(&config).await;
    let event = engagement::testing::Sample::new()
        .at_position(0, 0)
        .event_ts(NOW)
        .build();
    let id = event.content_id.clone().unwrap();
    let keys = [
        config.keys.content_stats.of(&id),
        config.keys.recent_events.key().of(&id),
    ];
    for key in &keys {
        let _: () = redis::cmd("SET")
            .arg(key)
            .arg("in the way")
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    let batch = change(&config, &writer, &[event], NOW);
    assert_eq!(writer.apply(&batch).await.unwrap(), Written::Done);
    for (key, wanted) in keys.iter().zip(["hash", "stream"]) {
        let found: String = redis::cmd("TYPE")
            .arg(key)
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(found, wanted, "{key}");
    }
}
