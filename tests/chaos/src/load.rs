//! A mixed load on Postgres: everything that applications do to the two tables, all at once.
//!
//! Invariant: what is done follows from the seed; what was committed is asked of Postgres, never counted here. A writer
//! whose connection breaks (a fault) connects again and goes on.

mod rows;
mod writers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use rows::Rows;
use writers::Kind;
pub(crate) use writers::{copy, now};

/// Contents that exist before the first event.
const CONTENTS: usize = 200;
/// Keys remembered for updates and deletes.
const REMEMBERED: usize = 20_000;

/// What to write.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Postgres, as the platform's own role.
    pub url: String,
    /// The seed of all chance.
    pub seed: u64,
    /// Rows a second, all writers together but the one of bursts.
    pub rate: f64,
    /// Many rows at once, now and then.
    pub bursts: Option<Bursts>,
}

/// COPY of many rows in one statement, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// Rows of one.
    pub rows: usize,
    /// From the beginning of one to that of the next, if it takes no longer.
    pub every: Duration,
}

/// The running writers.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

/// What all writers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: LoadOptions,
    pub(crate) contents: Vec<String>,
    keys: Mutex<Vec<i64>>,
    statements: AtomicU64,
    broken: AtomicU64,
}

impl Shared {
    /// Remembers keys of committed events.
    pub(crate) fn remember(&self, new: &[i64]) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.extend(new);
        let excess = keys.len().saturating_sub(REMEMBERED);
        keys.drain(..excess);
    }

    /// Some remembered keys, each once; `forget`: nobody gets them again.
    pub(crate) fn some_keys(&self, count: usize, forget: bool, rng: &mut ChaCha8Rng) -> Vec<i64> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chosen: Vec<i64> = (0..count.min(keys.len()))
            .map(|_| keys[rand::Rng::random_range(rng, 0..keys.len())])
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        if forget {
            keys.retain(|key| chosen.binary_search(key).is_err());
        }
        chosen
    }
}

impl Load {
    /// Creates the contents and starts the writers.
    ///
    /// # Errors
    /// What Postgres answered.
    pub async fn start(options: LoadOptions) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(&options.url).await?;
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let contents = writers::contents(&mut connection, &mut rng, CONTENTS).await?;
        let shared = Arc::new(Shared {
            options,
            contents,
            keys: Mutex::default(),
            statements: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for kind in Kind::of(&shared.options) {
            tasks.spawn(write(kind, Arc::clone(&shared), stop.clone()));
        }
        Ok(Self {
            stop,
            tasks,
            shared,
        })
    }

    /// Ends the writers after their present statements; says how many statements were committed and how many connections broke.
    pub async fn stop(mut self) -> String {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        format!(
            "{} statements and transactions, {} broken connections",
            self.shared.statements.load(Ordering::Relaxed),
            self.shared.broken.load(Ordering::Relaxed)
        )
    }
}

/// One writer, at its own pace, until told to stop.
async fn write(kind: Kind, shared: Arc<Shared>, stop: CancellationToken) {
    let mut rng = ChaCha8Rng::seed_from_u64(shared.options.seed);
    rng.set_stream(kind as u64 + 1);
    let mut rows = Rows::new(rng.clone());
    let every = kind.every(&shared.options);
    let mut due = Instant::now() + every.mul_f64(0.1 * (kind as u8 + 1) as f64);
    let mut connection: Option<PgConnection> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => due += every,
        }
        let done = async {
            let connected = match connection.take() {
                Some(connected) => connected,
                None => PgConnection::connect(&shared.options.url).await?,
            };
            let connected = connection.insert(connected);
            kind.write(connected, &shared, &mut rows, &mut rng).await
        };
        match done.await {
            Ok(()) => {
                shared.statements.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::debug!(?kind, %error, "writer connects again");
                shared.broken.fetch_add(1, Ordering::Relaxed);
                connection = None;
                tokio::time::sleep(Duration::from_millis(200)).await;
                // What was missed in an outage is not made up for.
                due = due.max(Instant::now());
            }
        }
    }
}
