//! What a Connect worker says over its REST interface.
//!
//! Invariant: an answer that is not there yet is told from a worker that is not there.

use std::time::Duration;

use reqwest::{Client, Response};
use serde::Deserialize;

use super::ConnectSettings;
use crate::PlatformError;
use crate::plan::Component;

/// What the worker does not tell is as if it were empty: a 404 is normal for a moment after a change.
pub(crate) async fn ask<T: Default + serde::de::DeserializeOwned>(
    connect: &ConnectSettings,
    what: &str,
) -> Result<T, PlatformError> {
    let response = client()
        .get(connect.endpoint(what))
        .send()
        .await
        .map_err(|e| unreachable(connect, &e))?;
    if !response.status().is_success() {
        return Ok(T::default());
    }
    let what = format!("reading the connector's {what}");
    let told = response.json().await;
    told.map_err(|e| PlatformError::refused(Component::Connect, what, e))
}

/// A connector that the worker can run.
#[derive(Debug, Deserialize)]
pub(super) struct Plugin {
    /// Its Java class.
    pub(super) class: String,
}

/// Everything in the worker's plugin path.
pub(super) async fn plugins(connect: &ConnectSettings) -> Result<Vec<Plugin>, PlatformError> {
    let url = connect
        .url
        .join("connector-plugins")
        .map_err(|e| PlatformError::refused(Component::Connect, "asking for its plugins", e))?;
    let answer = client().get(url).send().await;
    let answer = answer.and_then(Response::error_for_status);
    let response = answer.map_err(|e| unreachable(connect, &e))?;
    let told = response.json().await;
    told.map_err(|e| PlatformError::refused(Component::Connect, "reading its plugins", e))
}

/// Starts the connector and its tasks again, as far as they have failed.
pub(crate) async fn restart_failed(connect: &ConnectSettings) -> Result<(), PlatformError> {
    let response = client()
        .post(connect.endpoint(RESTART))
        .send()
        .await
        .map_err(|e| unreachable(connect, &e))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body = response.text().await.unwrap_or_default();
    let step = format!("restarting {}", connect.name);
    Err(PlatformError::refused(
        Component::Connect,
        step,
        format!("{status} {body}"),
    ))
}

/// The request that starts again what has failed.
pub(super) const RESTART: &str = "restart?includeTasks=true&onlyFailed=true";

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    connector: WorkerState,
    #[serde(default)]
    tasks: Vec<WorkerState>,
}

#[derive(Debug, Default, Deserialize)]
struct WorkerState {
    #[serde(default)]
    state: String,
    #[serde(default)]
    trace: String,
}

impl Status {
    pub(crate) fn is_running(&self) -> bool {
        self.connector.state == "RUNNING"
            && !self.tasks.is_empty()
            && self.tasks.iter().all(|t| t.state == "RUNNING")
    }

    pub(crate) fn has_failed(&self) -> bool {
        let mut workers = std::iter::once(&self.connector).chain(&self.tasks);
        workers.any(|worker| worker.state == "FAILED")
    }

    pub(crate) fn trouble(&self) -> String {
        let failed = std::iter::once(&self.connector)
            .chain(&self.tasks)
            .find(|w| w.state == "FAILED");
        failed.map_or_else(
            || {
                format!(
                    "connector {:?}, {} tasks",
                    self.connector.state,
                    self.tasks.len()
                )
            },
            |worker| worker.trace.lines().take(6).collect::<Vec<_>>().join(" | "),
        )
    }
}

pub(super) fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client without certificates of its own builds")
}

pub(super) fn unreachable(connect: &ConnectSettings, error: &reqwest::Error) -> PlatformError {
    let cause =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    PlatformError::Unreachable {
        component: Component::Connect,
        address: connect.url.to_string(),
        cause,
        setting: "CONNECT_URL",
    }
}
