//! `engagectl gen`: writes a realistic stream of interactions into Postgres.

mod contents;
mod pace;
mod report;
mod rows;
mod script;
mod sessions;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use platform::Schema;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use contents::{ContentRow, contents};
pub use pace::Rate;
pub use report::{Counts, text as report_text, value as report_value, why_behind};
pub use rows::{EventRow, Mix, RowSource};
pub use script::{Batch, Changes, Script};
pub use writer::Writer;

const TICK: Duration = Duration::from_millis(20);
const LARGEST_BATCH: u64 = 2000;

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
    /// What is changed, deleted or replaced along with it.
    pub changes: Changes,
    /// How many contents there are at first.
    pub contents: usize,
    /// Which table layout the database has.
    pub schema: Schema,
    /// The time of the first row, in microseconds since 1970; each row is one period of the rate later. Without it, rows
    /// carry the time at which they are written.
    pub start_at: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: Rate::per(100),
            burst: 0,
            duration: None,
            seed: 1,
            mix: Mix::default(),
            changes: Changes::default(),
            contents: 200,
            schema: Schema::Uuid,
            start_at: None,
        }
    }
}

impl Options {
    /// The time of a row, when it is `now`; both in microseconds since 1970.
    fn time_of(&self, number: u64, now: i64) -> i64 {
        let Some(start) = self.start_at else {
            return now;
        };
        let passed = self.rate.at(number).as_micros();
        start.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// What has been written so far; read while [`run`] writes.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Counts>>);

impl Progress {
    /// Everything that was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Rows inserted and committed.
    #[must_use]
    pub fn inserted(&self) -> u64 {
        let counts = self.lock();
        counts.burst.0 + counts.paced.0
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    let script = Script::new(options.seed, options.mix, options.changes, options.contents);
    writer.write_contents(0, script.contents()).await?;
    let mut generator = Generator {
        writer,
        script,
        options,
        progress,
    };
    generator.burst(&stop).await?;
    generator.follow_the_rate(&stop).await
}

/// Which of the two counts grows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Burst,
    Paced,
}

struct Generator {
    writer: Writer,
    script: Script,
    options: Options,
    progress: Progress,
}

impl Generator {
    async fn burst(&mut self, stop: &CancellationToken) -> Result<(), sqlx::Error> {
        let start = Instant::now();
        self.write(self.options.burst, Part::Burst, start, stop)
            .await
    }

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
            let count = due.saturating_sub(written);
            self.write(count, Part::Paced, start, stop).await?;
            written = due;
            if end.is_some_and(|end| elapsed >= end) {
                return Ok(());
            }
        }
    }

    async fn write(
        &mut self,
        mut count: u64,
        part: Part,
        start: Instant,
        stop: &CancellationToken,
    ) -> Result<(), sqlx::Error> {
        while count > 0 && !stop.is_cancelled() {
            let size = count.min(LARGEST_BATCH);
            let (options, now) = (self.options, service::clock::now());
            let batch = self
                .script
                .batch(size, |number| options.time_of(number, now));
            let asked = Instant::now();
            self.writer.write(&batch).await?;
            self.count(&batch, part, asked.elapsed(), start.elapsed());
            count -= size;
        }
        if part == Part::Paced {
            self.progress.lock().paced.1 = start.elapsed();
        }
        Ok(())
    }

    fn count(&self, batch: &Batch, part: Part, waited: Duration, passed: Duration) {
        let mut counts = self.progress.lock();
        let (rows, time) = match part {
            Part::Burst => &mut counts.burst,
            Part::Paced => &mut counts.paced,
        };
        *rows += batch.rows.len() as u64;
        *time = passed;
        counts.updated += batch.updated.len() as u64;
        counts.deleted += batch.deleted.len() as u64;
        counts.contents += batch.contents.len() as u64;
        counts.poison += batch.rows.iter().filter(|row| row.is_poison()).count() as u64;
        counts.batches += 1;
        counts.waiting += waited;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_carry_the_time_at_which_they_are_written_unless_a_start_is_given() {
        let at = |rate: &str, start_at, number| {
            let options = Options {
                rate: rate.parse().unwrap(),
                start_at,
                ..Options::default()
            };
            options.time_of(number, 7)
        };
        assert_eq!(at("100/s", None, 50), 7);
        assert_eq!(at("100/s", Some(1_000), 50), 501_000);
        assert_eq!(at("1/min", Some(0), 2), 120_000_000);
        assert_eq!(at("0", Some(5), 0), 5);
    }
}
