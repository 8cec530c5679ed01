//! What a Connect worker says over its REST interface.
//!
//! Invariant: an answer that is not there yet is told from a worker that is not there.

use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::ConnectSettings;
use super::trouble::Trouble;
use crate::PlatformError;
use crate::clickhouse::innermost;
use crate::plan::Component;

/// How long a worker whose group is between two generations is asked again.
const CONFLICT: Duration = Duration::from_secs(5);

/// A connector that the worker does not know is as if it were empty: a 404 is normal for a moment after a change.
///
/// # Errors
/// The worker does not answer, or says that it cannot tell now: that is no answer, least of all "nothing".
pub(crate) async fn ask<T: Default + serde::de::DeserializeOwned>(
    connect: &ConnectSettings,
    what: &str,
) -> Result<T, PlatformError> {
    let deadline = Instant::now() + CONFLICT;
    let step = format!("reading the connector's {what}");
    loop {
        let response = client()
            .get(connect.endpoint(what))
            .send()
            .await
            .map_err(|e| unreachable(connect, &e))?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(T::default()),
            StatusCode::CONFLICT if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            status if status.is_success() => {
                let told = response.json().await;
                return told.map_err(|e| PlatformError::refused(Component::Connect, step, e));
            }
            status => {
                let body = response.text().await.unwrap_or_default();
                let body: String = body.chars().take(300).collect();
                let cause = format!("{status} {body}");
                return Err(PlatformError::refused(Component::Connect, step, cause));
            }
        }
    }
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

    /// Why the first that has failed has failed.
    pub(crate) fn failed(&self) -> Option<Trouble> {
        let mut workers = std::iter::once(&self.connector).chain(&self.tasks);
        let failed = workers.find(|worker| worker.state == "FAILED");
        failed.map(|worker| Trouble::of(&worker.trace))
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

/// What the worker says of the connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorState {
    /// `RUNNING`, `PAUSED`, `STOPPED`, `FAILED`, ..; empty: the worker does not know it.
    pub connector: String,
    /// The same for each task.
    pub tasks: Vec<String>,
    /// Why the first that has failed has failed.
    pub trouble: Option<Trouble>,
}

impl ConnectorState {
    /// Whether connector and tasks run, and there is a task.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let is_running = |state: &String| state == "RUNNING";
        is_running(&self.connector) && !self.tasks.is_empty() && self.tasks.iter().all(is_running)
    }
}

/// Asks the worker for the state of the connector. Reads only.
///
/// # Errors
/// It does not answer.
pub async fn connector_state(connect: &ConnectSettings) -> Result<ConnectorState, PlatformError> {
    let status: Status = ask(connect, "status").await?;
    Ok(ConnectorState {
        trouble: status.failed(),
        connector: status.connector.state,
        tasks: status.tasks.into_iter().map(|task| task.state).collect(),
    })
}

/// What the worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its version, that of Kafka Connect.
    pub version: String,
    /// The `Date` of its answer, where it gives one.
    pub date: Option<String>,
}

/// Asks the worker for its version.
///
/// # Errors
/// It does not answer.
pub async fn worker(connect: &ConnectSettings) -> Result<Worker, PlatformError> {
    #[derive(Deserialize)]
    struct Told {
        version: String,
    }
    let answer = client().get(connect.url.clone()).send().await;
    let answer = answer.and_then(Response::error_for_status);
    let response = answer.map_err(|e| unreachable(connect, &e))?;
    let date = response.headers().get(reqwest::header::DATE);
    let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
    let told: Told = response
        .json()
        .await
        .map_err(|e| PlatformError::refused(Component::Connect, "reading its version", e))?;
    Ok(Worker {
        version: told.version,
        date,
    })
}

pub(super) fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client without certificates of its own builds")
}

pub(super) fn unreachable(connect: &ConnectSettings, error: &reqwest::Error) -> PlatformError {
    PlatformError::Unreachable {
        component: Component::Connect,
        address: connect.url.origin().ascii_serialization(),
        cause: innermost(error),
        setting: "CONNECT_URL",
    }
}
