//! One row of `events_enriched` as ClickHouse's RowBinary.
//!
//! The sort key stands first and the columns of the source table follow it in one piece, so that a row can be turned
//! into the deletion of another sort key, and compared with what the table holds, without being decoded.
//! Invariant: [`COLUMNS`] and [`Row::of`] list the same columns in the same order.

pub use crate::cells::{RowError, month};
use crate::wire::Encoder;
use engagement::event::{EnrichedEvent, Micros};

/// The columns written, with the types they are sent as; ClickHouse casts to `LowCardinality` itself.
/// The type of `event_id` is that of the table.
pub const COLUMNS: [(&str, &str); 30] = [
    ("event_id", ""),
    ("content_id", "Nullable(String)"),
    ("event_ts", "DateTime64(6, 'UTC')"),
    ("deleted", "UInt8"),
    ("src_row", "UInt8"),
    ("user_id", "Nullable(String)"),
    ("event_type", "String"),
    ("device", "Nullable(String)"),
    ("duration_ms", "Nullable(Int64)"),
    ("content_type", "Nullable(String)"),
    ("processed_at", "DateTime64(6, 'UTC')"),
    ("publish_ts", "Nullable(DateTime64(6, 'UTC'))"),
    ("length_seconds", "Nullable(Int64)"),
    ("engagement_seconds", "Nullable(Decimal(18, 3))"),
    ("engagement_ratio", "Nullable(Decimal(18, 4))"),
    ("engagement_percent", "Nullable(Decimal(18, 2))"),
    ("content_title", "Nullable(String)"),
    ("content_slug", "Nullable(String)"),
    ("raw_payload", "Nullable(String)"),
    ("enrichment_status", "String"),
    ("origin", "String"),
    ("revision", "UInt64"),
    ("anomalies", "Array(String)"),
    ("src_lane", "String"),
    ("src_epoch", "UInt8"),
    ("src_partition", "Int32"),
    ("src_offset", "Int64"),
    ("src_commit_lsn", "UInt64"),
    ("src_lsn", "UInt64"),
    ("src_committed_at", "DateTime64(6, 'UTC')"),
];

/// `src_row` of the deletion of what a change replaced.
pub const REPLACED: u8 = 0;
/// `src_row` of the event itself.
pub const ITSELF: u8 = 1;

/// The type of the table's `event_id` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventIdType {
    /// `Int64`.
    Int64,
    /// `UUID`.
    Uuid,
    /// `String`.
    String,
}

impl EventIdType {
    /// ClickHouse's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int64 => "Int64",
            Self::Uuid => "UUID",
            Self::String => "String",
        }
    }
}

/// A sort key: `event_id`, `content_id`, `event_ts` in RowBinary, with the table partition it falls into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The three columns, encoded; the time is the last eight bytes.
    pub bytes: Box<[u8]>,
    /// `toYYYYMM(event_ts)`.
    pub month: u32,
}

/// One encoded row, `src_row` = [`ITSELF`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    bytes: Box<[u8]>,
    id_end: u32,
    key_end: u32,
    source_end: u32,
    month: u32,
}

impl Row {
    /// Encodes an event for a table whose `event_id` is of this type.
    ///
    /// # Errors
    /// [`RowError`]: the table has no place for such a value.
    pub fn of(event: &EnrichedEvent, id_type: EventIdType) -> Result<Self, RowError> {
        let mut out = Encoder::with_capacity(384);
        out.event_id(&event.event_id, id_type)?;
        let id_end = out.mark();
        out.nullable_text(event.content_id.as_deref());
        out.time("event_ts", event.event_ts)?;
        let key_end = out.mark();
        out.u8(u8::from(event.deleted));
        out.u8(ITSELF);
        out.nullable_text(event.user_id.as_deref());
        out.text(&event.event_type);
        out.nullable_text(event.device.as_deref());
        out.nullable_i64(event.duration_ms);
        let source_end = out.mark();
        out.dimension(event)?;
        out.lineage(event)?;
        Ok(Self {
            bytes: out.finish(),
            id_end,
            key_end,
            source_end,
            month: month(event.event_ts),
        })
    }

    /// The whole row.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `toYYYYMM(event_ts)`: the table partition.
    #[must_use]
    pub fn month(&self) -> u32 {
        self.month
    }

    /// `event_id`, encoded.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.bytes[..self.id_end as usize]
    }

    /// The sort key, encoded.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key_end as usize]
    }

    /// `user_id`, `event_type`, `device`, `duration_ms`, encoded: what the source table says beside the sort key.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.bytes[self.key_end as usize + FLAGS..self.source_end as usize]
    }

    /// Appends the deletion of another sort key, at this row's position and revision.
    pub fn write_deletion(&self, key: &Key, src_row: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.bytes);
        out.extend_from_slice(&[1, src_row]);
        out.extend_from_slice(&self.bytes[self.key_end as usize + FLAGS..]);
    }
}

/// Bytes of `deleted` and `src_row`.
const FLAGS: usize = 2;

impl Key {
    /// Encodes a sort key.
    ///
    /// # Errors
    /// [`RowError`]: the table has no place for such a value, so it cannot hold this key either.
    pub fn of(
        event_id: &str,
        content_id: Option<&str>,
        event_ts: Micros,
        id_type: EventIdType,
    ) -> Result<Self, RowError> {
        let mut out = Encoder::with_capacity(64);
        out.event_id(event_id, id_type)?;
        out.nullable_text(content_id);
        out.time("event_ts", event_ts)?;
        Ok(Self {
            bytes: out.finish(),
            month: month(event_ts),
        })
    }

    /// Its time, decoded.
    #[must_use]
    pub fn event_ts(&self) -> Micros {
        let time = self.bytes.last_chunk().copied();
        Micros(i64::from_le_bytes(time.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::Anomaly;
    use engagement::testing::{EVENT_TS, Sample, sample};

    use super::*;
    use crate::cells::{EARLIEST, LATEST};
    use crate::wire::Reader;

    fn encode(event: &EnrichedEvent) -> Row {
        Row::of(event, EventIdType::Int64).unwrap()
    }

    /// Walks a row by the types of [`COLUMNS`] and gives one text per column.
    fn columns(bytes: &[u8]) -> Vec<String> {
        let mut r = Reader::new("test", bytes);
        let columns = COLUMNS
            .iter()
            .map(|(name, sent_as)| format!("{name}={}", column(&mut r, sent_as)));
        let columns: Vec<String> = columns.collect();
        assert!(r.is_empty(), "bytes are left after the last column");
        columns
    }

    fn column(r: &mut Reader<'_>, sent_as: &str) -> String {
        if let Some(inner) = sent_as.strip_prefix("Nullable(") {
            return if r.u8().unwrap() == 1 {
                "NULL".into()
            } else {
                column(r, inner)
            };
        }
        match sent_as.split(['(', ')']).next().unwrap() {
            "" | "Int64" | "DateTime64" | "Decimal" => r.i64().unwrap().to_string(),
            "UInt64" => r.u64().unwrap().to_string(),
            "UInt8" => r.u8().unwrap().to_string(),
            "Int32" => r.i32().unwrap().to_string(),
            "String" => r.text().unwrap(),
            "Array" => (0..r.length().unwrap())
                .map(|_| r.text().unwrap())
                .collect::<Vec<_>>()
                .join(","),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_column_stands_where_the_list_says() {
        let mut event = Sample::new().at_position(3, 100).build();
        event.anomalies = vec![Anomaly::Over100Percent, Anomaly::EventTsFuture];
        let got = columns(encode(&event).bytes());
        for expected in [
            "event_id=1001",
            "content_id=5b6962dd-3f90-4c93-8f61-eabfa4a803e2",
            "event_ts=1767882112000000",
            "deleted=0",
            "src_row=1",
            "event_type=play",
            "duration_ms=7000",
            "engagement_seconds=7000",
            "engagement_ratio=233",
            "engagement_percent=233",
            "enrichment_status=OK",
            "origin=STREAM",
            "revision=100000",
            "anomalies=OVER_100_PERCENT,EVENT_TS_FUTURE",
            "src_lane=live",
            "src_partition=3",
            "src_offset=100",
        ] {
            assert!(
                got.iter().any(|column| column == expected),
                "{expected} in {got:?}"
            );
        }
    }

    #[test]
    fn what_is_absent_is_null() {
        let mut event = Sample::new().no_content().duration_ms(None).build();
        (event.user_id, event.device, event.raw_payload) = (None, None, None);
        let nulls = columns(encode(&event).bytes())
            .into_iter()
            .filter(|c| c.ends_with("=NULL"))
            .count();
        assert_eq!(nulls, 13);
    }

    #[test]
    fn a_deletion_has_the_other_key_and_everything_else_of_the_row() {
        let row = encode(&sample());
        let old = Key::of("1001", Some("other"), Micros(0), EventIdType::Int64).unwrap();
        let mut out = Vec::new();
        row.write_deletion(&old, REPLACED, &mut out);
        let (mut expected, got) = (columns(row.bytes()), columns(&out));
        (expected[1], expected[2]) = ("content_id=other".into(), "event_ts=0".into());
        (expected[3], expected[4]) = ("deleted=1".into(), "src_row=0".into());
        assert_eq!(got, expected);
        assert_eq!(old.month, 197_001);
    }

    #[test]
    fn key_and_source_are_parts_of_the_row() {
        let (row, event) = (encode(&sample()), sample());
        let key = Key::of(
            "1001",
            event.content_id.as_deref(),
            event.event_ts,
            EventIdType::Int64,
        )
        .unwrap();
        assert_eq!((row.key(), row.month()), (&*key.bytes, 202_601));
        assert_eq!(row.id(), 1001_i64.to_le_bytes());
        let same = encode(&Sample::new().length_seconds(5).build());
        let other = encode(&Sample::new().duration_ms(7_001).build());
        assert!(row.source() == same.source() && row.source() != other.source());
    }

    #[test]
    fn a_uuid_is_two_words_high_one_first() {
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let row = Row::of(&Sample::new().event_id(id).build(), EventIdType::Uuid).unwrap();
        assert_eq!(row.id()[..8], 0x0011_2233_4455_6677_u64.to_le_bytes());
        assert_eq!(row.id()[8..], 0x8899_aabb_ccdd_eeff_u64.to_le_bytes());
    }

    #[test]
    fn what_the_table_cannot_hold_is_refused_by_column() {
        let refused =
            |event: EnrichedEvent| Row::of(&event, EventIdType::Int64).unwrap_err().to_string();
        assert!(
            refused(Sample::new().event_id("abc").build()).contains("event_id \"abc\" is no Int64")
        );
        assert!(
            refused(Sample::new().event_ts(Micros(LATEST + 1)).build())
                .starts_with("event_ts 2300-01-01")
        );
        assert!(
            refused(Sample::new().duration_ms(i64::MAX).build()).starts_with("engagement_seconds")
        );
        assert!(
            refused(
                Sample::new()
                    .duration_ms(i64::MAX / 10)
                    .length_seconds(1)
                    .build()
            )
            .starts_with("engagement_ratio")
        );
        let kept = Sample::new().event_ts(Micros(EARLIEST)).build();
        assert_eq!(Row::of(&kept, EventIdType::Int64).unwrap().month(), 190_001);
        assert_eq!(month(EVENT_TS), 202_601);
    }
}
