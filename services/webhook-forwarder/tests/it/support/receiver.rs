//! An HTTP server that writes down what it gets and answers as told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use super::eventually;

/// One request, and what it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) status: u16,
}

impl Call {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn event_id(&self) -> String {
        self.json()["data"]["event_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn content(&self) -> String {
        self.json()["data"]["content_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The second since 1970 in which the attempt was begun, by its signature.
    pub(crate) fn begun(&self) -> i64 {
        let second = self.headers["webhook-timestamp"].to_str().unwrap();
        second.parse().unwrap()
    }

    pub(crate) fn webhook_id(&self) -> String {
        self.headers["webhook-id"].to_str().unwrap().to_owned()
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) after: Duration,
    pub(crate) retry_after: Option<&'static str>,
}

impl Reply {
    pub(crate) const fn status(status: u16) -> Self {
        Self {
            status,
            after: Duration::ZERO,
            retry_after: None,
        }
    }
}

type Decide = Box<dyn FnMut(&Call) -> Reply + Send>;

struct Inner {
    calls: Vec<Call>,
    decide: Decide,
}

/// A running receiver; ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    inner: Arc<Mutex<Inner>>,
}

impl Receiver {
    /// Answers 200 to everything.
    pub(crate) async fn start() -> Self {
        Self::deciding(|_| Reply::status(200)).await
    }

    /// Answers what `decide` says.
    pub(crate) async fn deciding(decide: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            calls: Vec::new(),
            decide: Box::new(decide),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/hook", post(answer))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, inner }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Changes the answers from now on.
    pub(crate) fn decide(&self, decide: impl FnMut(&Call) -> Reply + Send + 'static) {
        self.inner.lock().unwrap().decide = Box::new(decide);
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.lock().unwrap().calls.clone()
    }

    /// Ids of the events answered with 200, in order, repeats included.
    pub(crate) fn delivered(&self) -> Vec<String> {
        let calls = self.calls();
        calls
            .iter()
            .filter(|call| call.status == 200)
            .map(Call::event_id)
            .collect()
    }

    /// Waits until `count` different events were answered with 200.
    pub(crate) async fn wait_for_events(&self, count: usize) {
        eventually("events delivered", async || {
            let mut ids = self.delivered();
            ids.sort();
            ids.dedup();
            let seen = format!(
                "{} of {count} after {} calls",
                ids.len(),
                self.calls().len()
            );
            if ids.len() >= count {
                Ok(())
            } else {
                Err(seen)
            }
        })
        .await;
    }

    /// Waits until `count` requests came, whatever they were answered.
    pub(crate) async fn wait_for_calls(&self, count: usize) {
        eventually("calls", async || {
            let seen = self.calls().len();
            if seen >= count {
                Ok(())
            } else {
                Err(format!("{seen} of {count}"))
            }
        })
        .await;
    }
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut call = Call {
        headers,
        body,
        status: 0,
    };
    let reply = {
        let mut inner = inner.lock().unwrap();
        let reply = (inner.decide)(&call);
        call.status = reply.status;
        inner.calls.push(call);
        reply
    };
    tokio::time::sleep(reply.after).await;
    let mut response = StatusCode::from_u16(reply.status).unwrap().into_response();
    if let Some(wait) = reply.retry_after {
        response
            .headers_mut()
            .insert("retry-after", wait.parse().unwrap());
    }
    response
}
