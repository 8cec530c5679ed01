//! Asks the servers. Each probe has a thread of its own, so that one that waits for ever holds up nobody.
//!
//! Invariant: what a probe has found before its deadline is kept.

pub(super) mod clickhouse;
pub(super) mod connect;
pub(super) mod kafka;
pub(super) mod postgres;
pub(super) mod redis;
pub(super) mod webhook;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engagement::envelope::{Parser, TableSchema};
use platform::{Component, PlatformError};
use service::Exit;

use super::Asked;
use super::report::Diagnosis;
use crate::check;
use crate::config::Config;

/// What a probe has found so far.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<Diagnosis>>>);

impl Notes {
    pub(super) fn add(&self, found: impl IntoIterator<Item = Diagnosis>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.extend(found);
    }

    fn take(&self) -> Vec<Diagnosis> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a probe, and gives what it has found by the deadline.
pub(super) async fn within<F: Future<Output = ()> + 'static>(
    what: &'static str,
    deadline: Duration,
    probe: impl FnOnce(Notes) -> F + Send + 'static,
) -> Vec<Diagnosis> {
    let notes = Notes::default();
    let (done, ended) = tokio::sync::oneshot::channel();
    let own = notes.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime {
            runtime.block_on(probe(own));
            // nobody waits any more once the deadline has passed
            let _ = done.send(());
        }
    });
    let ended = tokio::time::timeout(deadline, ended).await;
    let mut found = notes.take();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(_)) => found.push(
            Diagnosis::error(what, "the probe ended in the middle: a defect of this tool")
                .next("report it with what stands above")
                .exits(Exit::Internal),
        ),
        Err(_) => found.push(
            Diagnosis::error(
                what,
                format!(
                    "has not answered everything within {} s",
                    deadline.as_secs()
                ),
            )
            .right("an answer in time")
            .next("look at that server and the way there, or let --deadline be longer")
            .exits(Exit::Unavailable),
        ),
    }
    found
}

/// What `check` says of a component; `None`: it is not there, so that nothing more needs to be asked.
async fn checked(asked: &Asked, component: Component, notes: &Notes) -> Option<()> {
    let inspected = platform::inspect_one(&asked.settings, component).await?;
    let is_away = inspected.as_ref().is_err_and(PlatformError::is_unreachable);
    let found = check::judged(component, inspected);
    notes.add(found.into_iter().map(Diagnosis::from));
    (!is_away).then_some(())
}

/// What a question came to that is not part of `check`.
fn refused(what: &str, error: &PlatformError) -> [Diagnosis; 1] {
    [check::unreachable(what, error).into()]
}

/// Reads records of the change topic.
pub(super) fn parser(config: &Config) -> Parser {
    Parser::new(TableSchema {
        event_key: config.database.schema.event_key().into(),
        content_id: config.database.schema.content_key().into(),
        ..TableSchema::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    #[tokio::test]
    async fn what_was_found_before_the_deadline_is_kept_and_the_silence_is_named() {
        let found = within("kafka", Duration::from_millis(50), |notes| async move {
            notes.add([Diagnosis::ok("topic", "is there")]);
            std::future::pending::<()>().await;
        });
        let found = found.await;
        assert_eq!(found[0].found, "is there");
        assert_eq!(found[1].severity, Severity::Error);
        assert!(found[1].found.contains("has not answered"), "{found:?}");
    }

    #[tokio::test]
    async fn a_probe_that_panics_is_named_and_ends_nothing_else() {
        let broken = within("redis", Duration::from_secs(60), |_| async {
            panic!("broken")
        });
        let well = within("kafka", Duration::from_secs(60), |notes| async move {
            notes.add([Diagnosis::ok("topic", "is there")]);
        });
        let (broken, well) = tokio::join!(broken, well);
        assert!(broken[0].found.contains("defect"), "{broken:?}");
        assert_eq!(well.len(), 1);
    }
}
