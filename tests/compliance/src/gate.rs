//! A door between a sink and its store that can be shut, or hold back what is on its way.
//!
//! Invariant: bytes are forwarded in order or not at all; what is held back arrives unchanged when it is let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Connections are cut and refused.
    shut: bool,
    /// Requests of connections with a lower number are held back.
    held_below: u64,
}

/// A running door.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Where the sink connects to.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    count: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Gate {
    /// Opens one before `store`.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap(),
            state: watch::Sender::new(State::default()),
            count: Arc::default(),
            waiting: Arc::default(),
        };
        let serving = gate.clone();
        tokio::spawn(async move { serving.serve(&listener, store).await });
        gate
    }

    /// The store is away: every connection is cut, new ones end at once.
    pub fn shut(&self) {
        self.state.send_modify(|state| state.shut = true);
    }

    /// Everything passes, also what was held back.
    pub fn open(&self) {
        self.state.send_replace(State::default());
    }

    /// Requests stop on their way; new connections too.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.held_below = u64::MAX);
    }

    /// New connections pass; the ones there stay held.
    pub fn hold_only_the_old(&self) {
        let below = self.count.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.held_below = below);
    }

    /// Requests that are held back now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    async fn serve(self, listener: &TcpListener, store: SocketAddr) {
        while let Ok((client, _)) = listener.accept().await {
            let number = self.count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(self.clone().connection(number, client, store));
        }
    }

    async fn connection(self, number: u64, client: TcpStream, store: SocketAddr) {
        let mut state = self.state.subscribe();
        let shut = async {
            // the sender lives as long as this connection
            let _ = state.wait_for(|state| state.shut).await;
        };
        let forward = async {
            let Ok(server) = TcpStream::connect(store).await else {
                return;
            };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                self.requests(number, from_client, to_server),
                answers(from_server, to_client)
            );
        };
        tokio::select! {
            () = shut => {}
            () = forward => {}
        }
    }

    async fn requests(&self, number: u64, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut state = self.state.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if number < state.borrow().held_below {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let passes = state.wait_for(|state| number >= state.held_below).await;
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                if passes.is_err() {
                    return;
                }
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
