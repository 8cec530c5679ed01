//! One process of a run: snapshots, readers, the emitter, and making way.
//!
//! Invariant: it ends only between two pages, so that what it says is written is noted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engagement::event::Micros;
use service::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::BackfillArgs;
use super::emitter::{Emitter, Moment};
use super::fence;
use super::gauge::Gauge;
use super::ledger::{Finished, Run, Work};
use super::log::Log;
use super::notes::Notes;
use super::pace::{LOOK, Pace};
use super::plan::Plan;
use super::source::{Read, Snapshot, Source};
use super::view::{self, Progress};
use crate::config::Config;

/// Ranges that are read at the same time.
pub(super) const WORKERS: u8 = 4;
/// A snapshot holds vacuum up: it is renewed so long after its first row, or four times as long as that took.
const RENEW: Duration = Duration::from_secs(600);
/// So long may the sink read nothing although there is something.
const IDLE: Duration = Duration::from_secs(120);
/// Between two looks at what the sinks have not read.
const DRAIN: Duration = Duration::from_millis(250);

/// What a process of a run needs.
pub(super) struct Session {
    source: Source,
    log: Log,
    run: Run,
    notes: Notes,
    emitter: Emitter,
    gauge: Gauge,
    progress: Progress,
    slot: String,
    pace: Pace,
    begun: Instant,
    stop: CancellationToken,
}

type Queue = Arc<Mutex<VecDeque<Work>>>;

impl Session {
    /// Looks for what a former process has written and not noted, and opens everything that is written with.
    ///
    /// # Errors
    /// A server does not answer (69).
    pub(super) async fn open(
        config: &Config,
        args: &BackfillArgs,
        plan: Plan,
        notes: Notes,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        let found = plan.log.found(&plan.run).await?;
        if !found.is_empty() {
            eprintln!(
                "{} records of an unfinished page are there already",
                found.len()
            );
        }
        let (log, schema) = (plan.log, config.database.schema);
        Ok(Self {
            emitter: Emitter::open(log.clone(), notes.clone(), schema, found).await?,
            gauge: Gauge::open(&log, plan.readers).await?,
            progress: Progress::new(plan.run.rows(), plan.size.rows),
            slot: config.connect.slot.clone(),
            pace: Pace::new(args.rate, args.behind),
            source: plan.source,
            log,
            run: plan.run,
            notes,
            begun,
            stop,
        })
    }

    /// Writes what is left, waits until those that it is for have read it, and notes that the run has ended. Answers how many rows
    /// are too large for a record, and were left out.
    ///
    /// # Errors
    /// Told to stop (75), or one of them reads nothing (75); a server does not answer, or refuses. What was noted stays.
    pub(super) async fn carry_out(mut self) -> Result<u64, Failure> {
        let written = self.write().await;
        let done = match written {
            Ok(true) => self.drain().await,
            other => other,
        };
        self.progress.close();
        for (event, size) in &self.emitter.too_large {
            eprintln!("not written: event {event}, {size} bytes are more than a record may have");
        }
        if !done? {
            return Err(Failure::try_again(
                "stopped between two pages; everything up to there is noted",
            ));
        }
        self.end().await?;
        Ok(self.run.left_out())
    }

    async fn end(&self) -> Result<(), Failure> {
        let end = Finished {
            rows: self.run.rows(),
            seconds: self.begun.elapsed().as_secs_f64(),
            written: self.emitter.written,
        };
        eprint!("{}", view::ended(&self.run, &end));
        self.notes.end(&self.run, end).await
    }

    /// Writes what is left. `false`: told to stop.
    ///
    /// # Errors
    /// A server does not answer, or refuses; what was noted stays.
    async fn write(&mut self) -> Result<bool, Failure> {
        while !self.run.is_written() {
            if self.stop.is_cancelled() {
                return Ok(false);
            }
            self.progress
                .says("waiting until the live log has passed the snapshot");
            let snapshot = self.source.snapshot(self.run.spec.horizon).await?;
            let passed = self.pass(&snapshot).await;
            snapshot.close().await;
            passed?;
        }
        Ok(true)
    }

    /// Waits until those that it is for have read everything. `false`: told to stop.
    ///
    /// # Errors
    /// One of them reads nothing.
    async fn drain(&mut self) -> Result<bool, Failure> {
        let (mut since, mut last) = (Instant::now(), u64::MAX);
        loop {
            let mut unread = self.gauge.unread().await?;
            unread.sort_by_key(|(_, unread)| *unread);
            let left = unread.iter().map(|(_, unread)| unread).sum();
            let Some((group, most)) = unread.pop().filter(|(_, most)| *most > 0) else {
                return Ok(true);
            };
            if left < last {
                (since, last) = (Instant::now(), left);
            }
            if since.elapsed() > IDLE {
                return Err(self.unread(&group, most));
            }
            self.progress
                .says("waiting until the sinks have read everything");
            let pause = tokio::time::sleep(DRAIN);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return Ok(false);
            }
        }
    }

    fn unread(&self, group: &str, unread: u64) -> Failure {
        let failure = Failure::try_again(format!(
            "group {group} has not read {unread} records of {} for {} s",
            self.log.lane,
            IDLE.as_secs()
        ));
        if group == self.log.clickhouse {
            failure.remedy("start clickhouse-sink, or repair what its /readyz names")
        } else {
            failure.remedy(
                "start webhook-forwarder, or repair what its /readyz names; the group of an endpoint that is no more can be deleted \
                 (kafka-consumer-groups.sh --delete --group)",
            )
        }
    }

    /// Writes from one snapshot, until all is written, it is to be renewed, or it is told to stop.
    async fn pass(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let (begun, mut until) = (Instant::now(), None);
        // while Debezium gets here, Postgres sorts
        let (mut readers, mut pages) = self.read(snapshot).await?;
        let (source, log) = (&mut self.source, &self.log);
        let after = fence::wait(source, log, &self.slot, snapshot.lsn, &self.stop).await?;
        let Some(after) = after else {
            return Ok(());
        };
        let moment = Moment {
            after,
            lsn: snapshot.lsn,
        };
        let is_over = |until: Option<Instant>| until.is_some_and(|until| Instant::now() >= until);
        while !is_over(until) {
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                read = pages.recv() => read,
            };
            let Some(read) = read else { break };
            // a sort that takes longer than that would be done again for each page
            until.get_or_insert_with(|| Instant::now() + RENEW.max(begun.elapsed() * 4));
            if !self.make_way(read.page.rows).await? {
                break;
            }
            self.emitter.emit(&mut self.run, read, &moment).await?;
            self.progress.noted(self.run.rows());
        }
        self.emitter.note_pages(&self.run).await?;
        if self.stop.is_cancelled() || is_over(until) {
            readers.abort_all();
            return Ok(());
        }
        while let Some(ended) = readers.join_next().await {
            ended.map_err(|error| Failure::internal("a reader panicked").cause(error))??;
        }
        Ok(())
    }

    /// Begins to read what is left.
    async fn read(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(JoinSet<Result<(), Failure>>, mpsc::Receiver<Read>), Failure> {
        let work = VecDeque::from(self.run.work());
        let workers = work.len().min(WORKERS.into());
        let queue: Queue = Arc::new(Mutex::new(work));
        let (pages, taken) = mpsc::channel(WORKERS.into());
        let mut readers = JoinSet::new();
        for _ in 0..workers {
            let mut reader = self.source.reader(snapshot).await?;
            let (queue, pages) = (Arc::clone(&queue), pages.clone());
            let content = self.run.spec.content_id.clone();
            readers.spawn(async move {
                while let Some(work) = next(&queue).filter(|_| !pages.is_closed()) {
                    reader.read(&work, content.as_deref(), &pages).await?;
                }
                Ok(())
            });
        }
        Ok((readers, taken))
    }

    /// Waits for the rate and for the live stream. `false`: told to stop.
    async fn make_way(&mut self, rows: u64) -> Result<bool, Failure> {
        let pause = self.pace.pause(rows, Instant::now());
        let pause = tokio::time::sleep(pause);
        if self.stop.run_until_cancelled(pause).await.is_none() {
            return Ok(false);
        }
        while self.pace.is_time_to_look(Instant::now()) {
            self.source.still_locked().await?;
            let now = Micros(service::clock::now());
            let seen = self.gauge.reading(now, self.pace.bound).await?;
            let Some(why) = self.pace.throttle.judge(seen) else {
                break;
            };
            self.progress.waits(why);
            let pause = tokio::time::sleep(LOOK);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn next(queue: &Queue) -> Option<Work> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.pop_front()
}
