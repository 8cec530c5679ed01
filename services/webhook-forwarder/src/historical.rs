//! What a backfill brings, for endpoints that take historical events: a second consumer of the same endpoint.
//!
//! Invariant: it shares limits and breaker with the live one, and nothing that happens to it ends or stops that.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use service::Context;
use stream::{LanesOptions, RunError, Status, lanes};
use tokio_util::sync::CancellationToken;

use crate::config::Start;
use crate::enrol::{EnrolError, Enrolment, enrol};
use crate::lane;
use crate::position::BACKFILLS;
use crate::runtime::Runtime;

/// Before a consumer that has ended is started again.
const AGAIN: Duration = Duration::from_secs(30);

/// The second consumer.
pub struct Historical {
    /// As the live one, but for topic and group.
    options: LanesOptions,
    runtime: Arc<Runtime>,
}

impl Historical {
    /// For an endpoint whose live consumer has these options; `None`: it does not take historical events.
    #[must_use]
    pub fn of(runtime: &Arc<Runtime>, live: &LanesOptions, topic: String) -> Option<Self> {
        let is_wanted = runtime.endpoint.selection.historical && !topic.is_empty();
        is_wanted.then(|| Self {
            options: LanesOptions {
                group: format!("{}{BACKFILLS}", live.group),
                topic,
                ..live.clone()
            },
            runtime: Arc::clone(runtime),
        })
    }

    /// Delivers until `stop`. The topic need not be there: it is looked for again.
    pub async fn run(self, ctx: &Context, stop: CancellationToken) {
        let shown = Arc::new(Shown::default());
        let ready = Arc::clone(&shown);
        let name = format!("endpoint {}: backfill", self.runtime.endpoint.name);
        ctx.health.readiness(name, move || ready.readiness());
        loop {
            let status = Status::new();
            let ended = match self.attempt(&shown, &status, &stop).await {
                Ok(()) => return,
                Err(ended) => ended,
            };
            self.report(&ended);
            match ended {
                Ended::NoTopic(_) => shown.off(),
                Ended::Failed(why) => shown.broken(why),
                // as the live one would: it goes on when the process is started again, after the repair
                Ended::Stopped(why) => {
                    shown.broken(why);
                    return stop.cancelled().await;
                }
            }
            let pause = tokio::time::sleep(AGAIN);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    fn report(&self, ended: &Ended) {
        let (Ended::NoTopic(error) | Ended::Failed(error) | Ended::Stopped(error)) = ended;
        let (endpoint, topic) = (&self.runtime.endpoint.name, &self.options.topic);
        let what = "backfills are not delivered, the live stream is";
        match ended {
            Ended::Stopped(_) => tracing::error!(endpoint, topic, error, "{what}"),
            _ => tracing::warn!(endpoint, topic, error, "{what}"),
        }
    }

    async fn attempt(
        &self,
        shown: &Shown,
        status: &Arc<Status>,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let enrolment = Enrolment {
            settings: self.options.settings.clone(),
            group: self.options.group.clone(),
            topic: self.options.topic.clone(),
            start: first(self.runtime.endpoint.start),
            patience: self.options.startup,
        };
        enrol(enrolment, stop)
            .await
            .map_err(|error| Ended::of(&error))?;
        shown.on(status);
        let runtime = Arc::clone(&self.runtime);
        let work = move |handle| lane::run(Arc::clone(&runtime), handle);
        let ran = lanes::run(self.options.clone(), stop.clone(), Arc::clone(status), work).await;
        ran.map_err(|error| match error {
            RunError::NoLaneLeft { .. } => Ended::Stopped(error.to_string()),
            _ => Ended::Failed(error.to_string()),
        })
    }
}

/// Why the second consumer is not at work.
enum Ended {
    /// There is nothing to read, which is no trouble.
    NoTopic(String),
    /// It cannot begin, or the broker is away.
    Failed(String),
    /// Each of its lanes has stopped, and names what is to be repaired.
    Stopped(String),
}

impl Ended {
    fn of(error: &EnrolError) -> Self {
        match error {
            EnrolError::Broker(RunError::MissingTopic { .. }) => Self::NoTopic(error.to_string()),
            EnrolError::Broker(_) | EnrolError::Lost { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// A group of its own has no position when its endpoint has one: it can only begin, not resume.
const fn first(start: Start) -> Start {
    match start {
        Start::Earliest => Start::Earliest,
        Start::Latest | Start::Resume => Start::Latest,
    }
}

/// What `/readyz` says: nothing is wrong where there is nothing to read.
#[derive(Default)]
struct Shown(RwLock<State>);

#[derive(Default)]
enum State {
    /// There is no such topic.
    #[default]
    Off,
    /// As the consumer says.
    On(Arc<Status>),
    /// It has ended, for this reason.
    Broken(String),
}

impl Shown {
    fn on(&self, status: &Arc<Status>) {
        self.set(State::On(Arc::clone(status)));
    }

    fn off(&self) {
        self.set(State::Off);
    }

    fn broken(&self, why: String) {
        self.set(State::Broken(why));
    }

    fn set(&self, state: State) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn readiness(&self) -> Result<(), String> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Off => Ok(()),
            State::On(status) => status.readiness(),
            State::Broken(why) => Err(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_group_never_has_to_resume() {
        assert_eq!(first(Start::Resume), Start::Latest);
        assert_eq!(first(Start::Earliest), Start::Earliest);
    }

    #[test]
    fn nothing_is_wrong_while_nothing_is_read() {
        let shown = Shown::default();
        assert_eq!(shown.readiness(), Ok(()));
        shown.on(&Status::new());
        assert!(shown.readiness().is_err(), "nothing is assigned yet");
        shown.off();
        assert_eq!(shown.readiness(), Ok(()));
    }

    #[test]
    fn a_consumer_of_which_no_lane_is_left_is_not_ready_and_says_why() {
        let shown = Shown::default();
        shown.on(&Status::new());
        shown.broken("16 lanes have stopped".into());
        assert_eq!(shown.readiness(), Err("16 lanes have stopped".to_owned()));
    }
}
