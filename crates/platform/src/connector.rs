//! The Debezium connector: whether the worker has it as it is to be, registering it, and waiting until it runs.
//!
//! Invariant: a connector that is there is touched only where its configuration differs from what is wanted.

mod configuration;
pub(crate) mod trouble;
pub(crate) mod worker;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;

pub use self::configuration::config;
use self::worker::{Plugin, RESTART, Status, ask, client, unreachable};
use crate::plan::{Action, Component, Plan};
use crate::{PlatformError, Settings, slot};

const READY_WITHIN: Duration = Duration::from_secs(180);

/// Where Kafka Connect is, and how it reaches Postgres.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectSettings {
    /// Connect's REST interface (`CONNECT_URL`).
    #[serde(serialize_with = "service::config::hidden_url")]
    pub url: Url,
    /// The connector's name.
    pub name: String,
    /// The replication slot's name.
    pub slot: String,
    /// Host and port of Postgres as Connect sees it, where that differs from `database.url`.
    pub database_host: Option<String>,
    /// See `database_host`.
    pub database_port: Option<u16>,
    /// File with the authority of Postgres' certificate as Connect sees it, where that differs from `sslrootcert` in
    /// `database.url`.
    pub database_ssl_root: Option<PathBuf>,
    /// What stands in the connector's configuration in place of `database.cdc_password`: a reference that the worker
    /// resolves, such as `${file:/run/secrets/cdc.properties:password}`. Without it everybody who reaches Connect's REST
    /// interface or its topic reads the password.
    #[serde(skip_serializing)]
    pub database_password: Option<String>,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            url: Url::parse("http://127.0.0.1:8083").expect("the literal is a URL"),
            name: "engage-cdc".into(),
            slot: "engage_cdc".into(),
            database_host: None,
            database_port: None,
            database_ssl_root: None,
            database_password: None,
        }
    }
}

impl ConnectSettings {
    /// The connector's place in the REST interface, without credentials.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.url.clone();
        // a URL with a host takes both
        let _ = url.set_username("");
        let _ = url.set_password(None);
        format!(
            "{}/connectors/{}",
            url.as_str().trim_end_matches('/'),
            self.name
        )
    }

    fn endpoint(&self, what: &str) -> String {
        format!(
            "{}/connectors/{}/{what}",
            self.url.as_str().trim_end_matches('/'),
            self.name
        )
    }
}

pub(crate) async fn plan(
    settings: &Settings,
    connect: &ConnectSettings,
) -> Result<Plan, PlatformError> {
    let mut plan = Plan::default();
    let mut wanted = config(settings, connect)?;
    judge_plugins(&wanted, &worker::plugins(connect).await?, &mut plan);
    let what = format!("connector {} (slot {})", connect.name, connect.slot);
    let response = client()
        .get(connect.endpoint("config"))
        .send()
        .await
        .map_err(|e| unreachable(connect, &e))?;
    if response.status() == StatusCode::NOT_FOUND {
        plan.change(Component::Connect, what, Action::Connector(wanted));
        return Ok(plan);
    }
    let found: Map<String, Value> = response
        .error_for_status()
        .map_err(|e| unreachable(connect, &e))?
        .json()
        .await
        .map_err(|e| PlatformError::refused(Component::Connect, "reading the connector", e))?;
    configuration::keep_password(&mut wanted, &found);
    match first_difference(&wanted, &found) {
        None => plan.have(Component::Connect, what),
        Some(key) => plan.change(
            Component::Connect,
            format!("{what} with {key} as configured"),
            Action::Connector(wanted),
        ),
    }
    check_capture(settings, connect, &mut plan).await?;
    Ok(plan)
}

/// The worker must have the connector's class among its plugins.
fn judge_plugins(wanted: &Value, plugins: &[Plugin], plan: &mut Plan) {
    let class = wanted["connector.class"].as_str().unwrap_or_default();
    if !plugins.iter().any(|plugin| plugin.class == class) {
        plan.problem(
            Component::Connect,
            format!("the worker has no connector {class}"),
            "put engage-connector.jar beside Debezium's jars in its plugin path (docs/connect.md), then restart it",
        );
    }
}

/// A connector that is there must be able to go on.
async fn check_capture(
    settings: &Settings,
    connect: &ConnectSettings,
    plan: &mut Plan,
) -> Result<(), PlatformError> {
    let status: Status = ask(connect, "status").await?;
    if status.has_failed() {
        let fix = status
            .failed()
            .and_then(|trouble| trouble.fix)
            .unwrap_or("repair what it names");
        plan.problem(
            Component::Connect,
            format!(
                "connector {} has failed: {}",
                connect.name,
                status.trouble()
            ),
            format!("{fix}; then: curl -X POST '{}/{RESTART}'", connect.shown()),
        );
    }
    let (delivered, found) = slot::both(connect, &settings.database).await?;
    slot::judge(connect, delivered, found.as_ref(), plan);
    Ok(())
}

pub(crate) async fn register(settings: &Settings, config: &Value) -> Result<(), PlatformError> {
    let Some(connect) = &settings.connect else {
        return Ok(());
    };
    let response = put(connect, config).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.text().await.unwrap_or_default();
        return Err(PlatformError::refused(
            Component::Connect,
            format!("registering {}", connect.name),
            body,
        ));
    }
    wait_until_running(connect).await
}

/// Puts the configuration; saying it twice changes nothing. A worker that has just started, or whose group is between two
/// generations, calls that a conflict, and one that is busy takes its time to try the connection to the database.
async fn put(connect: &ConnectSettings, config: &Value) -> Result<Response, PlatformError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let request = client().put(connect.endpoint("config")).json(config);
        let answer = request.send().await;
        let again = match &answer {
            Ok(response) => response.status() == StatusCode::CONFLICT,
            Err(error) => error.is_timeout(),
        };
        if !again || Instant::now() >= deadline {
            return answer.map_err(|error| unreachable(connect, &error));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn wait_until_running(connect: &ConnectSettings) -> Result<(), PlatformError> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut last = Status::default();
    while Instant::now() < deadline {
        // A 404 is normal for a moment after the PUT.
        if let Ok(response) = client().get(connect.endpoint("status")).send().await
            && let Ok(status) = response.json::<Status>().await
        {
            last = status;
            if last.is_running() {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let step = format!(
        "waiting {} s for connector {} to run",
        READY_WITHIN.as_secs(),
        connect.name
    );
    Err(PlatformError::refused(
        Component::Connect,
        step,
        last.trouble(),
    ))
}

fn first_difference(wanted: &Value, found: &Map<String, Value>) -> Option<String> {
    wanted
        .as_object()?
        .iter()
        .find(|(key, value)| found.get(*key) != Some(*value))
        .map(|(key, _)| key.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_with_debezium_alone_is_a_problem_that_names_the_jar() {
        let plugins = |classes: &[&str]| {
            let listed: Vec<_> = classes.iter().map(|c| json!({"class": c})).collect();
            serde_json::from_value::<Vec<Plugin>>(listed.into()).unwrap()
        };
        let wanted = config(&Settings::default(), &ConnectSettings::default()).unwrap();
        let debezium = "io.debezium.connector.postgresql.PostgresConnector";
        let mut plan = Plan::default();
        judge_plugins(&wanted, &plugins(&[debezium]), &mut plan);
        assert!(plan.problems[0].remedy.contains("engage-connector.jar"));

        let mut plan = Plan::default();
        let ours = "io.engage.connect.PostgresConnector";
        judge_plugins(&wanted, &plugins(&[debezium, ours]), &mut plan);
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    }

    /// Answers one request after the other with these statuses.
    fn worker(statuses: &'static [&'static str]) -> Url {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for status in statuses {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut part) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"{\"a\":\"1\"}") {
                    let length = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..length]);
                }
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_worker_between_two_generations_is_asked_again_and_a_refusal_is_final() {
        let config = json!({"a": "1"});
        for (statuses, last) in [
            (&["409 Conflict", "409 Conflict", "201 Created"][..], 201),
            (&["400 Bad Request", "201 Created"][..], 400),
        ] {
            let connect = ConnectSettings {
                url: worker(statuses),
                ..ConnectSettings::default()
            };
            let response = put(&connect, &config).await.unwrap();
            assert_eq!(response.status().as_u16(), last);
        }
    }

    #[test]
    fn an_equal_configuration_with_extra_keys_is_no_difference() {
        let wanted = json!({"a": "1"});
        let found = serde_json::from_str(r#"{"a":"1","name":"x"}"#).unwrap();
        assert_eq!(first_difference(&wanted, &found), None);
    }

    #[test]
    fn a_failed_task_shows_the_beginning_of_its_trace() {
        let status: Status = serde_json::from_str(
            r#"{"connector":{"state":"RUNNING"},"tasks":[{"state":"FAILED","trace":"no slot\nat x"}]}"#,
        )
        .unwrap();
        assert!(!status.is_running());
        assert_eq!(status.trouble(), "no slot | at x");
    }
}
