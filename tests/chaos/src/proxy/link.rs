//! One listening port and the connections that came through it.
//!
//! Invariant: each connection of a service is one connection to the server, and both end in the same way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::http::{self, Spoil, Spoils};
use super::shape::{Conduct, Direction, Shape, Trap};

/// How many chunks may be under way in one direction: what a network holds.
const IN_FLIGHT: usize = 64;
const CHUNK: usize = 16 * 1024;

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In good order (FIN).
    Close,
    /// By a reset (RST): `SO_LINGER` 0.
    Reset,
}

/// A port that leads to a server.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    target: Mutex<Option<SocketAddr>>,
    pub(super) shape: Shape,
    pub(super) spoils: Spoils,
    cuts: watch::Sender<(u64, Cut)>,
    speaks_http: bool,
}

impl Link {
    /// A link that knows nothing of what it carries.
    ///
    /// # Errors
    /// No free port.
    pub async fn raw(name: impl Into<String>) -> io::Result<Self> {
        Self::open(name.into(), false).await
    }

    /// A link that tells HTTP requests apart, so that it can spoil one of them.
    ///
    /// # Errors
    /// No free port.
    pub async fn http(name: impl Into<String>) -> io::Result<Self> {
        Self::open(name.into(), true).await
    }

    async fn open(name: String, speaks_http: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            name,
            target: Mutex::new(None),
            shape: Shape::default(),
            spoils: Spoils::default(),
            cuts: watch::Sender::new((0, Cut::Close)),
            speaks_http,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            shared,
            port,
            accepting,
        })
    }

    /// The port on 127.0.0.1 to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead there.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.target() = Some(server);
    }

    /// Until [`Link::heal`].
    pub fn set(&self, conduct: Conduct) {
        self.shared.shape.set(conduct);
    }

    /// Ends all connections that are open now.
    pub fn cut(&self, how: Cut) {
        self.shared
            .cuts
            .send_modify(|(count, last)| (*count, *last) = (*count + 1, how));
    }

    /// Once, at an exact byte.
    pub fn arm(&self, trap: Trap) {
        self.shared.shape.arm(trap);
    }

    /// Does this to the next insert, or to the one after those that are waiting for theirs already.
    ///
    /// # Panics
    /// On a link that does not speak HTTP.
    pub fn spoil(&self, spoil: Spoil) {
        assert!(
            self.shared.speaks_http,
            "{} is no HTTP link",
            self.shared.name
        );
        self.shared.spoils.push(spoil);
    }

    /// Waits until every trap has sprung and every spoil was used; whether they were within this time.
    pub async fn sprung(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.shared.shape.is_armed() || !self.shared.spoils.is_empty() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Takes every fault off, also those that have not happened yet. What was held arrives.
    pub fn heal(&self) {
        self.shared.spoils.clear();
        self.shared.shape.heal();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(Cut::Reset);
    }
}

impl Shared {
    fn target(&self) -> std::sync::MutexGuard<'_, Option<SocketAddr>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(carry(client, Arc::clone(&shared)));
            }
            Err(error) => {
                // Out of file descriptors: some will be closed.
                tracing::warn!(link = %shared.name, %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let target = *shared.target();
    let server = match target {
        Some(target) if !shared.shape.conduct().refuse => TcpStream::connect(target).await.ok(),
        _ => None,
    };
    let Some(server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut cuts = shared.cuts.subscribe();
    let (mut client, mut server) = (client.into_split(), server.into_split());
    let ended = tokio::select! {
        ended = both_ways(&shared, &mut client, &mut server) => ended,
        _ = cuts.changed() => Err(cuts.borrow().1),
    };
    if ended == Err(Cut::Reset) {
        let _ = client.0.as_ref().set_zero_linger();
        let _ = server.0.as_ref().set_zero_linger();
        // A dropped half says FIN first; a forgotten one leaves the RST to the drop of the socket.
        client.1.forget();
        server.1.forget();
    }
}

type Halves = (OwnedReadHalf, OwnedWriteHalf);

async fn both_ways(shared: &Shared, client: &mut Halves, server: &mut Halves) -> Result<(), Cut> {
    if shared.speaks_http {
        return http::carry(shared, client, server).await;
    }
    tokio::try_join!(
        one_way(&shared.shape, Direction::Up, &mut client.0, &mut server.1),
        one_way(&shared.shape, Direction::Down, &mut server.0, &mut client.1),
    )
    .map(drop)
}

/// Reads ahead of writing, so that a delay does not cost bandwidth.
async fn one_way(
    shape: &Shape,
    direction: Direction,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
) -> Result<(), Cut> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await.map_err(|_| Cut::Reset)? == 0 {
                return Ok(());
            }
            let due = Instant::now() + shape.conduct().flow(direction).delay;
            if queue.send((due, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            shape.pour(direction, to, &chunk).await?;
        }
        to.shutdown().await.map_err(|_| Cut::Reset)
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{At, Then};

    /// A server that answers every connection's bytes with the same bytes.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn linked() -> (Link, TcpStream) {
        let link = Link::raw("test").await.unwrap();
        link.lead_to(echo().await);
        let client = TcpStream::connect(("127.0.0.1", link.port()))
            .await
            .unwrap();
        (link, client)
    }

    async fn says(client: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        client.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_link_without_faults_changes_no_byte() {
        let (_link, mut client) = linked().await;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = client.split();
        let mut answer = vec![0; bytes.len()];
        let (sent, received) = tokio::join!(write.write_all(&bytes), read.read_exact(&mut answer));
        sent.unwrap();
        received.unwrap();
        assert!(answer == bytes);
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_a_reset_and_the_next_connection_works() {
        let (link, mut client) = linked().await;
        says(&mut client, b"up").await.unwrap();
        link.cut(Cut::Reset);
        let error = client.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut next = TcpStream::connect(("127.0.0.1", link.port()))
            .await
            .unwrap();
        assert_eq!(says(&mut next, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn an_answer_can_be_cut_at_an_exact_byte() {
        let (link, mut client) = linked().await;
        link.arm(Trap {
            direction: Direction::Down,
            at: At::Bytes(3),
            then: Then::Cut(Cut::Close),
        });
        client.write_all(b"0123456789").await.unwrap();
        let mut got = Vec::new();
        // The close may overtake what the echo still wanted to send; the three bytes are what counts.
        let _ = client.read_to_end(&mut got).await;
        assert_eq!(got, b"012");
    }

    #[tokio::test]
    async fn what_a_blackhole_held_arrives_after_the_healing() {
        let (link, mut client) = linked().await;
        link.set(Conduct::blackhole());
        client.write_all(b"held").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(150), client.readable()).await;
        assert!(silent.is_err(), "something came through");
        link.heal();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
    }

    #[tokio::test]
    async fn a_delay_is_added_in_each_direction() {
        let (link, mut client) = linked().await;
        link.set(Conduct::slow(Duration::from_millis(40)));
        let begun = Instant::now();
        says(&mut client, b"ping").await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn a_refusing_link_resets_who_connects() {
        let (link, _client) = linked().await;
        link.set(Conduct::refusing());
        // The reset may come before or after the connection counts as made.
        let refused = async {
            let mut client = TcpStream::connect(("127.0.0.1", link.port())).await?;
            says(&mut client, b"x").await
        };
        assert!(refused.await.is_err());
    }
}
