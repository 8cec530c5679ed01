//! `engagectl gen`: writes a realistic stream of interactions into Postgres.

mod pace;
mod rows;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use platform::Schema;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use pace::Rate;
pub use rows::{ContentRow, EventRow, Mix, RowSource, contents};
pub use writer::Writer;

const TICK: Duration = Duration::from_millis(20);
const LARGEST_BATCH: u64 = 1000;
const REMEMBERED_KEYS: usize = 1000;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows per second after the burst.
    pub rate: Rate,
    /// Rows written at once at the start.
    pub burst: u64,
    /// When to end; `None` = until stopped.
    pub duration: Option<Duration>,
    /// The seed of all chance.
    pub seed: u64,
    /// Shape of the stream.
    pub mix: Mix,
    /// The share of events that are corrected later by an update, 0 to 1.
    pub update_ratio: f64,
    /// How many contents must exist.
    pub contents: usize,
    /// Which table layout the database has.
    pub schema: Schema,
}

/// What has been written so far; read while [`run`] writes.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    inserted: AtomicU64,
    updated: AtomicU64,
}

impl Progress {
    /// Rows inserted and committed.
    #[must_use]
    pub fn inserted(&self) -> u64 {
        self.0.inserted.load(Ordering::Relaxed)
    }

    /// Rows updated and committed.
    #[must_use]
    pub fn updated(&self) -> u64 {
        self.0.updated.load(Ordering::Relaxed)
    }
}

/// Writes rows until the duration is over or `stop` is cancelled. Counts only what Postgres has committed.
///
/// # Errors
/// What Postgres answered.
pub async fn run(
    url: String,
    options: Options,
    progress: Progress,
    stop: CancellationToken,
) -> Result<(), sqlx::Error> {
    let mut writer = Writer::connect(&url, options.schema).await?;
    let count = writer
        .seed_contents(&contents(options.seed, options.contents))
        .await?;
    let mut generator = Generator {
        writer,
        source: RowSource::new(options.seed, options.mix, count),
        options,
        progress,
        recent: Vec::new(),
    };
    generator.write(options.burst, &stop).await?;
    generator.follow_the_rate(&stop).await
}

struct Generator {
    writer: Writer,
    source: RowSource,
    options: Options,
    progress: Progress,
    recent: Vec<String>,
}

impl Generator {
    async fn follow_the_rate(&mut self, stop: &CancellationToken) -> Result<(), sqlx::Error> {
        let start = Instant::now();
        let end = self.options.duration;
        let mut ticks = tokio::time::interval(TICK);
        let mut written = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let elapsed = start.elapsed().min(end.unwrap_or(Duration::MAX));
            let due = self.options.rate.due(elapsed);
            self.write(due.saturating_sub(written), stop).await?;
            written = due;
            if end.is_some_and(|end| elapsed >= end) {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, mut count: u64, stop: &CancellationToken) -> Result<(), sqlx::Error> {
        while count > 0 && !stop.is_cancelled() {
            let size = count.min(LARGEST_BATCH);
            let now = service::clock::now();
            let rows: Vec<EventRow> = (0..size).map(|_| self.source.next_row(now)).collect();
            let keys = self.writer.insert(&rows).await?;
            self.progress.0.inserted.fetch_add(size, Ordering::Relaxed);
            self.correct_some(keys).await?;
            count -= size;
        }
        Ok(())
    }

    async fn correct_some(&mut self, keys: Vec<String>) -> Result<(), sqlx::Error> {
        let ratio = self.options.update_ratio;
        if ratio <= 0.0 {
            return Ok(());
        }
        let wanted = keys.iter().filter(|_| self.source.chance(ratio)).count();
        self.recent.extend(keys);
        let excess = self.recent.len().saturating_sub(REMEMBERED_KEYS);
        self.recent.drain(..excess);
        let mut chosen: Vec<String> = (0..wanted)
            .map(|_| self.recent[self.source.pick(self.recent.len())].clone())
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        if !chosen.is_empty() {
            self.writer.update(&chosen).await?;
            self.progress
                .0
                .updated
                .fetch_add(chosen.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
