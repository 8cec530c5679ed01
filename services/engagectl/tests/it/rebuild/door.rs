//! A TCP proxy before Redis that lets so many scripts through and nothing after them: whoever sends them is killed at a known step.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What every call of a script begins with, behind its length.
const SCRIPT: &[u8] = b"\r\nEVAL";

pub(crate) struct Door {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    /// Scripts that may still pass.
    scripts: Semaphore,
    /// One that may not stands here.
    held: AtomicBool,
}

impl Door {
    /// Stands before the server of `url` (`redis://host:port/`).
    pub(crate) async fn before(url: &str, scripts: usize) -> Self {
        let server = redis::Client::open(url).unwrap();
        let server = server.get_connection_info().addr().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            scripts: Semaphore::new(scripts),
            held: AtomicBool::new(false),
        });
        let (shared, address) = (Arc::clone(&state), server.parse().unwrap());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, address, Arc::clone(&shared)));
            }
        });
        Self {
            url: url.replace(&server, &here),
            state,
        }
    }

    /// A script stands before the closed door: those before it are answered.
    pub(crate) fn holds_one(&self) -> bool {
        self.state.held.load(Ordering::SeqCst)
    }
}

async fn forward(client: TcpStream, server: SocketAddr, state: Arc<State>) {
    let server = TcpStream::connect(server).await.unwrap();
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    pass(from_client, to_server, &state).await;
}

/// Passes everything on, up to the first script that may not pass.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // a call may begin in what was passed on already
        let overlap = seen.len();
        seen.extend_from_slice(&buffer[..length]);
        let calls = seen.windows(SCRIPT.len()).enumerate();
        for (at, _) in calls.filter(|(_, bytes)| *bytes == SCRIPT) {
            if let Ok(permit) = state.scripts.try_acquire() {
                permit.forget();
                continue;
            }
            let before = at.saturating_sub(overlap).min(length);
            let _ = to.write_all(&buffer[..before]).await;
            state.held.store(true, Ordering::SeqCst);
            return std::future::pending().await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        seen.drain(..seen.len().saturating_sub(SCRIPT.len() - 1));
    }
}
