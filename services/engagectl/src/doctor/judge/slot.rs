//! The replication slot and the heartbeat that moves it.

use engagement::event::Micros;
use platform::{DatabaseFacts, Heartbeat, SlotState, WalStatus};

use crate::doctor::args::Retained;
use crate::doctor::report::{Diagnosis, size, span};

/// Debezium writes it every five seconds.
const HEARTBEAT_LATE: i64 = 60_000_000;

/// What of Postgres shows at run time; `captured` is asked for where the slot is lost.
pub(in crate::doctor) fn judge(
    name: &str,
    facts: &DatabaseFacts,
    threshold: Retained,
) -> Vec<Diagnosis> {
    let mut all = slot(name, &facts.slot, threshold);
    all.push(heartbeat(facts.heartbeat, facts.clock.server));
    all
}

/// The slot alone.
pub(in crate::doctor) fn slot(
    name: &str,
    state: &SlotState,
    threshold: Retained,
) -> Vec<Diagnosis> {
    let place = format!("slot {name}");
    let danger = match state.wal_status {
        WalStatus::Missing => {
            return vec![
                Diagnosis::error(place, "there is no such slot: no change is captured")
                    .right("the connector makes it at its first start, and reads it from then on")
                    .next("engagectl init; if the connector has delivered before, `engagectl check` prints the plan"),
            ];
        }
        // what is lost is said with the plan that brings it again
        WalStatus::Lost => return Vec::new(),
        WalStatus::Unreserved => Some(
            Diagnosis::error(
                place.clone(),
                format!("wal_status is unreserved: {}, and the next checkpoint may remove it", retained(state)),
            )
            .right("wal_status reserved or extended")
            .next(
                "ALTER SYSTEM SET max_slot_wal_keep_size = '-1'; SELECT pg_reload_conf(); then get the connector to read: \
                 `engagectl check` says why it does not",
            ),
        ),
        WalStatus::Reserved | WalStatus::Extended => None,
    };
    let mut all: Vec<Diagnosis> = danger.into_iter().collect();
    all.push(size_of(&place, state, threshold));
    if !state.is_active {
        all.push(
            Diagnosis::warning(place, "nobody reads it: no change is captured now")
                .right("the connector reads it")
                .next("engagectl check; a connector that is paused goes on by PUT /connectors/{name}/resume"),
        );
    }
    all
}

fn retained(state: &SlotState) -> String {
    let bytes = size(state.retained_bytes);
    match (state.keep_bytes, state.share()) {
        (Some(keep), Some(share)) => format!(
            "{bytes} of WAL are retained, {:.0}% of the {} that Postgres keeps",
            share * 100.0,
            size(keep)
        ),
        _ => format!("{bytes} of WAL are retained"),
    }
}

fn size_of(place: &str, state: &SlotState, threshold: Retained) -> Diagnosis {
    let text = format!(
        "{}, wal_status {}",
        retained(state),
        state.wal_status.name()
    );
    match threshold.is_reached(state) {
        Some(true) => Diagnosis::warning(place, text)
            .right(format!("less than {threshold}"))
            .next(if state.is_active {
                "find what holds it: SELECT pid, xact_start, state FROM pg_stat_activity ORDER BY xact_start LIMIT 5"
            } else {
                "get the connector to read: `engagectl check` says why it does not"
            }),
        Some(false) => Diagnosis::ok(place, text),
        None => Diagnosis::warning(
            place,
            format!("{text}; max_slot_wal_keep_size is unlimited: a connector that stands still fills the database's disk"),
        )
        .right("a limit above what is written during the longest outage of Connect")
        .next("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf()"),
    }
}

/// `now` is the database's clock, microseconds since 1970.
fn heartbeat(found: Heartbeat, now: i64) -> Diagnosis {
    let place = "table engage_heartbeat";
    let right = "Debezium writes it every 5 s, which moves the slot on while the tables are idle";
    match found {
        Heartbeat::NoTable => Diagnosis::error(place, "is missing")
            .right(right)
            .next("engagectl init"),
        Heartbeat::NoRow => Diagnosis::error(place, "is empty, so that no heartbeat is written")
            .right(right)
            .next("engagectl init"),
        Heartbeat::Hidden => Diagnosis::ok(
            place,
            "is there; this role may not read it, so its age is not known",
        ),
        Heartbeat::Written(at) if now - at > HEARTBEAT_LATE => {
            let age = span(u64::try_from((now - at) / 1_000_000).unwrap_or(0));
            Diagnosis::warning(place, format!("was last written {age} ago, {}", Micros(at)))
                .right(right)
                .next("engagectl check: the connector does not run, or its role may not write the table")
        }
        Heartbeat::Written(_) => Diagnosis::ok(place, "is written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    const HALF: Retained = Retained::Percent(50);

    fn state(wal_status: WalStatus, retained_bytes: i64) -> SlotState {
        SlotState {
            wal_status,
            retained_bytes,
            unconfirmed_bytes: 0,
            keep_bytes: Some(100 << 20),
            is_active: true,
        }
    }

    fn severities(state: &SlotState) -> Vec<Severity> {
        let all = slot("engage_cdc", state, HALF);
        all.iter().map(|one| one.severity).collect()
    }

    #[test]
    fn a_slot_within_its_limit_is_well_and_half_of_it_warns() {
        assert_eq!(
            severities(&state(WalStatus::Reserved, 49 << 20)),
            [Severity::Ok]
        );
        let half = state(WalStatus::Extended, 50 << 20);
        assert_eq!(severities(&half), [Severity::Warning]);
        let text = &slot("engage_cdc", &half, HALF)[0].found;
        assert!(text.contains("50% of the 100.0 MiB"), "{text}");
    }

    #[test]
    fn unreserved_and_missing_are_errors_and_lost_is_said_with_its_plan() {
        let unreserved = severities(&state(WalStatus::Unreserved, 120 << 20));
        assert_eq!(unreserved, [Severity::Error, Severity::Warning]);
        assert_eq!(severities(&state(WalStatus::Missing, 0)), [Severity::Error]);
        assert!(severities(&state(WalStatus::Lost, 0)).is_empty());
    }

    #[test]
    fn a_slot_that_nobody_reads_and_one_without_a_limit_warn() {
        let mut idle = state(WalStatus::Reserved, 1);
        idle.is_active = false;
        assert_eq!(severities(&idle), [Severity::Ok, Severity::Warning]);
        let mut unlimited = state(WalStatus::Reserved, 1);
        unlimited.keep_bytes = None;
        assert_eq!(severities(&unlimited), [Severity::Warning]);
        let bytes = slot("s", &unlimited, Retained::Bytes(10));
        assert_eq!(bytes[0].severity, Severity::Ok, "a size needs no limit");
    }

    #[test]
    fn a_heartbeat_is_young_or_says_how_old() {
        let severity = |found| heartbeat(found, 1_000_000_000).severity;
        assert_eq!(severity(Heartbeat::Written(995_000_000)), Severity::Ok);
        assert_eq!(severity(Heartbeat::Written(900_000_000)), Severity::Warning);
        assert_eq!(severity(Heartbeat::NoRow), Severity::Error);
        assert_eq!(severity(Heartbeat::Hidden), Severity::Ok);
        let found = heartbeat(Heartbeat::Written(0), 1_000_000_000).found;
        assert!(found.contains("16 min ago"), "{found}");
    }
}
