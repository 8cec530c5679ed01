//! The poll thread: rebalances, commits, gauges.
//!
//! Invariant: a revoke is answered only after its lanes have ended (or were abandoned) and their commits were sent;
//! the thread never waits longer than the drain time, which is well below `max.poll.interval.ms`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::Point;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Committed;
use super::closing::{close_consumer, join};
use super::committing::{Commits, commit_last};
use super::context::{GroupEvent, acknowledge_assign};
use super::group::Group;
use super::pulse::Pulse;
use super::supervisor::{self, Lane, Open};
use super::watch::Watch;
use crate::error::{LaneError, RunError};

const POLL: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_secs(1);

/// Starts the thread and waits for its end.
pub(super) async fn spawn(
    group: Arc<Group>,
    open: Open,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let (done, ended) = oneshot::channel();
    let runtime = Handle::current();
    let name = format!("kafka-{}", group.options.group);
    let body = move || {
        let engine = Engine {
            group,
            open,
            runtime,
            lanes: BTreeMap::new(),
            remembered: BTreeMap::new(),
            commits: Commits::default(),
            watch: Watch::default(),
            pulse: Pulse::default(),
            stop,
        };
        // the receiver is gone only when nobody waits for the outcome
        let _ = done.send(engine.run());
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| RunError::Fatal {
            cause: error.to_string(),
        })?;
    ended.await.unwrap_or_else(|_| {
        Err(RunError::Fatal {
            cause: "the poll thread panicked".into(),
        })
    })
}

struct Engine {
    group: Arc<Group>,
    open: Open,
    runtime: Handle,
    lanes: BTreeMap<i32, Lane>,
    remembered: BTreeMap<i32, Committed>,
    commits: Commits,
    watch: Watch,
    pulse: Pulse,
    stop: CancellationToken,
}

impl Engine {
    fn run(mut self) -> Result<(), RunError> {
        let topic = self.group.options.topic.clone();
        let outcome = match self.group.consumer.subscribe(&[&topic]) {
            Ok(()) => self.turn(),
            Err(error) => Err(RunError::Fatal {
                cause: error.to_string(),
            }),
        };
        self.leave();
        outcome
    }

    fn turn(&mut self) -> Result<(), RunError> {
        let mut ticked = Instant::now();
        while !self.stop.is_cancelled() {
            self.poll()?;
            self.group.status.polled();
            while let Some(event) = self.group.consumer.context().take_event() {
                self.handle(event);
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick()?;
            }
        }
        Ok(())
    }

    fn poll(&self) -> Result<(), RunError> {
        match self.group.consumer.poll(POLL) {
            None => Ok(()),
            Some(Err(error)) => self.trouble(&error),
            Some(Ok(message)) => {
                // every partition has a queue of its own; a record here has missed its lane, which must read it again
                let partition = message.partition();
                warn!(
                    partition,
                    offset = message.offset(),
                    "record outside of its lane's queue"
                );
                if let Some(lane) = self.lanes.get(&partition) {
                    lane.shared
                        .cursor
                        .fail(LaneError::retry("a record missed the lane's queue"));
                }
                Ok(())
            }
        }
    }

    fn trouble(&self, error: &KafkaError) -> Result<(), RunError> {
        use RDKafkaErrorCode as Code;
        let servers = || self.group.options.settings.bootstrap_servers.clone();
        let cause = || {
            self.group
                .status
                .last_error()
                .map_or_else(|| error.to_string(), |(_, cause)| cause)
        };
        match (error, error.rdkafka_error_code()) {
            (_, Some(Code::GroupAuthorizationFailed)) => {
                let what = format!("group {}", self.group.options.group);
                Err(RunError::Authorization {
                    servers: servers(),
                    what,
                    cause: cause(),
                })
            }
            (KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), _) => {
                Err(RunError::Fenced {
                    group: self.group.options.group.clone(),
                    cause: cause(),
                })
            }
            (KafkaError::MessageConsumptionFatal(_), _) => Err(RunError::Fatal { cause: cause() }),
            _ => {
                debug!(%error, "client error");
                Ok(())
            }
        }
    }

    fn handle(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(partitions) => self.assign(&partitions),
            GroupEvent::Revoked(partitions) => self.revoke(&partitions),
        }
    }

    /// Acknowledged with nothing started: each lane starts its partition when it knows from where.
    fn assign(&mut self, partitions: &[i32]) {
        info!(group = %self.group.options.group, topic = %self.group.topic, ?partitions, "partitions assigned");
        if let Err(error) = acknowledge_assign(&self.group.consumer) {
            error!(%error, "assignment not acknowledged");
        }
        // a partition cannot be assigned twice; should it happen, the first lane must not go on beside the second
        self.close(partitions, true);
        for partition in partitions {
            let remembered = self.remembered.get(partition).cloned();
            let lane = supervisor::spawn(
                &self.runtime,
                &self.group,
                &self.open,
                *partition,
                remembered,
            );
            self.lanes.insert(*partition, lane);
        }
        self.group.status.joined();
    }

    fn revoke(&mut self, partitions: &[i32]) {
        let lost = self.group.consumer.assignment_lost();
        info!(group = %self.group.options.group, topic = %self.group.topic, ?partitions, lost, "partitions revoked");
        faults::reach_blocking(Point::StreamRevokeBefore);
        self.close(partitions, lost);
        if let Err(error) = self.group.end(partitions) {
            error!(%error, "revocation not acknowledged");
        }
        faults::reach_blocking(Point::StreamRevokeAfter);
    }

    /// Tells the lanes to stop, waits for them, and sends what they committed.
    fn close(&mut self, partitions: &[i32], lost: bool) {
        let closing: Vec<Lane> = partitions
            .iter()
            .filter_map(|partition| self.lanes.remove(partition))
            .collect();
        for lane in &closing {
            lane.stop.cancel();
        }
        let shared: Vec<_> = closing
            .iter()
            .map(|lane| Arc::clone(&lane.shared))
            .collect();
        join(&self.runtime, self.group.options.drain, closing);
        for lane in shared {
            let unconfirmed = lane.close().filter(|_| !lost);
            if let Some(committed) = unconfirmed
                && commit_last(&self.group, lane.partition, &committed)
            {
                lane.confirmed(committed);
            }
            if let Some(latest) = lane.latest_commit() {
                self.remembered.insert(lane.partition, latest);
            }
            self.group.status.close_lane(lane.partition);
        }
    }

    fn tick(&mut self) -> Result<(), RunError> {
        self.commits
            .send(&self.runtime, &self.group, self.lanes.values());
        self.group.probe.release_idle();
        self.group.status.publish((self.group.options.clock)());
        self.pulse.turn(&self.runtime, &self.group);
        self.watch.turn(&self.runtime, &self.group)?;
        match self.group.status.all_stopped() {
            Some(lanes) => Err(RunError::NoLaneLeft {
                topic: self.group.topic.to_string(),
                lanes,
            }),
            None => Ok(()),
        }
    }

    /// Ends every lane, gives the partitions back and leaves the group.
    fn leave(mut self) {
        let partitions: Vec<i32> = self.lanes.keys().copied().collect();
        self.close(&partitions, self.group.consumer.assignment_lost());
        self.group.consumer.context().close();
        if let Err(error) = self.group.end(&partitions) {
            debug!(%error, "delivery not ended");
        }
        self.pulse.end(&self.runtime);
        let (name, topic) = (
            self.group.options.group.clone(),
            self.group.options.topic.clone(),
        );
        close_consumer(self.group);
        info!(group = name, topic, "left the group");
    }
}
