//! What was seen before, and what of a new look is a change. Pure.
//!
//! Invariant: each aspect is told once when it is first seen, and again only when it has become another.

use std::collections::BTreeMap;

use platform::{ConnectorState, Loss, SlotState, WalStatus};

use crate::doctor::args::Retained;
use crate::doctor::judge::connector;
use crate::doctor::report::{Severity, size};

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The slot, or why Postgres does not tell.
    pub(super) slot: Result<SlotState, String>,
    /// The connector, or why Connect does not tell.
    pub(super) connector: Result<ConnectorState, String>,
    /// What is known to be lost.
    pub(super) loss: Option<Loss>,
}

/// Something that has become another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) severity: Severity,
    pub(super) subject: String,
    pub(super) was: Option<String>,
    pub(super) is: String,
    pub(super) next: String,
}

/// What is watched, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    Postgres,
    Connect,
    WalStatus,
    Retained,
    Reader,
    Connector,
}

/// What an aspect is now.
struct Now {
    /// By what a change is recognised; what is shown may hold figures that differ each time.
    key: String,
    severity: Severity,
    is: String,
    next: &'static str,
}

/// Remembers what was seen.
pub(super) struct Watcher {
    connector: String,
    slot: String,
    threshold: Retained,
    last: BTreeMap<Aspect, (String, String)>,
    /// The slot was there once.
    has_seen_slot: bool,
}

/// A slot that retained too much does so until it is a tenth below the threshold.
const RELEASED: (i64, i64) = (10, 9);

impl Watcher {
    pub(super) fn new(connector: &str, slot: &str, threshold: Retained) -> Self {
        Self {
            connector: connector.to_owned(),
            slot: slot.to_owned(),
            threshold,
            last: BTreeMap::new(),
            has_seen_slot: false,
        }
    }

    /// What this look shows that the last one did not.
    pub(super) fn changes(&mut self, seen: &Seen) -> Vec<Change> {
        let slot = format!("slot {}", self.slot);
        let mut all = Vec::new();
        all.extend(self.note(Aspect::Postgres, "postgres", answers(&seen.slot)));
        all.extend(self.note(Aspect::Connect, "connect", answers(&seen.connector)));
        if let Ok(state) = &seen.slot {
            all.extend(self.note(Aspect::WalStatus, &slot, wal_status(state)));
            if state.wal_status != WalStatus::Missing && state.wal_status != WalStatus::Lost {
                let retained = self.retained(state);
                all.extend(self.note(Aspect::Retained, &slot, retained));
                all.extend(self.note(Aspect::Reader, &slot, reader(state)));
            }
        }
        if let Ok(state) = &seen.connector {
            let subject = format!("connector {}", self.connector);
            all.extend(self.note(Aspect::Connector, &subject, connector_of(state)));
        }
        all
    }

    /// Whether changes are lost, in words: a slot that is gone counts once it was there, or once the connector has read from it.
    pub(super) fn lost(&mut self, seen: &Seen) -> Option<String> {
        let status = seen.slot.as_ref().ok().map(|state| state.wal_status);
        let is_gone = status == Some(WalStatus::Missing) && self.has_seen_slot;
        self.has_seen_slot |= status.is_some_and(|status| status != WalStatus::Missing);
        if let Some(loss) = &seen.loss {
            return Some(loss.what.clone());
        }
        let slot = &self.slot;
        match status {
            Some(WalStatus::Lost) => Some(format!(
                "slot {slot} is lost: Postgres has removed WAL that was not read"
            )),
            Some(WalStatus::Missing) if is_gone => {
                Some(format!("slot {slot} is gone: it was there a moment ago"))
            }
            _ => None,
        }
    }

    fn note(&mut self, aspect: Aspect, subject: &str, now: Now) -> Option<Change> {
        let last = self.last.get(&aspect);
        if last.is_some_and(|(key, _)| *key == now.key) {
            return None;
        }
        let last = self.last.insert(aspect, (now.key, now.is.clone()));
        Some(Change {
            severity: now.severity,
            subject: subject.to_owned(),
            was: last.map(|(_, is)| is),
            is: now.is,
            next: now.next.to_owned(),
        })
    }

    fn retained(&self, state: &SlotState) -> Now {
        let last = self.last.get(&Aspect::Retained);
        let was_above = last.is_some_and(|(key, _)| key == "above");
        let mut judged = *state;
        if was_above {
            let (more, less) = RELEASED;
            judged.retained_bytes = state.retained_bytes.saturating_mul(more) / less;
        }
        let bytes = size(state.retained_bytes);
        let threshold = self.threshold;
        match threshold.is_reached(&judged) {
            Some(true) => Now {
                key: "above".into(),
                severity: Severity::Warning,
                is: format!("retains {bytes} of WAL, not less than {threshold}"),
                next: "engagectl doctor",
            },
            Some(false) => Now {
                key: "below".into(),
                severity: Severity::Ok,
                is: format!("retains {bytes} of WAL, less than {threshold}"),
                next: "",
            },
            None => Now {
                key: "unlimited".into(),
                severity: Severity::Warning,
                is: format!(
                    "retains {bytes} of WAL; max_slot_wal_keep_size is unlimited, so that a share of it is none"
                ),
                next: "engagectl doctor --watch --retained 20GiB",
            },
        }
    }
}

fn answers<T>(answer: &Result<T, String>) -> Now {
    match answer {
        Ok(_) => Now {
            key: "answers".into(),
            severity: Severity::Ok,
            is: "answers".into(),
            next: "",
        },
        // the reason may be another one each time
        Err(reason) => Now {
            key: "away".into(),
            severity: Severity::Error,
            is: format!("does not answer: {reason}"),
            next: "engagectl check",
        },
    }
}

fn wal_status(state: &SlotState) -> Now {
    let name = state.wal_status.name();
    let (severity, next) = match state.wal_status {
        WalStatus::Reserved | WalStatus::Extended => (Severity::Ok, ""),
        WalStatus::Unreserved => (
            Severity::Error,
            "raise max_slot_wal_keep_size now (ALTER SYSTEM, then SELECT pg_reload_conf()), and get the connector to read",
        ),
        WalStatus::Lost => (Severity::Error, "the plan that follows"),
        WalStatus::Missing => (Severity::Error, "engagectl init"),
    };
    Now {
        key: name.into(),
        severity,
        is: format!("wal_status {name}"),
        next,
    }
}

fn reader(state: &SlotState) -> Now {
    let (severity, is, next) = if state.is_active {
        (Severity::Ok, "is read", "")
    } else {
        (Severity::Warning, "nobody reads it", "engagectl doctor")
    };
    Now {
        key: is.into(),
        severity,
        is: is.into(),
        next,
    }
}

fn connector_of(state: &ConnectorState) -> Now {
    if let Some(trouble) = &state.trouble {
        return Now {
            key: trouble.line(),
            severity: Severity::Error,
            is: format!("has failed: {}", trouble.line()),
            next: trouble.fix.unwrap_or("engagectl doctor"),
        };
    }
    let is = connector::summary(state);
    let (severity, next) = if state.is_running() {
        (Severity::Ok, "")
    } else {
        (Severity::Error, "engagectl doctor")
    };
    Now {
        key: is.clone(),
        severity,
        is,
        next,
    }
}

#[cfg(test)]
mod tests {
    use platform::Trouble;

    use super::*;

    fn state(wal_status: WalStatus, retained_bytes: i64) -> SlotState {
        SlotState {
            wal_status,
            retained_bytes,
            unconfirmed_bytes: 0,
            keep_bytes: Some(1000),
            is_active: true,
        }
    }

    fn connector(trace: Option<&str>) -> ConnectorState {
        let state = if trace.is_some() { "FAILED" } else { "RUNNING" };
        ConnectorState {
            connector: "RUNNING".into(),
            tasks: vec![state.into()],
            trouble: trace.map(Trouble::of),
        }
    }

    fn seen(wal_status: WalStatus, retained_bytes: i64) -> Seen {
        Seen {
            slot: Ok(state(wal_status, retained_bytes)),
            connector: Ok(connector(None)),
            loss: None,
        }
    }

    fn watcher() -> Watcher {
        Watcher::new("engage-cdc", "engage_cdc", Retained::Percent(50))
    }

    fn told(watcher: &mut Watcher, seen: &Seen) -> Vec<String> {
        let changes = watcher.changes(seen).into_iter();
        changes
            .map(|change| format!("{} {}", change.severity.name(), change.is))
            .collect()
    }

    #[test]
    fn the_first_look_tells_everything_and_the_second_nothing() {
        let mut watcher = watcher();
        let look = seen(WalStatus::Reserved, 10);
        assert_eq!(told(&mut watcher, &look).len(), 6);
        assert!(told(&mut watcher, &look).is_empty());
        assert!(told(&mut watcher, &seen(WalStatus::Reserved, 200)).is_empty());
    }

    #[test]
    fn a_threshold_is_told_once_and_released_a_tenth_below() {
        let mut watcher = watcher();
        watcher.changes(&seen(WalStatus::Reserved, 499));
        let above = told(&mut watcher, &seen(WalStatus::Reserved, 500));
        assert!(above[0].starts_with("warning retains 500 B"), "{above:?}");
        for retained in [600, 499, 460] {
            assert!(told(&mut watcher, &seen(WalStatus::Reserved, retained)).is_empty());
        }
        let below = told(&mut watcher, &seen(WalStatus::Reserved, 440));
        assert!(below[0].starts_with("ok retains 440 B"), "{below:?}");
    }

    #[test]
    fn a_server_that_is_away_leaves_what_was_known() {
        let mut watcher = watcher();
        let well = seen(WalStatus::Extended, 10);
        watcher.changes(&well);
        let mut away = well.clone();
        away.slot = Err("refused".into());
        assert_eq!(
            told(&mut watcher, &away),
            ["error does not answer: refused"]
        );
        assert_eq!(watcher.lost(&away), None);
        assert_eq!(told(&mut watcher, &well), ["ok answers"]);
    }

    #[test]
    fn a_failed_connector_is_told_with_its_fix_and_again_when_it_runs() {
        let mut watcher = watcher();
        watcher.changes(&seen(WalStatus::Reserved, 10));
        let mut failed = seen(WalStatus::Reserved, 10);
        failed.connector = Ok(connector(Some(
            "FATAL: password authentication failed for user",
        )));
        let changes = watcher.changes(&failed);
        assert!(changes[0].next.contains("ENGAGE_CDC_PASSWORD"));
        assert_eq!(told(&mut watcher, &seen(WalStatus::Reserved, 10)).len(), 1);
    }

    #[test]
    fn lost_is_lost_and_missing_only_once_it_was_there_or_delivered() {
        let mut watcher = watcher();
        let missing = seen(WalStatus::Missing, 0);
        assert_eq!(watcher.lost(&missing), None, "nothing was ever captured");
        assert_eq!(watcher.lost(&seen(WalStatus::Reserved, 0)), None);
        assert!(watcher.lost(&missing).unwrap().contains("gone"));
        assert!(watcher.lost(&seen(WalStatus::Lost, 0)).is_some());
        let mut known = missing;
        known.loss = Some(Loss {
            what: "slot engage_cdc is gone, but ..".into(),
            captured: None,
        });
        assert!(
            Watcher::new("c", "s", Retained::Percent(50))
                .lost(&known)
                .is_some()
        );
    }
}
