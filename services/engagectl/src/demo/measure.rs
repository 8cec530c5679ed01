//! Reads the running services: metrics, readiness, and the leaderboard in Redis.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Client;

use super::view::SinkLine;
use crate::freshness::Freshness;
use crate::pipeline::{Addresses, SERVICES, SINKS};

/// A client of the services' admin interfaces that remembers where each histogram began.
#[derive(Debug)]
pub(crate) struct Measure {
    client: Client,
    addresses: Addresses,
    start: HashMap<&'static str, Freshness>,
}

impl Measure {
    /// Takes the present state of every histogram as the beginning.
    pub(crate) async fn begin(addresses: Addresses) -> Self {
        let mut measure = Self {
            client: client(),
            addresses,
            start: HashMap::new(),
        };
        for sink in SINKS {
            let now = measure.freshness(sink).await;
            measure.start.insert(sink, now);
        }
        measure
    }

    /// One line for each sink.
    pub(super) async fn sinks(&self) -> Vec<SinkLine> {
        let mut lines = Vec::new();
        for sink in SINKS {
            let observed = self.freshness(sink).await.since(&self.start[sink]);
            lines.push(SinkLine {
                name: sink,
                ready: Self::ready_at(self.addresses.admin(sink)).await,
                events: observed.count(),
                p50: observed.quantile(0.5),
                p99: observed.quantile(0.99),
            });
        }
        lines
    }

    /// Resident memory of each service in MiB; a service that does not answer is left out.
    pub(crate) async fn memory(&self) -> Vec<(&'static str, u64)> {
        let mut all = Vec::new();
        for name in SERVICES {
            let page = self.page(name).await.unwrap_or_default();
            all.extend(
                gauge(&page, "process_resident_memory_bytes").map(|bytes| (name, bytes >> 20)),
            );
        }
        all
    }

    /// The contents with most events in the last ten minutes; empty where Redis does not answer.
    pub(crate) async fn top(&self, count: usize) -> Vec<(String, i64)> {
        self.read_top(count).await.unwrap_or_default()
    }

    /// Whether a service answers `/readyz` with 200; otherwise its reason.
    ///
    /// # Errors
    /// The reason, in the service's own words.
    pub(crate) async fn ready_at(admin: SocketAddr) -> Result<(), String> {
        let response = client()
            .get(format!("http://{admin}/readyz"))
            .send()
            .await
            .map_err(|_| "does not answer".to_owned())?;
        if response.status().is_success() {
            return Ok(());
        }
        let report: serde_json::Value =
            response.json().await.map_err(|_| "not ready".to_owned())?;
        Err(first_reason(&report).unwrap_or_else(|| "not ready".to_owned()))
    }

    async fn freshness(&self, sink: &str) -> Freshness {
        Freshness::parse(&self.page(sink).await.unwrap_or_default(), sink)
    }

    async fn page(&self, service: &str) -> reqwest::Result<String> {
        let url = format!("http://{}/metrics", self.addresses.admin(service));
        self.client.get(url).send().await?.text().await
    }

    async fn read_top(&self, count: usize) -> redis::RedisResult<Vec<(String, i64)>> {
        let client = redis::Client::open(self.addresses.redis_url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let last = i64::try_from(count).unwrap_or(i64::MAX) - 1;
        redis::cmd("ZREVRANGE")
            .arg("top:content:10m")
            .arg(0)
            .arg(last)
            .arg("WITHSCORES")
            .query_async(&mut connection)
            .await
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size in bytes, far below 2^52"
)]
fn gauge(page: &str, name: &str) -> Option<u64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    })?;
    line.rsplit(' ')
        .next()?
        .parse::<f64>()
        .ok()
        .map(|value| value as u64)
}

fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
        .expect("a plain HTTP client builds")
}

fn first_reason(report: &serde_json::Value) -> Option<String> {
    let conditions = report["conditions"].as_array()?;
    let failing = conditions.iter().find(|c| c["ok"] == false)?;
    let name = failing["name"].as_str().unwrap_or("?");
    Some(format!(
        "{name}: {}",
        failing["reason"].as_str().unwrap_or("not ready")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failing_condition_is_the_reason() {
        let report = serde_json::json!({"conditions": [
            {"name": "kafka", "ok": true}, {"name": "redis", "ok": false, "reason": "connection refused"}]});
        assert_eq!(first_reason(&report).unwrap(), "redis: connection refused");
    }

    #[test]
    fn a_gauge_is_read_with_or_without_labels() {
        assert_eq!(
            gauge(
                "process_resident_memory_bytes 1048576\n",
                "process_resident_memory_bytes"
            ),
            Some(1 << 20)
        );
        assert_eq!(gauge("a_total 1\na{x=\"y\"} 2e3\n", "a"), Some(2000));
    }
}
