//! What ClickHouse holds: the questions of a rebuild, and their answers.
//!
//! Invariant: every query is read-only, and an answer counts only if it is complete.

mod sql;

use std::collections::BTreeMap;

use platform::ClickHouseSettings;
use reqwest::{Client, Response};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use service::Failure;
use stream::checkpoint::Stored;

use super::cut::{Cut, InTable};
use super::sums::{Frame, Row};

/// Longest time of one query.
const PATIENCE_SECONDS: &str = "3600";

/// The table of events.
pub(super) struct Table<'a> {
    settings: &'a ClickHouseSettings,
    client: Client,
}

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
                sql::literal(&self.settings.database)
            ))
            .await?;
        Ok(found.first().map(|(rows,)| *rows))
    }

    /// The rule by which the table deletes rows after a time, if it has one.
    pub(super) async fn ttl(&self) -> Result<Option<String>, Failure> {
        let found: Vec<(String,)> = self
            .lines(format!(
                "SELECT engine_full FROM system.tables WHERE database = {} AND name = 'events_enriched'",
                sql::literal(&self.settings.database)
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
        let found: Vec<sql::Answered> = self.lines(sql::sums(&self.name(), cuts, frame)).await?;
        Ok(found.into_iter().map(sql::row_of).collect())
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
