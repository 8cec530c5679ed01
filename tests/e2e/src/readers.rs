//! Reads what each sink holds; every reader waits.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use devstack::next_message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::time::Instant;

use crate::World;

const DEADLINE: Duration = Duration::from_secs(180);

/// A record of a dead-letter topic.
#[derive(Debug)]
pub struct DeadLetter {
    /// The original key.
    pub key: Option<Vec<u8>>,
    message: OwnedMessage,
}

impl DeadLetter {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let header = self
            .message
            .headers()?
            .iter()
            .find(|header| header.key == name)?;
        header
            .value
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

impl World {
    /// Asks again and again until there is an answer; fails with `what` at the deadline.
    pub async fn eventually<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> F,
    ) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            self.start_again();
            assert!(
                Instant::now() < deadline,
                "not within {} s: {what}\n{}",
                DEADLINE.as_secs(),
                self.service_logs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The current revision of an event in ClickHouse, every column as text (`\N` is NULL).
    pub async fn clickhouse_row(&self, event_id: &str) -> HashMap<String, String> {
        let sql = format!(
            "SELECT * FROM {}.events WHERE event_id = {event_id} FORMAT TSVWithNames",
            self.addresses().clickhouse_database
        );
        let what = format!("event {event_id} in ClickHouse");
        self.eventually(&what, || async {
            let answer = self.clickhouse(&sql).await;
            let mut lines = answer.lines();
            let (names, values) = (lines.next()?, lines.next()?);
            assert_eq!(
                lines.next(),
                None,
                "event {event_id} is there more than once"
            );
            Some(
                names
                    .split('\t')
                    .zip(values.split('\t'))
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .collect(),
            )
        })
        .await
    }

    /// How many current events match.
    pub async fn clickhouse_count(&self, filter: &str) -> i64 {
        let sql = format!(
            "SELECT count() FROM {}.events WHERE {filter}",
            self.addresses().clickhouse_database
        );
        self.clickhouse(&sql).await.trim().parse().unwrap()
    }

    /// What ClickHouse answers to a statement.
    pub async fn clickhouse(&self, sql: &str) -> String {
        let addresses = self.addresses();
        let response = reqwest::Client::new()
            .post(&addresses.clickhouse_url)
            .header("X-ClickHouse-User", &addresses.clickhouse_user)
            .header("X-ClickHouse-Key", &addresses.clickhouse_password)
            .body(sql.to_owned())
            .send()
            .await
            .unwrap();
        let failed = !response.status().is_success();
        let text = response.text().await.unwrap();
        assert!(!failed, "{sql}: {text}");
        text
    }

    /// `content:count:{id}` once it is `expected`.
    pub async fn redis_count(&self, content: &str, expected: i64) -> i64 {
        let what = format!("content:count:{content} = {expected}");
        self.eventually(&what, || async {
            let count: Option<i64> = self
                .redis("GET", &[&format!("content:count:{content}")])
                .await;
            count.filter(|count| *count == expected)
        })
        .await
    }

    /// `content:last:{id}` once it is there.
    pub async fn redis_last(&self, content: &str) -> Value {
        self.eventually(&format!("content:last:{content}"), || async {
            let text: Option<String> = self
                .redis("GET", &[&format!("content:last:{content}")])
                .await;
            text.map(|text| serde_json::from_str(&text).unwrap())
        })
        .await
    }

    /// Waits until a leaderboard shows this score for a member.
    pub async fn redis_score(&self, key: &str, member: &str, expected: f64) {
        let what = format!("{member} with score {expected} in {key}");
        self.eventually(&what, || async {
            let score: Option<f64> = self.redis("ZSCORE", &[key, member]).await;
            (score == Some(expected)).then_some(())
        })
        .await;
    }

    async fn redis<T: redis::FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        let client = redis::Client::open(self.addresses().redis_url.as_str()).unwrap();
        // the client by itself gives up after half a second, which is short for a busy machine
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let connected = client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = connected.await.unwrap();
        redis::cmd(command)
            .arg(arguments)
            .query_async(&mut connection)
            .await
            .unwrap()
    }

    /// The body of the delivery of an event, as the receiver got it.
    pub async fn delivered(&self, event_id: &str) -> Value {
        let url = format!("http://{}/events?limit=1000", self.addresses().receiver);
        self.eventually(&format!("a delivery of event {event_id}"), || async {
            let events: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
            let list = events.as_array().or_else(|| events["events"].as_array());
            let bodies = list
                .expect("a list of events")
                .iter()
                .map(|kept| &kept["event"]);
            let mut of_event = bodies.filter(|body| body["data"]["event_id"] == event_id);
            of_event.next().cloned()
        })
        .await
    }

    /// The dead letter that carries exactly these bytes.
    pub async fn dead_letter(&self, topic: &str, bytes: &[u8]) -> DeadLetter {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.addresses().kafka)
            .set("group.id", "e2e-dead-letters")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        for partition in metadata.topics()[0].partitions() {
            partitions
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&partitions).unwrap();
        self.eventually("the dead letter", || async {
            let soon = std::time::Instant::now() + Duration::from_millis(50);
            let message = next_message(&consumer, soon).ok()?.detach();
            (message.payload() == Some(bytes)).then(|| DeadLetter {
                key: message.key().map(<[u8]>::to_vec),
                message,
            })
        })
        .await
    }
}
