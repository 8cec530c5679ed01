//! The webhook forwarder: messages that the receiver has answered with 200.
//!
//! A receiver gets a message at least once: repeats with the same id and the same body count as one, any other
//! second message about an event counts as a second one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use devstack::Launch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;

use super::{Names, SinkUnderTest};
use crate::World;

const ENDPOINT: &str = "checked";

/// Content, then id and body of each different message.
type Messages = BTreeMap<String, BTreeSet<(String, Bytes)>>;

struct Sink {
    receiver: SocketAddr,
    messages: Arc<Mutex<Messages>>,
}

pub(super) fn make(_: &'static World, _: String) -> BoxFuture<'static, Box<dyn SinkUnderTest>> {
    async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let messages = Arc::<Mutex<Messages>>::default();
        let sink = Sink {
            receiver: listener.local_addr().unwrap(),
            messages: Arc::clone(&messages),
        };
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(messages);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Box::new(sink) as Box<dyn SinkUnderTest>
    }
    .boxed()
}

async fn receive(State(messages): State<Arc<Mutex<Messages>>>, headers: HeaderMap, body: Bytes) {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let content = json["data"]["content_id"].as_str().unwrap().to_owned();
    let mut messages = messages.lock().unwrap();
    messages.entry(content).or_default().insert((id, body));
}

impl SinkUnderTest for Sink {
    fn service(&self) -> &'static str {
        "webhook-forwarder"
    }

    fn store(&self) -> SocketAddr {
        self.receiver
    }

    fn configure(&self, launch: Launch, names: &Names, store: SocketAddr) -> Launch {
        launch
            .env("WEBHOOK_NAME", ENDPOINT)
            .env("WEBHOOK_URL", format!("http://{store}/hook"))
            .env("WEBHOOK_START", "earliest")
            .env("WEBHOOK_ALLOW_INSECURE", "true")
            .env("WEBHOOK_ALLOW_PRIVATE", "true")
            .args(["--set", "webhook.breaker.open=200ms"])
            .args(["--set", "webhook.breaker.open_max=500ms"])
            .args([
                "--set",
                &format!("input.dead_letter_topic={}", names.letters),
            ])
    }

    fn holds(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        let messages = self.messages.lock().unwrap();
        let held = messages
            .iter()
            .map(|(content, different)| (content.clone(), different.len() as u64))
            .collect();
        std::future::ready(held).boxed()
    }

    fn write_point(&self) -> &'static str {
        "webhook-forwarder.attempt.before"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &["engage_webhook_attempts_total", "engage_breaker_state"]
    }

    fn group(&self, configured: &str) -> String {
        format!("{configured}.{ENDPOINT}")
    }
}
