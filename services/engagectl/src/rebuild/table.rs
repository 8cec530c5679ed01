//! What ClickHouse holds: the questions of a rebuild, and their answers.
//!
//! Invariant: every query is read-only, and an answer counts only if it is complete.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engagement::event::Micros;
use platform::ClickHouseSettings;
use redis_aggregator::content::Info;
use redis_aggregator::sums::{FIELDS, MAX_DURATION_MS, Sums};
use reqwest::{Client, Response};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use service::Failure;
use stream::checkpoint::Stored;

use super::cut::{Cut, InTable};
use super::sums::{Frame, Kind, Row, Touched};

/// Longest time of one query.
const PATIENCE_SECONDS: &str = "3600";
/// What stands for "in no bucket"; those that windows need lie long after 1970.
const NO_BUCKET: i64 = -1;

/// The table of events.
pub(super) struct Table<'a> {
    settings: &'a ClickHouseSettings,
    client: Client,
}

/// A row of the sums, as it comes.
type Answered = (
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
type AnsweredKey = (String, i64, u8, [i64; FIELDS]);

impl<'a> Table<'a> {
    /// # Errors
    /// A file of `[clickhouse.tls]` cannot be used (64).
    pub(super) fn new(settings: &'a ClickHouseSettings) -> Result<Self, Failure> {
        let client = Client::builder().no_proxy();
        let client = settings.tls.http("clickhouse", client).map_err(|error| {
            Failure::usage("ClickHouse cannot be asked")
                .cause(error)
                .next("engagectl check")
        })?;
        let client = client
            .build()
            .map_err(|error| Failure::internal("no HTTP client").cause(error))?;
        Ok(Self { settings, client })
    }

    /// How many rows there are; `None`: there is no such table.
    pub(super) async fn rows(&self) -> Result<Option<u64>, Failure> {
        let found: Vec<(u64,)> = self
            .lines(format!(
                "SELECT sum(ifNull(total_rows, 0)) FROM system.tables WHERE database = {} AND name = 'events_enriched' \
                 HAVING count() > 0",
                literal(&self.settings.database)
            ))
            .await?;
        Ok(found.first().map(|(rows,)| *rows))
    }

    /// The rule by which the table deletes rows after a time, if it has one.
    pub(super) async fn ttl(&self) -> Result<Option<String>, Failure> {
        let found: Vec<(String,)> = self
            .lines(format!(
                "SELECT engine_full FROM system.tables WHERE database = {} AND name = 'events_enriched'",
                literal(&self.settings.database)
            ))
            .await?;
        let engine = found.into_iter().next().map(|(engine,)| engine);
        Ok(engine.and_then(|engine| {
            let (_, ttl) = engine.split_once(" TTL ")?;
            Some(ttl.split(" SETTINGS ").next().unwrap_or(ttl).to_owned())
        }))
    }

    /// The highest position of the live chain in each partition.
    pub(super) async fn highest(&self) -> Result<BTreeMap<i32, (u8, i64)>, Failure> {
        let found: Vec<(i32, (u8, i64))> = self
            .lines(format!(
                "SELECT src_partition, max((src_epoch, src_offset)) FROM {} WHERE src_lane = 'live' GROUP BY src_partition",
                self.name()
            ))
            .await?;
        Ok(found.into_iter().collect())
    }

    /// What it says of a partition whose sink remembers this row.
    pub(super) async fn standing(
        &self,
        stored: Option<&Stored>,
        highest: Option<(u8, i64)>,
    ) -> Result<InTable, Failure> {
        let witness = match stored {
            None => true,
            Some(stored) => {
                let found: Vec<(u64,)> = self
                    .lines(format!(
                        "SELECT count() FROM {} WHERE event_ts = fromUnixTimestamp64Micro(toInt64({}), 'UTC') AND src_partition = {}",
                        self.name(),
                        stored.event_ts.0,
                        stored.position.partition
                    ))
                    .await?;
                found.first().is_some_and(|(rows,)| *rows > 0)
            }
        };
        Ok(InTable { highest, witness })
    }

    /// The sums of every content at the cuts.
    ///
    /// # Errors
    /// No answer (69).
    pub(super) async fn sums(&self, cuts: &[Cut], frame: Frame) -> Result<Vec<Row>, Failure> {
        let found: Vec<Answered> = self.lines(self.sums_sql(cuts, frame)).await?;
        Ok(found.into_iter().map(row_of).collect())
    }

    fn sums_sql(&self, cuts: &[Cut], frame: Frame) -> String {
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
            self.rows_sql(cuts, frame),
        )
    }

    /// What each sort key was before the cut, whether that counts as it stands, and where it belongs. A key of which nothing from before
    /// the cut is left was written by the stream.
    fn rows_sql(&self, cuts: &[Cut], frame: Frame) -> String {
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
            keys = self.keys_sql(cuts),
        )
    }

    /// Each sort key with its newest row from before the cut, in the order in which the table has them.
    fn keys_sql(&self, cuts: &[Cut]) -> String {
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
            name = self.name(),
        )
    }

    fn name(&self) -> String {
        let database = self.settings.database.replace('`', "\\`");
        format!("`{database}`.events_enriched")
    }

    async fn lines<T: DeserializeOwned>(&self, sql: String) -> Result<Vec<T>, Failure> {
        let sql = format!("{sql} FORMAT JSONCompactEachRow");
        let mut response = self.ask(sql).await?;
        let (mut rows, mut rest) = (Vec::new(), Vec::new());
        while let Some(bytes) = response.chunk().await.map_err(|error| self.away(&error))? {
            rest.extend_from_slice(&bytes);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let whole: Vec<u8> = rest.drain(..=end).collect();
            for line in whole
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                rows.push(serde_json::from_slice(line).map_err(|error| {
                    let line = String::from_utf8_lossy(line);
                    let line: String = line.chars().take(200).collect();
                    Failure::internal(format!("ClickHouse answers {line:?}")).cause(error)
                })?);
            }
        }
        Ok(rows)
    }

    async fn ask(&self, sql: String) -> Result<Response, Failure> {
        // the answer is complete before its first byte is sent, so that an exception cannot hide in its middle
        let settings = [
            ("readonly", "2"),
            ("wait_end_of_query", "1"),
            ("max_execution_time", PATIENCE_SECONDS),
            ("max_bytes_before_external_group_by", "500000000"),
            ("optimize_aggregation_in_order", "1"),
            ("output_format_json_quote_64bit_integers", "0"),
            ("output_format_json_named_tuples_as_objects", "0"),
        ];
        let mut url = self.settings.url.clone();
        url.query_pairs_mut().extend_pairs(settings);
        let mut request = self
            .client
            .post(url)
            .header("X-ClickHouse-User", &self.settings.user);
        if let Some(password) = &self.settings.password {
            request = request.header("X-ClickHouse-Key", password.expose_secret());
        }
        let response = request.body(sql).send().await;
        let response = response.map_err(|error| self.away(&error))?;
        let headers = response.headers();
        if response.status().is_success() && !headers.contains_key("X-ClickHouse-Exception-Code") {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let cause: String = text.chars().take(600).collect();
        Err(Failure::unavailable("ClickHouse refuses to be read")
            .cause(cause)
            .remedy("correct CLICKHOUSE_USER and CLICKHOUSE_DATABASE, or grant what is listed")
            .next("engagectl access clickhouse"))
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failure::unavailable(format!(
            "ClickHouse at {} does not answer",
            self.settings.url
        ))
        .cause(cause.to_string())
        .remedy("start it, or correct CLICKHOUSE_URL")
        .next("engagectl check")
    }
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

fn row_of(row: Answered) -> Row {
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

fn literal(text: &str) -> String {
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
