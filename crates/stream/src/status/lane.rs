//! One lane as its status keeps it and as others see it.
//!
//! Invariant: numbers come from offsets and record timestamps only.

use std::sync::Arc;

use super::Progress;

/// What a lane is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Reads its commit and proves its position.
    Opening,
    /// Works.
    Running,
    /// Failed; is opened again after a pause.
    Retrying {
        /// What failed.
        reason: String,
    },
    /// A human must repair.
    Stopped {
        /// What is wrong.
        reason: String,
        /// The next command to run.
        remedy: String,
    },
}

/// One lane, for display.
#[derive(Clone, Debug)]
pub struct LaneView {
    /// Partition.
    pub partition: i32,
    /// What it is doing.
    pub state: LaneState,
    /// Everything below is done.
    pub done: i64,
    /// Records not done yet.
    pub lag: i64,
    /// Age of the oldest record not done, in seconds; 0 when caught up.
    pub behind_seconds: f64,
    /// Records fetched and not taken by the lane, as of the last statistics (every 5 s).
    pub held: Option<i64>,
}

#[derive(Debug)]
pub(super) struct LaneEntry {
    pub(super) state: LaneState,
    pub(super) high: i64,
    pub(super) behind_seconds: f64,
    pub(super) held: Option<i64>,
    pub(super) progress: Arc<Progress>,
}

impl LaneEntry {
    /// The answers to its fetches say where its log ends: it works, and takes what is fetched.
    pub(super) fn is_fetching(&self) -> bool {
        self.state == LaneState::Running && self.held == Some(0)
    }

    pub(super) fn view(&self, partition: i32) -> LaneView {
        let done = self.progress.done_offset();
        let lag = if done < 0 {
            0
        } else {
            (self.high - done).max(0)
        };
        LaneView {
            partition,
            state: self.state.clone(),
            done,
            lag,
            behind_seconds: self.behind_seconds,
            held: self.held,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge; offsets beyond 2^53 do not occur"
)]
pub(super) fn lag_f64(lag: i64) -> f64 {
    lag as f64
}
