//! Whether capture can go on: the connector's own state, and the replication slot that holds what it has not read yet.
//!
//! Invariant: a loss is told from a beginning by the connector's offsets: who has never read anything has lost nothing.

use engagement::event::Micros;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::connector::worker::ask;
use crate::plan::{Component, Plan};
use crate::recovery::{MARGIN, Recovery};
use crate::{ConnectSettings, DatabaseSettings, PlatformError};

/// Changes that nobody can deliver any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What happened to the slot.
    pub what: String,
    /// When the last change was committed that the connector says to have delivered.
    pub captured: Option<Micros>,
}

impl Loss {
    /// What a person does about it.
    #[must_use]
    pub fn recovery(&self, connect: &ConnectSettings) -> Recovery {
        Recovery::new(connect, self.captured, MARGIN)
    }
}

/// How far the connector has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// The end of what it has delivered, as a number.
    pub(crate) lsn: u64,
    /// When the last change of it was committed.
    pub(crate) at: Option<Micros>,
}

/// What Postgres says about a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: String,
    /// How far the reader has confirmed, as a number.
    pub(crate) confirmed: u64,
}

/// An answer of `GET /connectors/{name}/offsets`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Offsets {
    #[serde(default)]
    offsets: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    offset: Value,
}

impl Offsets {
    /// The LSN up to which the connector has delivered; `None` where it has never delivered anything.
    ///
    /// `lsn_commit` is the end of the last whole transaction, `lsn` the last row. Transactions are delivered by their
    /// commits, so a long one is delivered after others that began later: its rows stand before their ends.
    pub(crate) fn delivered(&self) -> Option<Delivered> {
        let of = |entry: &Entry| {
            let offset = &entry.offset;
            let lsn = offset["lsn"].as_u64().max(offset["lsn_commit"].as_u64())?;
            let at = offset["ts_usec"].as_i64().map(Micros);
            Some(Delivered { lsn, at })
        };
        let all = self.offsets.iter().filter_map(of);
        all.max_by_key(|delivered| delivered.lsn)
    }
}

/// What the connector has delivered, and its slot. The slot is looked at first: a connector that is at work delivers, notes that, and
/// confirms it, in this order, so what the slot has confirmed is in what the connector notes a moment later. The other way round, a
/// confirmation that comes between the two questions would look like a slot that was made anew.
pub(crate) async fn both(
    connect: &ConnectSettings,
    database: &DatabaseSettings,
) -> Result<(Option<Delivered>, Option<Slot>), PlatformError> {
    let mut connection = database.connect().await?;
    let found = read(&mut connection, &connect.slot).await?;
    let offsets: Offsets = ask(connect, "offsets").await?;
    Ok((offsets.delivered(), found))
}

async fn read(connection: &mut PgConnection, name: &str) -> Result<Option<Slot>, PlatformError> {
    let found: Option<(Option<String>, i64)> = sqlx::query_as(
        "SELECT wal_status, coalesce((confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, 0) \
         FROM pg_replication_slots WHERE slot_name = $1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(|e| PlatformError::refused(Component::Postgres, "reading the replication slot", e))?;
    Ok(found.map(|(wal_status, confirmed)| Slot {
        wal_status: wal_status.unwrap_or_default(),
        confirmed: confirmed.unsigned_abs(),
    }))
}

/// Compares the slot with what the connector has delivered.
pub(crate) fn judge(
    connect: &ConnectSettings,
    delivered: Option<Delivered>,
    slot: Option<&Slot>,
    plan: &mut Plan,
) {
    if delivered.is_none() {
        return;
    }
    match loss(connect, delivered, slot) {
        None => plan.have(Component::Postgres, format!("slot {}", connect.slot)),
        Some(loss) => {
            let recovery = loss.recovery(connect);
            plan.problem(Component::Postgres, loss.what, recovery.to_string());
        }
    }
}

/// What is lost of the changes after those that were delivered.
pub(crate) fn loss(
    connect: &ConnectSettings,
    delivered: Option<Delivered>,
    slot: Option<&Slot>,
) -> Option<Loss> {
    let name = &connect.slot;
    let Delivered { lsn, at } = delivered?;
    let what = match slot {
        None => format!(
            "slot {name} is gone, but connector {} has delivered up to LSN {lsn:#x} from it",
            connect.name
        ),
        Some(slot) if slot.wal_status == "lost" => format!(
            "slot {name} is lost: Postgres has removed WAL that connector {} had not read",
            connect.name
        ),
        // A reader confirms what it has delivered, never more: such a slot was made anew, later.
        Some(slot) if slot.confirmed > lsn => format!(
            "slot {name} begins at LSN {:#x}, but connector {} has delivered only up to {lsn:#x}: it was dropped and made anew",
            slot.confirmed, connect.name
        ),
        Some(_) => return None,
    };
    Some(Loss { what, captured: at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(delivered: Option<u64>, slot: Option<(&str, u64)>) -> Vec<String> {
        let delivered = delivered.map(|lsn| Delivered { lsn, at: None });
        let slot = slot.map(|(status, confirmed)| Slot {
            wal_status: status.into(),
            confirmed,
        });
        let mut plan = Plan::default();
        judge(
            &ConnectSettings::default(),
            delivered,
            slot.as_ref(),
            &mut plan,
        );
        plan.problems
            .into_iter()
            .map(|problem| problem.what)
            .collect()
    }

    #[test]
    fn a_slot_that_is_gone_or_lost_or_younger_than_what_was_delivered_is_named() {
        assert!(judged(Some(16), None)[0].contains("engage_cdc is gone"));
        assert!(judged(Some(16), Some(("lost", 16)))[0].contains("is lost"));
        assert!(judged(Some(16), Some(("reserved", 17)))[0].contains("made anew"));
        assert_eq!(judged(Some(16), Some(("reserved", 16))), [""; 0]);
    }

    #[test]
    fn a_loss_comes_with_the_command_that_brings_its_rows_again() {
        let delivered = Delivered {
            lsn: 16,
            // 2026-01-08T14:21:52Z
            at: Some(Micros(1_767_882_112_000_000)),
        };
        let mut plan = Plan::default();
        let connect = ConnectSettings::default();
        judge(&connect, Some(delivered), None, &mut plan);
        let remedy = &plan.problems[0].remedy;
        assert!(
            remedy.contains("engagectl backfill --start 2026-01-08T13:21:52Z --end now"),
            "{remedy}"
        );
        assert!(remedy.contains("engagectl verify"), "{remedy}");
    }

    #[test]
    fn who_has_delivered_nothing_has_lost_nothing() {
        assert_eq!(judged(None, None), [""; 0]);
        assert_eq!(judged(None, Some(("reserved", 5))), [""; 0]);
    }

    #[test]
    fn the_offsets_of_debezium_are_understood() {
        let text = r#"{"offsets":[{"partition":{"server":"cdc"},"offset":{"lsn_proc":25,"messageType":"INSERT","lsn_commit":20,"lsn":25,"txId":7,"ts_usec":1}}]}"#;
        let offsets: Offsets = serde_json::from_str(text).unwrap();
        let at = Some(Micros(1));
        assert_eq!(offsets.delivered(), Some(Delivered { lsn: 25, at }));
        let within_a_long_transaction = r#"{"offsets":[{"partition":{"server":"cdc"},"offset":{"lsn_proc":309724160,
            "messageType":"INSERT","lsn_commit":310225496,"lsn":309724160,"txId":13513,"ts_usec":1}}]}"#;
        let offsets: Offsets = serde_json::from_str(within_a_long_transaction).unwrap();
        let delivered = offsets.delivered().map(|delivered| delivered.lsn);
        assert_eq!(
            judged(delivered, Some(("reserved", 310_225_496))),
            [""; 0],
            "what a reader has confirmed is the end of the transaction before"
        );
        let none: Offsets = serde_json::from_str(r#"{"offsets":[]}"#).unwrap();
        assert_eq!(none.delivered(), None);
    }
}
