//! Partitions of which nothing is heard, and a broker that does not answer.
//!
//! Invariant: a record or an answer ends the silence; only a question without an answer begins it.

use std::time::{Duration, Instant};

use super::Status;
use super::lane::LaneEntry;
use crate::sync::locked;

/// Since when the broker has not answered, and what was asked last.
#[derive(Debug, Default)]
pub(super) struct Silence(Option<(Instant, String)>);

impl Silence {
    fn note(&mut self, asked: String) {
        let since = self.0.take().map_or_else(Instant::now, |(since, _)| since);
        self.0 = Some((since, asked));
    }

    pub(super) fn reason(&self) -> Option<String> {
        let (since, asked) = self.0.as_ref()?;
        let seconds = since.elapsed().as_secs();
        Some(format!(
            "the broker does not answer, for {seconds} s: {asked}"
        ))
    }
}

impl Status {
    /// Partitions of which nothing was heard for this long; without any partition, the first one stands for the broker.
    pub(crate) fn silent(&self, time: Duration) -> Vec<i32> {
        let mut inner = locked(&self.inner);
        if inner.lanes.is_empty() {
            return vec![0];
        }
        let is_silent = |lane: &LaneEntry| lane.progress.is_silent(time);
        let silent: Vec<i32> = inner
            .lanes
            .iter()
            .filter(|(_, lane)| is_silent(lane))
            .map(|(partition, _)| *partition)
            .collect();
        if silent.len() < inner.lanes.len() {
            // a record that has come is an answer
            inner.silence = Silence::default();
        }
        silent
    }

    /// The broker was asked where this partition ends. A lane that fetches knows better: its answers tell records from
    /// markers of transactions.
    pub(crate) fn looked(&self, partition: i32, high: i64) {
        let mut inner = locked(&self.inner);
        inner.silence = Silence::default();
        if let Some(lane) = inner.lanes.get_mut(&partition)
            && !lane.is_fetching()
        {
            lane.high = lane.high.max(high);
        }
    }

    /// The broker was asked about this partition and did not answer.
    pub(crate) fn no_answer(&self, partition: i32, error: &str) {
        let mut inner = locked(&self.inner);
        let asked = format!("topic {} partition {partition}: {error}", inner.topic);
        inner.silence.note(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::super::LaneState;
    use super::*;

    #[test]
    fn a_stopped_lane_learns_where_its_log_ends_and_one_that_fetches_knows_better() {
        let status = Status::new();
        status.begin("g", "t");
        status.joined();
        let progress = status.open_lane(0);
        progress.begin(5);
        let lag = || status.lanes()[0].lag;
        status.lane(0, LaneState::Running);
        status.looked(0, 8);
        assert_eq!(lag(), 3, "no statistics yet");
        locked(&status.inner).lanes.get_mut(&0).unwrap().held = Some(0);
        status.looked(0, 9);
        assert_eq!(lag(), 3, "9 may be a marker of a transaction");
        let stopped = LaneState::Stopped {
            reason: "a hole".into(),
            remedy: "run x".into(),
        };
        status.lane(0, stopped);
        status.looked(0, 20);
        assert_eq!(lag(), 15);
    }

    #[test]
    fn a_broker_that_does_not_answer_makes_the_process_unready_until_it_does() {
        let status = Status::new();
        status.begin("g", "t");
        status.joined();
        assert_eq!(status.silent(Duration::ZERO), [0], "without a partition");
        status.no_answer(0, "timed out");
        let reason = status.readiness().unwrap_err();
        assert!(
            reason.contains("topic t partition 0: timed out"),
            "{reason}"
        );
        status.looked(0, 3);
        assert_eq!(status.readiness(), Ok(()));
        status.no_answer(0, "timed out");
        status.open_lane(0).begin(0);
        status.open_lane(1).begin(0);
        (0..2).for_each(|partition| status.lane(partition, LaneState::Running));
        assert_eq!(status.silent(Duration::from_secs(60)), [0; 0]);
        assert_eq!(status.readiness(), Ok(()), "a record has come");
    }
}
