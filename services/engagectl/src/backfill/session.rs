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

use super::emitter::{Emitter, Moment};
use super::fence;
use super::gauge::Gauge;
use super::ledger::{Run, Work};
use super::log::Log;
use super::source::{Read, Snapshot, Source};
use super::throttle::{Bound, Throttle};
use super::view::Progress;
use crate::generator::Rate;

/// Ranges that are read at the same time.
const WORKERS: usize = 4;
/// A snapshot holds vacuum up: it is renewed after this time.
const RENEW: Duration = Duration::from_secs(600);
/// Pause between two looks at the live stream.
const LOOK: Duration = Duration::from_secs(1);
/// So long may the sink read nothing although there is something.
const IDLE: Duration = Duration::from_secs(120);

/// What a process of a run needs.
pub(super) struct Session {
    pub(super) source: Source,
    pub(super) log: Log,
    pub(super) run: Run,
    pub(super) emitter: Emitter,
    pub(super) gauge: Gauge,
    pub(super) progress: Progress,
    pub(super) slot: String,
    pub(super) pace: Pace,
    pub(super) stop: CancellationToken,
}

type Queue = Arc<Mutex<VecDeque<Work>>>;

impl Session {
    /// Writes what is left. `false`: told to stop.
    ///
    /// # Errors
    /// A server does not answer, or refuses; what was noted stays.
    pub(super) async fn write(&mut self) -> Result<bool, Failure> {
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
    pub(super) async fn drain(&mut self) -> Result<bool, Failure> {
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
            let pause = tokio::time::sleep(LOOK);
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
        let until = Instant::now() + RENEW;
        let (source, log) = (&mut self.source, &self.log);
        let after = fence::wait(source, log, &self.slot, snapshot.lsn, &self.stop).await?;
        let Some(after) = after else {
            return Ok(());
        };
        let moment = Moment {
            after,
            lsn: snapshot.lsn,
        };
        let (mut readers, mut pages) = self.read(snapshot).await?;
        while Instant::now() < until {
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                read = pages.recv() => read,
            };
            let Some(read) = read else { break };
            if !self.make_way(read.page.rows).await? {
                break;
            }
            self.emitter.emit(&mut self.run, read, &moment).await?;
            self.progress.noted(self.run.rows());
        }
        self.emitter.note_pages(&self.run).await?;
        if self.stop.is_cancelled() || Instant::now() >= until {
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
        let workers = WORKERS.min(work.len());
        let queue: Queue = Arc::new(Mutex::new(work));
        let (pages, taken) = mpsc::channel(WORKERS);
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

/// How fast it may go.
pub(super) struct Pace {
    rate: Option<Rate>,
    /// When the next page may be written, by the rate.
    free_at: Option<Instant>,
    looked: Option<Instant>,
    bound: Bound,
    throttle: Throttle,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>, behind: Duration) -> Self {
        Self {
            rate: rate.filter(|rate| rate.per_second() > 0.0),
            free_at: None,
            looked: None,
            bound: Bound(behind),
            throttle: Throttle::default(),
        }
    }

    /// How long to wait before a page of so many rows; what was not used before is not made up for.
    fn pause(&mut self, rows: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let free_at = self.free_at.unwrap_or(now).max(now);
        let takes = Duration::try_from_secs_f64(rows as f64 / rate.per_second());
        self.free_at = free_at.checked_add(takes.unwrap_or(Duration::MAX));
        free_at - now
    }

    fn is_time_to_look(&mut self, now: Instant) -> bool {
        let due = self
            .looked
            .is_none_or(|looked| now.duration_since(looked) >= LOOK);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_spread_by_the_rate_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace::new(Some("1000/s".parse().unwrap()), LOOK);
        let now = Instant::now();
        assert_eq!(pace.pause(2000, now), Duration::ZERO);
        assert_eq!(pace.pause(500, now), Duration::from_secs(2));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.pause(2000, later), Duration::ZERO);
        assert_eq!(pace.pause(1, later), Duration::from_secs(2));
        assert_eq!(Pace::new(None, LOOK).pause(2000, now), Duration::ZERO);
    }

    #[test]
    fn the_live_stream_is_looked_at_once_a_second() {
        let mut pace = Pace::new(None, LOOK);
        let now = Instant::now();
        assert!(pace.is_time_to_look(now));
        assert!(!pace.is_time_to_look(now + Duration::from_millis(900)));
        assert!(pace.is_time_to_look(now + LOOK));
    }
}
