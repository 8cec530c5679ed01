//! What replicas say of themselves.
//!
//! Invariant: a question has a deadline; one that is not answered is an error with its cause.

use std::time::Duration;

use super::{Fleet, ReplicaId};
use crate::wait;

impl Fleet {
    /// Waits until every replica of a service answers `/readyz` with 200.
    ///
    /// # Errors
    /// The last answers and the end of a log.
    pub async fn wait_ready(&self, service: &str, within: Duration) -> anyhow::Result<()> {
        for id in self.replicas_of(service) {
            let waited = wait::until(&format!("{id} is ready"), within, || self.ready(id)).await;
            if let Err(error) = waited {
                anyhow::bail!("{error:#}\n{}", self.log_tail(id, 15));
            }
        }
        Ok(())
    }

    /// Whether a replica is ready; otherwise its answer.
    ///
    /// # Errors
    /// The text of `/readyz`, or that it does not answer.
    pub async fn ready(&self, id: ReplicaId) -> Result<(), String> {
        let answer = self.get(id, "/readyz").await;
        match answer {
            Ok((true, _)) => Ok(()),
            Ok((false, text)) => Err(text),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// `/metrics` of a replica.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn metrics(&self, id: ReplicaId) -> anyhow::Result<String> {
        Ok(self.get(id, "/metrics").await?.1)
    }

    /// The last lines of a replica's log.
    #[must_use]
    pub fn log_tail(&self, id: ReplicaId, lines: usize) -> String {
        let text = std::fs::read(self.log(id)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    async fn get(&self, id: ReplicaId, path: &str) -> anyhow::Result<(bool, String)> {
        let admin = self
            .admin(id)
            .ok_or_else(|| anyhow::anyhow!("{id} was removed"))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()?;
        let response = client.get(format!("http://{admin}{path}")).send().await?;
        let good = response.status().is_success();
        Ok((good, response.text().await?))
    }
}
