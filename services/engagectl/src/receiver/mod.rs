//! The demo receiver: takes webhooks, counts them exactly, shows them, and fails on request.
//!
//! Invariant: what is counted was answered with a 2xx; a request that fails (fault, signature, body)
//! leaves no trace in the events. Memory is bounded whatever is sent.

mod book;
mod distinct;
mod faults;
mod http;
mod living;
pub(crate) mod message;
mod quantile;
mod record;
mod runs;
mod span;
mod verify;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use verify::{Key, SecretError};

use book::Book;
use faults::Faults;
use message::Item;
use record::{Entry, Recorder};

/// What the receiver can be told.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Where to listen.
    pub addr: SocketAddr,
    /// Signing secrets (`whsec_..`); any of them makes a signature valid. Empty: nothing is verified.
    pub secrets: Vec<SecretString>,
    /// How many of the last events are kept for `/events` and the page.
    pub keep: usize,
    /// How many ids are kept to tell unique events from repeats; about 40 bytes each, and 20 more of
    /// one that a backfill has brought. Beyond it
    /// `/stats` says `distinct_full`, and unique counts are lower bounds.
    pub distinct_limit: usize,
    /// A file that every delivery is added to before it is answered, and read from at the start.
    pub record: Option<PathBuf>,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001),
            secrets: Vec::new(),
            keep: 1000,
            distinct_limit: 20_000_000,
            record: None,
        }
    }
}

/// Why the receiver does not run.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A secret does not parse.
    #[error("signing secret number {number}: {source}")]
    Secret {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {addr}: {source}; stop what listens there, or choose another with --addr"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file of deliveries cannot be used.
    #[error("cannot record to {}: {source}; choose another file with --record", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system says, or what is wrong in the file.
        source: std::io::Error,
    },
    /// The server failed while running.
    #[error("the receiver failed: {0}")]
    Serve(#[source] std::io::Error),
}

/// A receiver that has its port and does not answer yet.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What the handlers share.
#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    recorder: Option<Mutex<Recorder>>,
    faults: Mutex<Faults>,
    keys: Vec<Key>,
}

impl Shared {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a delivery down, where that was asked for.
    fn record(&self, id: &str, item: &Item, body: &RawValue) -> std::io::Result<()> {
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let entry = Entry::new(id, item, body.get().as_bytes());
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.add(&entry)
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver {
    /// Parses the secrets and takes the port (0 = any free one).
    ///
    /// # Errors
    /// [`ReceiverError::Secret`], [`ReceiverError::Listen`] and [`ReceiverError::Record`].
    pub async fn bind(options: &ReceiverOptions) -> Result<Self, ReceiverError> {
        let keys = options.secrets.iter().zip(1..).map(|(secret, number)| {
            Key::parse(secret.expose_secret())
                .map_err(|source| ReceiverError::Secret { number, source })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let listen = |source| ReceiverError::Listen {
            addr: options.addr,
            source,
        };
        let listener = TcpListener::bind(options.addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let mut book = Book::new(options.keep, options.distinct_limit, service::clock::now());
        let record = options.record.as_ref().map(|path| {
            Recorder::open(path, |entry| book.replay(entry)).map_err(|source| {
                let path = path.clone();
                ReceiverError::Record { path, source }
            })
        });
        let recorder = record.transpose()?.map(Mutex::new);
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
            recorder,
            faults: Mutex::new(Faults::default()),
            keys,
        });
        Ok(Self {
            listener,
            addr,
            shared,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `stop` is cancelled, then finishes the requests under way.
    ///
    /// # Errors
    /// [`ReceiverError::Serve`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), ReceiverError> {
        axum::serve(self.listener, http::router(self.shared))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
            .map_err(ReceiverError::Serve)
    }
}

/// Listens and answers until `stop` is cancelled.
///
/// # Errors
/// See [`Receiver::bind`] and [`Receiver::run`].
pub async fn serve(options: ReceiverOptions, stop: CancellationToken) -> Result<(), ReceiverError> {
    let receiver = Receiver::bind(&options).await?;
    tracing::info!(addr = %receiver.addr(), verified = !options.secrets.is_empty(), "receiver listens");
    receiver.run(stop).await
}

#[cfg(test)]
mod tests;
