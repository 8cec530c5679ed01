//! A service in this process.

use service::{Context, Failure, Health, Lifecycle};
use tokio::task::JoinHandle;

use crate::broker::{WAIT, eventually};

/// A service in this process.
pub(crate) struct Running {
    health: Health,
    lifecycle: Lifecycle,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) fn start<F>(run: impl FnOnce(Context) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let context = Context {
            lifecycle: Lifecycle::default(),
            health: Health::default(),
        };
        let (health, lifecycle) = (context.health.clone(), context.lifecycle.clone());
        let task = tokio::spawn(run(context));
        Self {
            health,
            lifecycle,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.lifecycle.soft().cancel();
        tokio::time::timeout(WAIT, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Why it ended by itself.
    pub(crate) async fn failure(self) -> String {
        let ended = tokio::time::timeout(WAIT, self.task).await.unwrap();
        ended.unwrap().unwrap_err().render("service")
    }

    /// Why at least one of its lanes stopped, whether or not others go on.
    pub(crate) async fn stopped_lane(self) -> String {
        let reasons = || {
            let conditions = self.health.ready().conditions.into_iter();
            let reasons = conditions.filter_map(|condition| condition.reason);
            reasons.collect::<Vec<_>>().join("; ")
        };
        let said = eventually("a lane stopped", async || {
            let said = reasons();
            let is_stopped = said.contains("rebuild redis");
            (is_stopped || self.task.is_finished())
                .then_some(said.clone())
                .ok_or(said)
        })
        .await;
        if self.task.is_finished() {
            return self.failure().await;
        }
        // it may end by itself meanwhile, when no lane is left
        self.lifecycle.soft().cancel();
        let _ = tokio::time::timeout(WAIT, self.task).await.unwrap();
        said
    }
}
