//! What the loop knows about itself: readiness, liveness, lag and seconds behind.
//!
//! Invariant: not ready says why, naming topic and partition; numbers come from offsets and record timestamps only.

mod lane;
mod progress;
mod reach;
mod silence;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use lane::{LaneState, LaneView};
pub(crate) use progress::Progress;
pub(crate) use reach::{Loss, Missing};

use metrics::gauge;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::statistics::Statistics;

use crate::metrics::{BEHIND_SECONDS, CONSUMER_LAG, LANE_STOPPED, partitions_assigned};
use crate::sync::locked;
use lane::{LaneEntry, lag_f64};
use reach::Reach;
use silence::Silence;

/// A poll thread that has not turned for this long is stuck (a drain may take 20 s).
const STUCK: Duration = Duration::from_secs(60);

/// State of one [`crate::lanes::run`]; shared with the health endpoints.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    group: String,
    topic: String,
    /// Was a member at least once.
    joined: bool,
    polled: Option<Instant>,
    broker: Option<(RDKafkaErrorCode, String)>,
    reach: Reach,
    silence: Silence,
    lanes: BTreeMap<i32, LaneEntry>,
}

impl Status {
    /// Nothing known yet: not ready, alive.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Assigned (or waiting as a spare member), broker reachable, no lane stopped, failing or stalled.
    ///
    /// # Errors
    /// The first reason why not, with its remedy where there is one.
    pub fn readiness(&self) -> Result<(), String> {
        let inner = locked(&self.inner);
        let topic = &inner.topic;
        if let Some(loss) = inner.reach.loss() {
            inner.may_be_out(loss)?;
        }
        inner.silence.reason().map_or(Ok(()), Err)?;
        if !inner.joined {
            return Err(format!(
                "waiting for partitions of topic {topic} in group {}",
                inner.group
            ));
        }
        for (partition, lane) in &inner.lanes {
            let at = format!("topic {topic} partition {partition}");
            match &lane.state {
                LaneState::Opening => return Err(format!("{at} is being opened")),
                LaneState::Retrying { reason } => return Err(format!("{at} is retried: {reason}")),
                LaneState::Stopped { reason, remedy } => {
                    return Err(format!("{at} is stopped: {reason}; {remedy}"));
                }
                LaneState::Running if lane.progress.is_stalled(lane.high) => {
                    return Err(format!(
                        "{at} makes no progress at offset {}",
                        lane.progress.done_offset()
                    ));
                }
                LaneState::Running => {}
            }
        }
        Ok(())
    }

    /// The poll thread turns (or has not started yet).
    ///
    /// # Errors
    /// It has not turned for a minute.
    pub fn liveness(&self) -> Result<(), String> {
        let inner = locked(&self.inner);
        match inner.polled {
            Some(at) if at.elapsed() > STUCK => Err(format!(
                "the consumer loop of topic {} has not turned for {} s",
                inner.topic,
                at.elapsed().as_secs()
            )),
            _ => Ok(()),
        }
    }

    /// All lanes, by partition.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let inner = locked(&self.inner);
        inner
            .lanes
            .iter()
            .map(|(partition, lane)| lane.view(*partition))
            .collect()
    }

    pub(crate) fn begin(&self, group: &str, topic: &str) {
        *locked(&self.inner) = Inner {
            group: group.to_owned(),
            topic: topic.to_owned(),
            ..Inner::default()
        };
    }

    pub(crate) fn joined(&self) {
        let mut inner = locked(&self.inner);
        inner.joined = true;
        inner.reach.joined();
    }

    pub(crate) fn polled(&self) {
        locked(&self.inner).polled = Some(Instant::now());
    }

    pub(crate) fn open_lane(&self, partition: i32) -> Arc<Progress> {
        let progress = Arc::new(Progress::default());
        let entry = LaneEntry {
            state: LaneState::Opening,
            high: -1,
            behind_seconds: 0.0,
            held: None,
            progress: Arc::clone(&progress),
        };
        locked(&self.inner).lanes.insert(partition, entry);
        progress
    }

    pub(crate) fn lane(&self, partition: i32, state: LaneState) {
        if let Some(lane) = locked(&self.inner).lanes.get_mut(&partition) {
            lane.state = state;
        }
    }

    pub(crate) fn end_of_log(&self, partition: i32, high: i64) {
        if let Some(lane) = locked(&self.inner).lanes.get_mut(&partition) {
            lane.high = lane.high.max(high);
        }
    }

    /// A partition given away reports nothing from here on; its gauges go to 0 so that sums stay right.
    pub(crate) fn close_lane(&self, partition: i32) {
        let mut inner = locked(&self.inner);
        inner.lanes.remove(&partition);
        inner.gauges(partition, 0.0, 0.0, false);
        partitions_assigned(&inner.topic, &inner.group, inner.lanes.len());
    }

    /// That all brokers are down never replaces the reason why.
    pub(crate) fn client_error(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut inner = locked(&self.inner);
        if code == RDKafkaErrorCode::AllBrokersDown {
            inner.reach.cut_off(Instant::now());
            inner
                .broker
                .get_or_insert_with(|| (code, reason.to_owned()));
        } else {
            inner.broker = Some((code, reason.to_owned()));
        }
    }

    pub(crate) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        locked(&self.inner).broker.clone()
    }

    pub(crate) fn statistics(&self, statistics: &Statistics) {
        let mut inner = locked(&self.inner);
        inner.reach.observe(Instant::now(), statistics);
        // a member without partitions is never told so by a rebalance
        inner.joined |= inner.reach.loss().is_none();
        let Some(topic) = statistics.topics.get(&inner.topic) else {
            return;
        };
        for (partition, numbers) in &topic.partitions {
            if let Some(lane) = inner.lanes.get_mut(partition) {
                lane.high = lane.high.max(numbers.hi_offset);
                lane.held = Some(numbers.fetchq_cnt);
                if numbers.fetchq_cnt == 0
                    && numbers.hi_offset >= 0
                    && numbers.next_offset >= numbers.hi_offset
                {
                    lane.progress.nothing_below(numbers.hi_offset);
                }
            }
        }
    }

    /// Sets the gauges; `now` in microseconds since 1970 UTC.
    pub(crate) fn publish(&self, now: i64) {
        let mut inner = locked(&self.inner);
        let partitions: Vec<i32> = inner.lanes.keys().copied().collect();
        partitions_assigned(&inner.topic, &inner.group, partitions.len());
        for partition in partitions {
            let Some(lane) = inner.lanes.get_mut(&partition) else {
                continue;
            };
            lane.high = lane.high.max(lane.progress.delivered_offset());
            lane.behind_seconds = lane.progress.behind_seconds(lane.high, now);
            let view = lane.view(partition);
            let stopped = matches!(view.state, LaneState::Stopped { .. });
            inner.gauges(partition, view.behind_seconds, lag_f64(view.lag), stopped);
        }
    }

    /// A loss too long to be a part of a rebalance: then another client is to be asked.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        locked(&self.inner).reach.is_out(Instant::now())
    }

    /// What another client was told about the same group.
    pub(crate) fn other_asked(&self, answered: bool) {
        locked(&self.inner)
            .reach
            .other_asked(Instant::now(), answered);
    }

    /// The loss of the group that only a new client ends.
    pub(crate) fn given_up(&self) -> Option<Loss> {
        locked(&self.inner).reach.given_up(Instant::now()).cloned()
    }

    /// If there are lanes and all are stopped: what each says.
    pub(crate) fn all_stopped(&self) -> Option<String> {
        let inner = locked(&self.inner);
        let mut said = Vec::new();
        for (partition, lane) in &inner.lanes {
            let LaneState::Stopped { reason, remedy } = &lane.state else {
                return None;
            };
            said.push(format!("partition {partition}: {reason}; {remedy}"));
        }
        (!said.is_empty()).then(|| said.join(" | "))
    }
}

impl Inner {
    /// A rebalance takes its time; that no broker answers is told at once.
    fn may_be_out(&self, loss: &Loss) -> Result<(), String> {
        match (&self.broker, loss.missing) {
            (Some((code, reason)), Missing::Broker) => {
                Err(format!("no broker reachable: {code}: {reason}; {loss}"))
            }
            _ if self.joined && self.reach.is_out(Instant::now()) => {
                Err(format!("group {} is out of reach: {loss}", self.group))
            }
            _ => Ok(()),
        }
    }

    fn gauges(&self, partition: i32, behind: f64, lag: f64, stopped: bool) {
        let set = |name: &'static str, value: f64| {
            let labels = [
                ("topic", self.topic.clone()),
                ("partition", partition.to_string()),
                ("group", self.group.clone()),
            ];
            gauge!(name, &labels).set(value);
        };
        set(BEHIND_SECONDS, behind);
        set(CONSUMER_LAG, lag);
        set(LANE_STOPPED, f64::from(u8::from(stopped)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_lane_among_others_makes_the_process_unready_but_not_ended() {
        let status = Status::new();
        status.begin("g", "t");
        assert!(
            status
                .readiness()
                .unwrap_err()
                .contains("waiting for partitions")
        );
        status.joined();
        assert_eq!(status.readiness(), Ok(()));
        for partition in [0, 1] {
            status.open_lane(partition);
            status.lane(partition, LaneState::Running);
        }
        assert_eq!(status.readiness(), Ok(()));
        let stopped = LaneState::Stopped {
            reason: "a hole".into(),
            remedy: "run x".into(),
        };
        status.lane(1, stopped.clone());
        assert_eq!(
            status.readiness(),
            Err("topic t partition 1 is stopped: a hole; run x".into())
        );
        assert_eq!(status.all_stopped(), None);
        status.lane(0, stopped);
        assert!(
            status
                .all_stopped()
                .unwrap()
                .contains("partition 0: a hole; run x")
        );
    }

    #[test]
    fn a_broker_that_is_away_is_named_until_it_is_back() {
        let status = Status::new();
        status.begin("g", "t");
        status.joined();
        status.client_error(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert!(
            status
                .readiness()
                .unwrap_err()
                .contains("1/1 brokers are down")
        );
    }
}
