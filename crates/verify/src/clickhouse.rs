//! Reads the analytics store: the view `events`, and rows that the table itself holds twice.
//!
//! Invariant: every query runs with `readonly`, is bounded in time and in the server's memory, and an answer counts only
//! if it is complete.

use std::time::Duration;

use engagement::event::Micros;
use platform::ClickHouseSettings;
use reqwest::{Client, Response};
use secrecy::ExposeSecret;

use crate::cell::{Cell, Digest};
use crate::error::Error;
use crate::rows::NamedRow;
use crate::sources::Options;
use crate::wire::Wire;

pub(crate) const WHAT: &str = "ClickHouse";
const MINUTE: &str = "intDiv(toUnixTimestamp64Micro(event_ts) - positiveModulo(toUnixTimestamp64Micro(event_ts), 60000000), 60000000)";
const ROW: &str = "concat(toString(event_id), '|', ifNull(event_type, ''), '|', ifNull(toString(duration_ms), ''))";

/// How the store is asked.
pub(crate) struct Store<'a> {
    settings: &'a ClickHouseSettings,
    timeout: Duration,
    client: Client,
}

/// A row that the table holds more than once.
#[derive(Debug)]
pub(crate) struct Doubled {
    pub(crate) id: String,
    pub(crate) revision: u64,
    /// How often besides once.
    pub(crate) more: u64,
}

/// An answer that is read piece by piece.
pub(crate) struct Answer {
    response: Response,
    wire: Wire,
    step: &'static str,
}

impl<'a> Store<'a> {
    pub(crate) fn new(settings: &'a ClickHouseSettings, timeout: Duration) -> Result<Self, Error> {
        let client = settings
            .tls
            .http("clickhouse", Client::builder().no_proxy())
            .map_err(Error::Tls)?;
        Ok(Self {
            settings,
            timeout,
            client: client
                .build()
                .expect("a client whose files were read builds"),
        })
    }

    /// The sums of every cell in the order of cells, without the events named.
    pub(crate) async fn cells(
        &self,
        options: &Options,
        without: &[String],
    ) -> Result<Answer, Error> {
        let sql = format!(
            "SELECT toInt64({MINUTE}) AS minute, CAST(content_id, 'Nullable(String)') AS content, toInt64(count()), \
             toInt64(count(duration_ms)), sum(toInt128(ifNull(duration_ms, 0))), \
             groupBitXor(reinterpretAsUInt64(reverse(substring(MD5({ROW}), 1, 8)))) \
             FROM {} WHERE {} GROUP BY minute, content ORDER BY minute, content NULLS FIRST FORMAT RowBinary",
            self.name("events"),
            filter(options, without),
        );
        self.ask("the sums per minute and content", sql).await
    }

    /// The rows of some cells in the order of cells, then ids.
    pub(crate) async fn rows(
        &self,
        cells: &[Cell],
        options: &Options,
        without: &[String],
    ) -> Result<Answer, Error> {
        let wanted: Vec<String> = cells.iter().map(tuple).collect();
        let sql = format!(
            "SELECT toInt64({MINUTE}) AS minute, CAST(content_id, 'Nullable(String)') AS content, toString(event_id) AS id, \
             CAST(ifNull(event_type, ''), 'String'), CAST(duration_ms, 'Nullable(Int64)') FROM {} \
             WHERE {} AND (minute, isNull(content_id), ifNull(content_id, '')) IN ({}) \
             ORDER BY minute, content NULLS FIRST, id FORMAT RowBinary",
            self.name("events"),
            filter(options, without),
            wanted.join(", "),
        );
        self.ask("the rows of some minutes", sql).await
    }

    /// How many rows the table has too many: there more than once with the same revision.
    pub(crate) async fn doubled(&self, options: &Options) -> Result<u64, Error> {
        let sql = format!(
            "SELECT toUInt64(sum(more)) FROM ({}) FORMAT RowBinary",
            self.doubles(options)
        );
        let mut answer = self.ask("the number of rows held twice", sql).await?;
        if answer.more().await? {
            answer.wire.u64()
        } else {
            Ok(0)
        }
    }

    /// The first of these rows, by id.
    pub(crate) async fn first_doubled(&self, options: &Options) -> Result<Vec<Doubled>, Error> {
        let sql = format!(
            "SELECT toString(event_id) AS id, revision, toUInt64(more) FROM ({}) ORDER BY id LIMIT {} FORMAT RowBinary",
            self.doubles(options),
            options.limit.max(1),
        );
        let mut answer = self.ask("rows held twice", sql).await?;
        let mut all = Vec::new();
        while answer.more().await? {
            all.push(Doubled {
                id: answer.wire.string()?,
                revision: answer.wire.u64()?,
                more: answer.wire.u64()?,
            });
        }
        Ok(all)
    }

    /// In the order of the table's sort key, so that the server groups it without holding it.
    fn doubles(&self, options: &Options) -> String {
        format!(
            "SELECT event_id, revision, count() - 1 AS more FROM {} WHERE {} \
             GROUP BY event_ts, content_id, event_id, revision, src_row HAVING more > 0",
            self.name("events_enriched"),
            filter(options, &[]),
        )
    }

    fn name(&self, object: &str) -> String {
        format!("`{}`.{object}", self.settings.database.replace('`', "\\`"))
    }

    async fn ask(&self, step: &'static str, sql: String) -> Result<Answer, Error> {
        // The answer is complete before its first byte is sent, so that an exception cannot hide in its middle.
        let settings = [
            ("readonly", "2".to_owned()),
            ("wait_end_of_query", "1".into()),
            ("max_execution_time", self.timeout.as_secs().to_string()),
            ("max_bytes_before_external_group_by", "500000000".into()),
            ("max_bytes_before_external_sort", "500000000".into()),
            ("optimize_aggregation_in_order", "1".into()),
        ];
        let mut url = self.settings.url.clone();
        url.query_pairs_mut().extend_pairs(&settings);
        let mut request = self
            .client
            .post(url)
            .header("X-ClickHouse-User", &self.settings.user);
        if let Some(password) = &self.settings.password {
            request = request.header("X-ClickHouse-Key", password.expose_secret());
        }
        let response = request
            .body(sql)
            .send()
            .await
            .map_err(|e| self.unreachable(&e))?;
        Answer::begin(response, step).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Error::Unreachable {
            what: WHAT,
            place: self.settings.url.to_string(),
            cause: cause.to_string(),
            setting: "CLICKHOUSE_URL and, with https://, CLICKHOUSE_SSL_CA_LOCATION",
        }
    }
}

impl Answer {
    async fn begin(response: Response, step: &'static str) -> Result<Self, Error> {
        let failed = !response.status().is_success()
            || response
                .headers()
                .contains_key("X-ClickHouse-Exception-Code");
        if failed {
            let text = response.text().await.unwrap_or_default();
            let cause: String = text.chars().take(600).collect();
            return Err(Error::refused(WHAT, step, cause));
        }
        Ok(Self {
            response,
            wire: Wire::new(WHAT, step),
            step,
        })
    }

    /// The next cell.
    pub(crate) async fn cell(&mut self) -> Result<Option<(Cell, Digest)>, Error> {
        if !self.more().await? {
            return Ok(None);
        }
        let cell = self.wire_cell()?;
        let digest = Digest {
            events: self.wire.i64()?,
            timed: self.wire.i64()?,
            ms: self.wire.i128()?,
            hash: self.wire.u64()?,
        };
        Ok(Some((cell, digest)))
    }

    /// The next row.
    pub(crate) async fn row(&mut self) -> Result<Option<NamedRow>, Error> {
        if !self.more().await? {
            return Ok(None);
        }
        Ok(Some(NamedRow {
            cell: self.wire_cell()?,
            id: self.wire.string()?,
            event_type: self.wire.string()?,
            duration_ms: self.wire.optional(Wire::i64)?,
        }))
    }

    fn wire_cell(&mut self) -> Result<Cell, Error> {
        Ok(Cell {
            minute: self.wire.i64()?,
            content: self.wire.optional(Wire::string)?,
        })
    }

    /// Reads on until a whole row must be there, or nothing is left.
    async fn more(&mut self) -> Result<bool, Error> {
        while !self.wire.has_much() {
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.wire.add(&bytes),
                Ok(None) => break,
                Err(e) => return Err(Error::refused(WHAT, self.step, e)),
            }
        }
        Ok(!self.wire.is_empty())
    }
}

fn filter(options: &Options, without: &[String]) -> String {
    let mut parts = vec!["1".to_owned()];
    for (bound, operator) in [(options.from, ">="), (options.to, "<")] {
        if let Some(Micros(at)) = bound {
            parts.push(format!(
                "event_ts {operator} fromUnixTimestamp64Micro(toInt64({at}), 'UTC')"
            ));
        }
    }
    if !without.is_empty() {
        let ids: Vec<String> = without.iter().map(|id| literal(id)).collect();
        parts.push(format!("toString(event_id) NOT IN ({})", ids.join(", ")));
    }
    parts.join(" AND ")
}

fn tuple(cell: &Cell) -> String {
    format!(
        "({}, {}, {})",
        cell.minute,
        u8::from(cell.content.is_none()),
        literal(cell.content.as_deref().unwrap_or_default())
    )
}

fn literal(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\'', "\\'")
        .replace('\0', "\\0");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_pasted_as_literals() {
        let without = ["a'b\\".to_owned()];
        assert_eq!(
            filter(&Options::default(), &without),
            r"1 AND toString(event_id) NOT IN ('a\'b\\')"
        );
    }

    #[test]
    fn a_cell_without_content_is_not_one_with_an_empty_content() {
        let cell = |content: Option<&str>| Cell {
            minute: -1,
            content: content.map(str::to_owned),
        };
        assert_eq!(tuple(&cell(None)), "(-1, 1, '')");
        assert_eq!(tuple(&cell(Some(""))), "(-1, 0, '')");
    }
}
