//! A collector of traces that keeps what it gets.
//!
//! Invariant: it looks for the sixteen bytes of a trace id only, wherever they stand: as a span's own or as a link's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use tokio::net::TcpListener;

/// A running collector; ends with the runtime.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where spans are sent to.
    pub address: SocketAddr,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            bodies: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/traces", post(keep))
            .with_state(Arc::clone(&collector.bodies));
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Whether any span belongs to this trace or links to it.
    ///
    /// # Panics
    /// Where the text is no trace id.
    #[must_use]
    pub fn knows(&self, trace: &str) -> bool {
        let id: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let bodies = self.bodies.lock().unwrap();
        bodies
            .iter()
            .any(|body| body.windows(id.len()).any(|window| window == id))
    }
}

async fn keep(State(bodies): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes) {
    bodies.lock().unwrap().push(body);
}
