//! The replication slot as it is watched: how much WAL it holds back, and whether Postgres still keeps it.
//!
//! Invariant: a slot that is not there is a state, not an error; only Postgres that does not answer is one.

use sqlx::PgConnection;

use crate::PlatformError;
use crate::plan::Component;

/// One look at a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Whether Postgres still keeps what the slot needs.
    pub wal_status: WalStatus,
    /// Bytes of WAL between the oldest that the slot needs and now: what it costs on the database's disk.
    pub retained_bytes: i64,
    /// Bytes of WAL between what its reader has confirmed and now.
    pub unconfirmed_bytes: i64,
    /// How many bytes Postgres keeps for a slot (`max_slot_wal_keep_size`); `None`: as many as it takes.
    pub keep_bytes: Option<i64>,
    /// Whether somebody reads it.
    pub is_active: bool,
}

/// `pg_replication_slots.wal_status`, and a slot that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Beyond it, kept.
    Extended,
    /// Beyond `max_slot_wal_keep_size`: the next checkpoint may remove it.
    Unreserved,
    /// Removed: changes that were not read are lost.
    Lost,
    /// There is no such slot.
    Missing,
}

impl WalStatus {
    /// The value of the gauge: rises with the danger.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::Reserved => 0,
            Self::Extended => 1,
            Self::Unreserved => 2,
            Self::Lost => 3,
            Self::Missing => 4,
        }
    }

    /// As Postgres writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Extended => "extended",
            Self::Unreserved => "unreserved",
            Self::Lost => "lost",
            Self::Missing => "missing",
        }
    }

    /// From what Postgres writes; a slot whose WAL status is NULL was never used and is as good as reserved.
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("extended") => Self::Extended,
            Some("unreserved") => Self::Unreserved,
            Some("lost") => Self::Lost,
            _ => Self::Reserved,
        }
    }
}

impl SlotState {
    const MISSING: Self = Self {
        wal_status: WalStatus::Missing,
        retained_bytes: 0,
        unconfirmed_bytes: 0,
        keep_bytes: None,
        is_active: false,
    };

    /// What is retained as a share of what is kept at most; `None` where there is no limit.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of bytes; a percent is exact enough"
    )]
    pub fn share(&self) -> Option<f64> {
        let keep = self.keep_bytes.filter(|keep| *keep > 0)?;
        Some(self.retained_bytes as f64 / keep as f64)
    }
}

/// `wal_status`, bytes retained, unconfirmed and kept at most, and whether somebody reads it.
type Row = (Option<String>, i64, i64, Option<i64>, bool);

/// Any role may ask.
pub(crate) async fn look(
    connection: &mut PgConnection,
    name: &str,
) -> Result<SlotState, PlatformError> {
    let found: Option<Row> = sqlx::query_as(
        "WITH now AS (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS lsn) \
         SELECT wal_status, coalesce(now.lsn - restart_lsn, 0)::bigint, coalesce(now.lsn - confirmed_flush_lsn, 0)::bigint, \
         (SELECT nullif(setting::bigint, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), active \
         FROM pg_replication_slots, now WHERE slot_name = $1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(|e| PlatformError::refused(Component::Postgres, "looking at the replication slot", e))?;
    Ok(found.map_or(
        SlotState::MISSING,
        |(wal_status, retained, unconfirmed, keep_bytes, is_active)| SlotState {
            wal_status: WalStatus::parse(wal_status.as_deref()),
            retained_bytes: retained.max(0),
            unconfirmed_bytes: unconfirmed.max(0),
            keep_bytes,
            is_active,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_rises_with_the_danger() {
        let texts = [
            Some("reserved"),
            Some("extended"),
            Some("unreserved"),
            Some("lost"),
        ];
        let levels = texts.map(|text| WalStatus::parse(text).level());
        assert_eq!(levels, [0, 1, 2, 3]);
        assert_eq!(WalStatus::parse(None), WalStatus::Reserved);
        assert_eq!(SlotState::MISSING.wal_status.level(), 4);
    }

    #[test]
    fn a_share_needs_a_limit() {
        let with = |keep_bytes| SlotState {
            retained_bytes: 30,
            keep_bytes,
            ..SlotState::MISSING
        };
        assert_eq!(with(Some(120)).share(), Some(0.25));
        assert_eq!(with(None).share(), None);
        assert_eq!(with(Some(0)).share(), None);
    }
}
