//! What a backfill brings, for endpoints that take historical events: a second consumer of the same endpoint.
//!
//! Invariant: it shares limits and breaker with the live one, and nothing that happens to it ends or stops that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use service::Context;
use stream::{LanesOptions, Status, lanes};
use tokio_util::sync::CancellationToken;

use crate::config::Start;
use crate::enrol::{Enrolment, enrol};
use crate::lane;
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
                group: format!("{}.backfill", live.group),
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
            match self.attempt(&shown, &status, &stop).await {
                Ok(()) => return,
                Err(error) => {
                    shown.off();
                    tracing::warn!(
                        endpoint = self.runtime.endpoint.name,
                        topic = self.options.topic,
                        error,
                        "backfills are not delivered, the live stream is"
                    );
                }
            }
            let pause = tokio::time::sleep(AGAIN);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn attempt(
        &self,
        shown: &Shown,
        status: &Arc<Status>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let enrolment = Enrolment {
            settings: self.options.settings.clone(),
            group: self.options.group.clone(),
            topic: self.options.topic.clone(),
            start: first(self.runtime.endpoint.start),
            patience: self.options.startup,
        };
        enrol(enrolment, stop)
            .await
            .map_err(|error| error.to_string())?;
        shown.on(status);
        let runtime = Arc::clone(&self.runtime);
        let work = move |handle| lane::run(Arc::clone(&runtime), handle);
        let ran = lanes::run(self.options.clone(), stop.clone(), Arc::clone(status), work).await;
        ran.map_err(|error| error.to_string())
    }
}

/// A group of its own has no position when its endpoint has one: it can only begin, not resume.
const fn first(start: Start) -> Start {
    match start {
        Start::Earliest => Start::Earliest,
        Start::Latest | Start::Resume => Start::Latest,
    }
}

/// What `/readyz` says: nothing is wrong where nothing is read.
#[derive(Default)]
struct Shown {
    is_on: AtomicBool,
    status: RwLock<Option<Arc<Status>>>,
}

impl Shown {
    fn on(&self, status: &Arc<Status>) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(status));
        self.is_on.store(true, Ordering::SeqCst);
    }

    fn off(&self) {
        self.is_on.store(false, Ordering::SeqCst);
    }

    fn readiness(&self) -> Result<(), String> {
        let status = self.status.read().unwrap_or_else(PoisonError::into_inner);
        match status
            .as_ref()
            .filter(|_| self.is_on.load(Ordering::SeqCst))
        {
            Some(status) => status.readiness(),
            None => Ok(()),
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
}
