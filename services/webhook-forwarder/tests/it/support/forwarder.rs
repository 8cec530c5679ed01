//! The service inside the test's process.

use std::time::Duration;

use service::{App, Context, Failure, Health, Lifecycle};
use tokio::task::JoinHandle;
use webhook_forwarder::WebhookForwarder;
use webhook_forwarder::config::{Config, EndpointConfig, Input, Start};

use super::{Topics, eventually};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An endpoint that may be local and is tried again quickly.
pub(crate) fn endpoint(name: &str, url: &str) -> EndpointConfig {
    let mut endpoint = EndpointConfig {
        name: name.into(),
        url: Some(url.parse().unwrap()),
        secrets: vec![SECRET.into()],
        start: Start::Earliest,
        allow_insecure: true,
        allow_private: true,
        ..EndpointConfig::default()
    };
    endpoint.retry.first_wait = Duration::from_millis(10);
    endpoint.retry.longest_wait = Duration::from_millis(100);
    endpoint.breaker.open = Duration::from_millis(50);
    endpoint.breaker.open_max = Duration::from_millis(200);
    endpoint
}

/// The configuration of a test.
pub(crate) fn config(topics: &Topics, endpoints: Vec<EndpointConfig>) -> Config {
    Config {
        kafka: topics.settings.clone(),
        input: Input {
            enriched_topic: topics.enriched.clone(),
            backfill_topic: topics.backfill.clone(),
            dead_letter_topic: topics.letters.clone(),
            group_id: topics.enriched.clone(),
            ..Input::default()
        },
        endpoints,
        ..Config::default()
    }
}

/// A running service.
pub(crate) struct Forwarder {
    ctx: Context,
    task: JoinHandle<Result<(), Failure>>,
}

impl Forwarder {
    pub(crate) fn start(config: Config) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ctx = Context {
            lifecycle: Lifecycle::default(),
            health: Health::default(),
        };
        let task = tokio::spawn(WebhookForwarder::run(config, ctx.clone()));
        Self { ctx, task }
    }

    /// Stops as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.ctx.lifecycle.soft().cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Stops, whatever it then says.
    pub(crate) async fn stop_anyway(self) {
        self.ctx.lifecycle.soft().cancel();
        let _ = self.task.await.unwrap();
    }

    /// Waits until the service ends by itself.
    pub(crate) async fn failure(self) -> Failure {
        self.task.await.unwrap().unwrap_err()
    }

    /// What `/readyz` complains about.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let conditions = self.ctx.health.ready().conditions;
        let bad = conditions
            .into_iter()
            .filter_map(|c| Some(format!("{}: {}", c.name, c.reason?)));
        bad.collect()
    }

    pub(crate) async fn wait_until_ready(&self) {
        eventually("ready", async || {
            let complaints = self.complaints();
            let begun = !self.ctx.health.ready().conditions.is_empty();
            if begun && complaints.is_empty() {
                Ok(())
            } else {
                Err(complaints.join("; "))
            }
        })
        .await;
    }

    /// Waits until `/readyz` complains with a text that holds `part`.
    pub(crate) async fn wait_for_complaint(&self, part: &str) -> String {
        eventually(part, async || {
            let complaints = self.complaints();
            let found = complaints.iter().find(|text| text.contains(part)).cloned();
            found.ok_or_else(|| complaints.join("; "))
        })
        .await
    }
}
