//! What `/livez` and `/readyz` answer: named conditions, each with its reason.
//! Invariant: a service is ready only while every condition is; a reason is always given when one is not. A running
//! service without a condition of its own is not ready yet.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;

/// How often changes are looked for.
const LOOK: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The conditions of one process; clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<Vec<Registered>>>,
}

#[derive(Clone)]
struct Registered {
    name: String,
    kind: Kind,
    check: Check,
}

/// What a condition counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/readyz`: fit to work.
    Readiness,
    /// `/livez`: not stuck; a failure asks for a restart.
    Liveness,
}

/// The answer of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all conditions hold.
    pub ok: bool,
    /// Each condition, in the order of registration.
    pub conditions: Vec<Reported>,
}

/// One condition at the time of asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// The name it was registered under.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// Adds a condition of `/readyz`, asked at every request: keep it cheap and without waiting.
    pub fn readiness(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.register(name.into(), Kind::Readiness, Arc::new(check));
    }

    /// Adds a condition of `/livez`; failing means that only a restart helps.
    pub fn liveness(
        &self,
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.register(name.into(), Kind::Liveness, Arc::new(check));
    }

    /// Adds a condition of `/readyz` that is set by hand; not ready ("starting") until it is.
    #[must_use]
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let state = Arc::new(RwLock::new(Err("starting".to_owned())));
        let shared = Arc::clone(&state);
        self.readiness(name, move || {
            shared
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        });
        Condition { state }
    }

    /// What `/readyz` answers now.
    #[must_use]
    pub fn ready(&self) -> Report {
        self.report(Kind::Readiness)
    }

    /// What `/livez` answers now.
    #[must_use]
    pub fn live(&self) -> Report {
        self.report(Kind::Liveness)
    }

    /// Tells the log of every change, one line a condition: what `/readyz` answers is asked once a second.
    pub(crate) async fn tell_changes(self) {
        let mut known = Known::default();
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            for condition in known.changes(&self.ready()) {
                match &condition.reason {
                    None => tracing::info!(condition = condition.name, "ready"),
                    Some(reason) => tracing::warn!(condition = condition.name, reason, "not ready"),
                }
            }
        }
    }

    /// How many conditions `/readyz` has.
    pub(crate) fn readiness_count(&self) -> usize {
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner);
        checks
            .iter()
            .filter(|registered| registered.kind == Kind::Readiness)
            .count()
    }

    fn register(&self, name: String, kind: Kind, check: Check) {
        self.checks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Registered { name, kind, check });
    }

    fn report(&self, kind: Kind) -> Report {
        // Cloned out of the lock: a check may itself register or set a condition.
        let checks = self
            .checks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let conditions: Vec<_> = checks
            .into_iter()
            .filter(|registered| registered.kind == kind)
            .map(|registered| {
                let reason = (registered.check)().err();
                Reported {
                    name: registered.name,
                    ok: reason.is_none(),
                    reason,
                }
            })
            .collect();
        Report {
            ok: conditions.iter().all(|condition| condition.ok),
            conditions,
        }
    }
}

/// What was said last of each condition.
#[derive(Default)]
struct Known(HashMap<String, bool>);

impl Known {
    /// The conditions that hold now and did not, or the other way round. One that does not hold yet has not changed.
    fn changes<'a>(&mut self, report: &'a Report) -> Vec<&'a Reported> {
        let changed = |condition: &&Reported| {
            let before = self.0.insert(condition.name.clone(), condition.ok);
            before.unwrap_or(false) != condition.ok
        };
        report.conditions.iter().filter(changed).collect()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("ready", &self.ready())
            .field("live", &self.live())
            .finish()
    }
}

/// A condition of `/readyz` that its owner sets.
#[derive(Clone, Debug)]
pub struct Condition {
    state: Arc<RwLock<Result<(), String>>>,
}

impl Condition {
    /// The condition holds from now on.
    pub fn ready(&self) {
        self.set(Ok(()));
    }

    /// The condition does not hold, for this reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, new: Result<(), String>) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_starts_not_ready_and_follows_its_owner() {
        let health = Health::default();
        let kafka = health.condition("kafka");
        assert_eq!(
            health.ready().conditions[0].reason.as_deref(),
            Some("starting")
        );
        kafka.ready();
        assert!(health.ready().ok);
        kafka.not_ready("no broker answers");
        let report = health.ready();
        assert!(!report.ok);
        assert_eq!(
            report.conditions[0].reason.as_deref(),
            Some("no broker answers")
        );
    }

    #[test]
    fn each_change_is_told_once_and_a_condition_that_never_held_is_none() {
        let (health, mut known) = (Health::default(), Known::default());
        let kafka = health.condition("kafka");
        let mut told = || -> Vec<bool> {
            let report = health.ready();
            known.changes(&report).iter().map(|c| c.ok).collect()
        };
        assert_eq!(told(), [false; 0], "starting");
        kafka.ready();
        assert_eq!(told(), [true]);
        assert_eq!(told(), [true; 0]);
        kafka.not_ready("no broker answers");
        assert_eq!(told(), [false]);
        kafka.not_ready("another reason");
        assert_eq!(told(), [false; 0]);
    }

    #[test]
    fn one_bad_condition_is_enough_and_liveness_is_separate() {
        let health = Health::default();
        health.readiness("good", || Ok(()));
        health.readiness("bad", || Err("because".into()));
        health.liveness("loop", || Ok(()));
        assert!(!health.ready().ok);
        assert!(health.live().ok);
        assert_eq!(health.live().conditions.len(), 1);
    }
}
