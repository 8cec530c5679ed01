//! The one query of a rebuild, and its answer. Pure.
//!
//! Keys first (each with its newest row from before the cut, in the order in which the table has them, so that the server groups them without
//! holding them), then what each is, then the sums per content, bucket and way in.
//! Invariant: no value of an event is pasted into the text.

use std::fmt::Write as _;

use engagement::event::Micros;
use redis_aggregator::content::Info;
use redis_aggregator::sums::{FIELDS, MAX_DURATION_MS, Sums};

use crate::rebuild::cut::Cut;
use crate::rebuild::sums::{Frame, Kind, Row, Touched};

/// What stands for "in no bucket"; those that windows need lie long after 1970.
const NO_BUCKET: i64 = -1;

/// A row of the sums, as it comes.
pub(super) type Answered = (
    String,
    i64,
    u8,
    i32,
    u8,
    [i64; FIELDS],
    (i64, String, String),
    u8,
    Vec<AnsweredKey>,
);
pub(super) type AnsweredKey = (String, i64, u8, [i64; FIELDS]);

/// The sums of every content at the cuts; `table` is its quoted name.
pub(super) fn sums(table: &str, cuts: &[Cut], frame: Frame) -> String {
    let of_type = |name: &str| format!("toInt64(countIf(k_counts AND k_type = '{name}'))");
    format!(
        "SELECT k_content, k_bucket, k_kind, if(countIf(k_alive) > 0, minIf(k_partition, k_alive), min(k_partition)), \
         countIf(k_alive) > 0, \
         [toInt64(countIf(k_counts)), toInt64(sumIf(k_ms, k_counts)), toInt64(countIf(k_counts AND k_timed = 1)), {}, {}, {}, {}], \
         argMaxIf((k_length, k_content_type, k_title), k_revision, k_known = 1), countIf(k_known = 1) > 0, \
         groupArrayIf((k_id, k_at, k_older, k_sums), k_touched) \
         FROM ({}) GROUP BY k_content, k_bucket, k_kind",
        of_type("play"),
        of_type("pause"),
        of_type("finish"),
        of_type("click"),
        rows(table, cuts, frame),
    )
}

/// What each sort key was before the cut, whether that counts as it stands, and where it belongs. A key of which nothing from before
/// the cut is left was written by the stream.
fn rows(table: &str, cuts: &[Cut], frame: Frame) -> String {
    let bound = MAX_DURATION_MS;
    let is = |name: &str| format!("toInt64(k_type = '{name}')");
    format!(
        "SELECT k_content, k_id, k_at, k_partition, k_alive, k_touched, k_row.1 AS k_type, k_row.2 AS k_timed, k_row.3 AS k_ms, \
         k_row.5 AS k_length, k_row.6 AS k_content_type, k_row.7 AS k_title, k_row.8 AS k_revision, k_row.9 AS k_known, \
         toUInt8(k_untouched > 0 AND k_row.4 = 0 AND k_ms >= -{bound} AND k_ms <= {bound}) AS k_older, \
         k_older = 1 AND NOT k_touched AS k_counts, \
         [toInt64(1), k_ms, toInt64(k_timed), {}, {}, {}, {}] AS k_sums, \
         multiIf(k_untouched = 0, 0, k_row.10 = 0, 2, k_row.11 = 'STREAM', 0, k_row.11 = 'SNAPSHOT', 1, 2) AS k_kind, \
         if(intDiv(k_at, {bucket}) >= {oldest} AND k_at >= 0, intDiv(k_at, {bucket}), toInt64({NO_BUCKET})) AS k_bucket \
         FROM ({keys})",
        is("play"),
        is("pause"),
        is("finish"),
        is("click"),
        bucket = frame.bucket_us,
        oldest = frame.oldest,
        keys = keys(table, cuts),
    )
}

/// Each sort key with its newest row from before the cut, in the order in which the table has them.
fn keys(table: &str, cuts: &[Cut]) -> String {
    format!(
        "SELECT assumeNotNull(content_id) AS k_content, toString(event_id) AS k_id, \
         toInt64(toUnixTimestamp64Micro(event_ts)) AS k_at, countIf(deleted = 0) > 0 AS k_alive, \
         if(k_alive, minIf(src_partition, deleted = 0), min(src_partition)) AS k_partition, \
         max(k_behind) AS k_touched, countIf(NOT k_behind) AS k_untouched, \
         argMaxIf(({row}), (revision, deleted), NOT k_behind) AS k_row \
         FROM (SELECT event_id, content_id, event_ts, event_type, duration_ms, deleted, length_seconds, content_type, content_title, \
         revision, enrichment_status, origin, src_lane, src_partition, \
         src_lane = 'live' AND (src_epoch, src_offset) > {cuts}[src_partition + 1] AS k_behind \
         FROM {name} WHERE content_id IS NOT NULL) GROUP BY event_ts, content_id, event_id",
        row = "CAST(event_type, 'String'), toUInt8(isNotNull(duration_ms)), toInt64(ifNull(duration_ms, 0)), deleted, \
               toInt64(ifNull(length_seconds, 0)), ifNull(CAST(content_type, 'Nullable(String)'), ''), ifNull(content_title, ''), \
               revision, toUInt8(enrichment_status = 'OK'), toUInt8(src_lane = 'live'), CAST(origin, 'String')",
        cuts = positions(cuts),
        name = table,
    )
}

/// The cut of each partition, in their order.
fn positions(cuts: &[Cut]) -> String {
    let mut text = String::from("[");
    for (index, cut) in cuts.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let (epoch, offset) = cut.position();
        // writing to a String cannot fail
        let _ = write!(text, "{comma}(toUInt8({epoch}), toInt64({offset}))");
    }
    text.push(']');
    text
}

/// A row of the sums.
pub(super) fn row_of(row: Answered) -> Row {
    let (content, bucket, kind, partition, alive, sums, info, known, touched) = row;
    let (length, content_type, title) = info;
    let touched = touched
        .into_iter()
        .map(|(event_id, at, older, sums)| Touched {
            event_id,
            event_ts: Micros(at),
            older: (older == 1).then(|| Sums::from_array(sums)),
        });
    Row {
        partition,
        is_alive: alive == 1,
        content,
        bucket: (bucket != NO_BUCKET).then_some(bucket),
        kind: [Kind::Stream, Kind::Snapshot, Kind::Beside][usize::from(kind.min(2))],
        sums: Sums::from_array(sums),
        info: (known == 1).then(|| Info::new(length, content_type, title)),
        touched: touched.collect(),
    }
}

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use stream::Watermarks;
    use stream::checkpoint::Checkpoint;

    use super::*;

    fn cut(partition: i32, done: &str) -> Cut {
        let done: Checkpoint = done.parse().unwrap();
        let log = Watermarks { low: 0, high: 9 };
        Cut {
            partition,
            log,
            upto: 9,
            done,
        }
    }

    #[test]
    fn each_partition_has_its_own_cut_and_one_without_a_position_is_below_all() {
        let cuts = [
            cut(0, "engage1 epoch=0"),
            cut(1, "engage1 epoch=2 position=live/2/1/7"),
        ];
        assert_eq!(
            positions(&cuts),
            "[(toUInt8(0), toInt64(-1)), (toUInt8(2), toInt64(7))]"
        );
    }

    #[test]
    fn a_row_is_read_with_the_keys_that_were_touched() {
        let key = ("7".into(), 5, 1, [1, 10, 1, 1, 0, 0, 0]);
        let info = (300, "podcast".into(), "T".into());
        let sums = [2, 20, 2, 2, 0, 0, 0];
        let row = row_of(("c".into(), NO_BUCKET, 1, 3, 1, sums, info, 1, vec![key]));
        assert_eq!(
            (row.partition, row.bucket, row.kind),
            (3, None, Kind::Snapshot)
        );
        assert_eq!((row.sums.events, row.touched[0].older.unwrap().ms), (2, 10));
        assert!(row.is_alive && row.info.is_some());
    }
}
