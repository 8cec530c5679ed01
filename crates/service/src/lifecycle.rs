//! How every service stops: a soft token (finish what is begun), a hard token (drop it), a tracker of all tasks, and the
//! first failure. Invariant: the first failure recorded is the one the process ends with; later ones only follow from it.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Failure;

/// The shared life of one process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Lifecycle {
    /// Cancelled when the service should finish what it has begun and return: SIGTERM, SIGINT, or a failure elsewhere.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when waiting is over: a second signal, or the drain deadline. What is not safe yet is left undone.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// The tasks that the process waits for before it exits. [`Lifecycle::spawn`] is the usual way in.
    #[must_use]
    pub fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    /// Runs a tracked task. Its failure, or its panic, stops the whole service and decides the exit code.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let life = self.clone();
        self.tracker.spawn(async move {
            if let Err(failure) = caught(name, task).await {
                life.fail(failure);
            }
        });
    }

    /// Records why the service cannot go on, and asks all of it to stop.
    pub fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(failure);
        } else {
            tracing::warn!(error = %failure, "another failure while stopping");
        }
        drop(first);
        self.soft.cancel();
    }

    /// Takes the failure that decides the exit code.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

tokio::task_local! {
    /// Set while a task runs whose panic becomes a failure under its own name.
    static CAUGHT: ();
}

/// Whether a panic here is turned into a failure by [`caught`].
pub(crate) fn is_caught() -> bool {
    CAUGHT.try_with(|()| ()).is_ok()
}

/// The result of `task`, a panic in it turned into an internal failure that names the task.
pub(crate) async fn caught<F>(name: impl Display, task: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    match AssertUnwindSafe(CAUGHT.scope((), task))
        .catch_unwind()
        .await
    {
        Ok(result) => result,
        Err(panic) => Err(panicked(name, &*panic)),
    }
}

/// The failure that a panic is.
pub(crate) fn panicked(name: impl Display, panic: &(dyn Any + Send)) -> Failure {
    Failure::internal(format!("{name} panicked"))
        .cause(panic_text(panic).to_owned())
        .remedy("a defect: report it with the log around the line `panic`; a restart resumes where the work is safe")
}

/// The text given to `panic!`.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_task_stops_the_service_and_the_first_failure_counts() {
        let life = Lifecycle::default();
        life.spawn("first", async { Err(Failure::repair("first")) });
        life.soft().cancelled().await;
        life.fail(Failure::internal("second"));
        let failure = life.take_failure().unwrap();
        assert_eq!((failure.what(), failure.exit().code()), ("first", 78));
        assert!(!life.hard().is_cancelled());
    }

    #[tokio::test]
    async fn a_panicking_task_is_an_internal_failure_that_names_it() {
        let life = Lifecycle::default();
        life.spawn("catalog", async { panic!("row {}", 7) });
        life.soft().cancelled().await;
        let failure = life.take_failure().unwrap();
        assert_eq!(
            (failure.what(), failure.exit().code()),
            ("catalog panicked", 70)
        );
        assert_eq!(failure.causes(), ["row 7"]);
    }
}
