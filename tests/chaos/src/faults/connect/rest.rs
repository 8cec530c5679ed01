//! Connect's REST interface, as far as faults use it.
//!
//! Invariant: a worker that is starting is waited for.

use std::time::Duration;

use serde_json::{Value, json};

use super::ANSWERS_WITHIN;
use crate::{Arena, wait};

/// As `platform` names it.
const CONNECTOR: &str = "engage-cdc";

/// Connect's REST interface, for the one connector.
pub(super) struct Rest {
    client: reqwest::Client,
    connector: String,
}

impl Rest {
    pub(super) fn of(arena: &Arena) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let base = arena.addresses.connect_url.trim_end_matches('/');
        Ok(Self {
            client,
            connector: format!("{base}/connectors/{CONNECTOR}"),
        })
    }

    pub(super) async fn offsets(&self) -> anyhow::Result<Value> {
        wait::until("Connect tells its offsets", ANSWERS_WITHIN, || async {
            let told = self.get("offsets").await;
            told.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    /// The answer comes when the offsets are written.
    pub(super) async fn set_offsets(&self, offsets: &Value) -> anyhow::Result<()> {
        let body = json!({ "offsets": offsets["offsets"] });
        wait::until("Connect takes the offsets", ANSWERS_WITHIN, || async {
            let url = format!("{}/offsets", self.connector);
            let response = self.client.patch(url).json(&body).send().await;
            let response = response.map_err(|error| error.to_string())?;
            match response.status().is_success() {
                true => Ok(()),
                false => Err(response.text().await.unwrap_or_default()),
            }
        })
        .await
    }

    pub(super) async fn put(&self, what: &str) -> anyhow::Result<()> {
        wait::until(
            &format!("{what} of the connector"),
            ANSWERS_WITHIN,
            || async {
                let url = format!("{}/{what}", self.connector);
                let response = self.client.put(url).send().await;
                let response = response.and_then(reqwest::Response::error_for_status);
                response.map(drop).map_err(|error| error.to_string())
            },
        )
        .await
    }

    pub(super) async fn wait_state(&self, wanted: &str) -> anyhow::Result<()> {
        wait::until(
            &format!("the connector is {wanted}"),
            ANSWERS_WITHIN,
            || async {
                let status = self
                    .get("status")
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                let connector = status["connector"]["state"] == wanted;
                // A stopped connector has no task, a running one has one that runs.
                let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
                let good = match wanted {
                    "STOPPED" => tasks.is_empty(),
                    _ => !tasks.is_empty() && tasks.iter().all(|task| task["state"] == wanted),
                };
                if connector && good {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            },
        )
        .await
    }

    async fn get(&self, what: &str) -> anyhow::Result<Value> {
        let url = format!("{}/{what}", self.connector);
        let response = self.client.get(url).send().await?.error_for_status()?;
        Ok(response.json().await?)
    }
}
