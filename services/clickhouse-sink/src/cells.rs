//! Values of an event in the types of their columns.
//!
//! Invariant: a value that its column cannot hold is refused by name, never cut or wrapped.

use engagement::event::{EnrichedEvent, Micros};
use uuid::Uuid;

use crate::row::EventIdType;
use crate::wire::Encoder;

/// Why an event has no row: it cannot be stored in this table, now or later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The key is not of the table's type.
    #[error(
        "event_id {value:?} is no {expected}, the type of the column; a table for other keys is made with another event_id_type by: engagectl init"
    )]
    EventId {
        /// The key.
        value: String,
        /// Type of the column.
        expected: &'static str,
    },
    /// A time outside of what `DateTime64(6)` can hold.
    #[error("{column} {value} is outside 1900-01-01 .. 2299-12-31, the range of DateTime64")]
    Time {
        /// The column.
        column: &'static str,
        /// The time.
        value: Micros,
    },
    /// A number outside of what `Decimal(18)` can hold.
    #[error(
        "{column} of duration_ms {duration_ms:?} and length_seconds {length_seconds:?} does not fit 18 digits"
    )]
    Number {
        /// The column.
        column: &'static str,
        /// As in the event.
        duration_ms: Option<i64>,
        /// As in the event.
        length_seconds: Option<i64>,
    },
}

/// `toYYYYMM` in UTC; only meaningful within the range of `DateTime64`.
#[must_use]
pub fn month(at: Micros) -> u32 {
    use chrono::Datelike as _;
    at.to_chrono().map_or(0, |t| {
        u32::try_from(t.year()).unwrap_or(0) * 100 + t.month()
    })
}

/// 1900-01-01 00:00:00 UTC.
pub(crate) const EARLIEST: i64 = -2_208_988_800_000_000;
/// 2299-12-31 23:59:59.999999 UTC.
pub(crate) const LATEST: i64 = 10_413_791_999_999_999;
/// Decimals of 18 digits lie strictly between -10^18 and 10^18.
const DECIMAL_18: u64 = 1_000_000_000_000_000_000;

impl Encoder {
    pub(crate) fn event_id(&mut self, id: &str, id_type: EventIdType) -> Result<(), RowError> {
        let refused = || RowError::EventId {
            value: id.chars().take(80).collect(),
            expected: id_type.name(),
        };
        match id_type {
            EventIdType::Int64 => self.i64(id.parse().map_err(|_| refused())?),
            EventIdType::Uuid => {
                let (high, low) = Uuid::try_parse(id).map_err(|_| refused())?.as_u64_pair();
                self.u64(high);
                self.u64(low);
            }
            EventIdType::String => self.text(id),
        }
        Ok(())
    }

    pub(crate) fn dimension(&mut self, event: &EnrichedEvent) -> Result<(), RowError> {
        self.nullable_text(event.content_type.as_deref());
        self.time("processed_at", event.processed_at)?;
        match event.publish_ts {
            None => self.u8(1),
            Some(at) => {
                self.u8(0);
                self.time("publish_ts", at)?;
            }
        }
        self.nullable_i64(event.length_seconds);
        self.decimal("engagement_seconds", event.duration_ms, event)?;
        let ratio = event.ratio_e4();
        self.decimal("engagement_ratio", ratio, event)?;
        self.decimal("engagement_percent", ratio, event)?;
        self.nullable_text(event.content_title.as_deref());
        self.nullable_text(event.content_slug.as_deref());
        self.nullable_text(event.raw_payload.as_deref());
        self.text(event.enrichment_status.name());
        Ok(())
    }

    pub(crate) fn lineage(&mut self, event: &EnrichedEvent) -> Result<(), RowError> {
        let source = &event.source;
        self.text(event.origin.name());
        self.u64(event.revision);
        self.length(event.anomalies.len());
        for anomaly in &event.anomalies {
            self.text(anomaly.name());
        }
        self.text(source.lane.name());
        self.u8(source.epoch);
        self.i32(source.partition);
        self.i64(source.offset);
        self.u64(source.commit_lsn);
        self.u64(source.lsn);
        self.time("src_committed_at", source.committed_at)
    }

    fn decimal(
        &mut self,
        column: &'static str,
        units: Option<i64>,
        event: &EnrichedEvent,
    ) -> Result<(), RowError> {
        if units.is_some_and(|n| n.unsigned_abs() >= DECIMAL_18) {
            let EnrichedEvent {
                duration_ms,
                length_seconds,
                ..
            } = *event;
            return Err(RowError::Number {
                column,
                duration_ms,
                length_seconds,
            });
        }
        self.nullable_i64(units);
        Ok(())
    }

    pub(crate) fn time(&mut self, column: &'static str, at: Micros) -> Result<(), RowError> {
        if !(EARLIEST..=LATEST).contains(&at.0) {
            return Err(RowError::Time { column, value: at });
        }
        self.i64(at.0);
        Ok(())
    }
}
