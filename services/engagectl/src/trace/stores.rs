//! What the stores say of one event: Postgres, ClickHouse, Redis, and a receiver.
//!
//! Invariant: everything is a reading; what cannot be asked is a sentence for the reader, never a failure.

use std::time::Duration;

use engagement::event::{Lane, Micros, Source};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
use stream::Committed;
use url::Url;

use super::log::Found;
use crate::config::Config;
use crate::lineage::aggregates::Aggregates;
use crate::receiver::message;

/// How long a store may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// SQLSTATE `undefined_function`: nothing compares values of these two types.
const NO_SUCH_COMPARISON: &str = "42883";

/// Rows of one change in `events_enriched`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    src_lane: String,
    src_epoch: u8,
    /// Partition of the change, and of the enriched record.
    pub(super) src_partition: i32,
    src_offset: i64,
    src_lsn: u64,
    #[serde(rename = "committed_us", deserialize_with = "micros")]
    pub(super) committed_at: Micros,
    #[serde(rename = "processed_us", deserialize_with = "micros")]
    processed_at: Micros,
    /// When the sink wrote it.
    #[serde(rename = "ingested_us", deserialize_with = "micros")]
    pub(super) ingested_at: Micros,
    revision: u64,
    deleted: u8,
    status: String,
    /// How many.
    pub(super) rows: u64,
}

fn micros<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    i64::deserialize(deserializer).map(Micros)
}

impl Row {
    /// Whether it was made from this change.
    pub(super) fn is_of(&self, source: &Source) -> bool {
        self.src_lane == source.lane.name()
            && (self.src_epoch, self.src_partition, self.src_offset)
                == (source.epoch, source.partition, source.offset)
    }

    /// What is known of a change that Kafka no longer retains.
    pub(super) fn as_found(&self) -> Found {
        Found {
            operation: if self.deleted > 0 {
                "deleted"
            } else {
                "written"
            },
            source: Source {
                lane: self.src_lane.parse().unwrap_or(Lane::Live),
                epoch: self.src_epoch,
                partition: self.src_partition,
                offset: self.src_offset,
                prev: -1,
                commit_lsn: 0,
                lsn: self.src_lsn,
                tx_id: None,
                committed_at: self.committed_at,
                snapshot: false,
            },
            revision: self.revision,
            offset: None,
            status: self.status.clone(),
            enriched_at: self.processed_at,
            context: None,
        }
    }
}

/// Whether the row is there.
pub(super) async fn in_postgres(config: &Config, event_id: &str) -> Result<bool, String> {
    let key = config.database.schema.event_key();
    let asked = async {
        let mut connection = PgConnection::connect(config.database.url.expose_secret()).await?;
        for kind in kinds(event_id) {
            let row = sqlx::query(AssertSqlSafe(row_sql(key, kind))).bind(event_id);
            match row.fetch_one(&mut connection).await {
                Err(error) if compares_nothing(&error) => {}
                answer => return answer?.try_get::<bool, _>(0).map(Some),
            }
        }
        Ok(None)
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(Some(is_there))) => Ok(is_there),
        Ok(Ok(None)) => Err(format!(
            "`{event_id}` is no id: engagement_events.{key} has another type"
        )),
        Ok(Err(error)) => Err(format!("Postgres cannot be asked: {error}")),
        Err(_) => Err(format!(
            "Postgres did not answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// The types that a key like this can have, the most likely one first: a column of text holds numbers and UUIDs too.
fn kinds(event_id: &str) -> &'static [&'static str] {
    match (event_id.parse::<i64>(), uuid::Uuid::parse_str(event_id)) {
        (Ok(_), _) => &["bigint", "text"],
        (_, Ok(_)) => &["uuid", "text"],
        _ => &["text"],
    }
}

/// The id becomes a value of the column's type, so that its index is used.
fn row_sql(key: &str, kind: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM public.engagement_events WHERE {key} = CAST($1::text AS {kind}))"
    )
}

fn compares_nothing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.as_deref() == Some(NO_SUCH_COMPARISON)
}

/// What `events_enriched` holds of it, the oldest change first.
pub(super) async fn clickhouse_rows(config: &Config, event_id: &str) -> Result<Vec<Row>, String> {
    let settings = &config.clickhouse;
    let query = rows_sql(&settings.database, event_id);
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let mut url = settings.url.clone();
    url.query_pairs_mut()
        .append_pair("readonly", "2")
        .append_pair("output_format_json_quote_64bit_integers", "0")
        .append_pair("max_execution_time", "10");
    let mut request = client
        .post(url)
        .header("X-ClickHouse-User", &settings.user)
        .body(query);
    if let Some(password) = &settings.password {
        request = request.header("X-ClickHouse-Key", password.expose_secret());
    }
    let failed =
        |error: reqwest::Error| format!("ClickHouse cannot be asked: {}", error.without_url());
    let answer = request.send().await.map_err(failed)?;
    let succeeded = answer.status().is_success();
    let text = answer.text().await.map_err(failed)?;
    if !succeeded {
        let line = text.lines().next().unwrap_or_default();
        let line: String = line.chars().take(200).collect();
        let remedy = ::verify::clickhouse_remedy(&text);
        let remedy = remedy.map_or_else(String::new, |remedy| format!("; {remedy}"));
        return Err(format!("ClickHouse cannot be asked: {line}{remedy}"));
    }
    let rows = text.lines().map(serde_json::from_str);
    let rows: Result<_, _> = rows.collect();
    rows.map_err(|error| format!("ClickHouse's answer is no row: {error}"))
}

/// The id as a quoted literal fits every type that the column can have.
fn rows_sql(database: &str, event_id: &str) -> String {
    let id = event_id.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "SELECT src_lane, src_epoch, src_partition, src_offset, any(src_lsn) AS src_lsn, \
         toUnixTimestamp64Micro(any(src_committed_at)) AS committed_us, \
         toUnixTimestamp64Micro(any(processed_at)) AS processed_us, \
         toUnixTimestamp64Micro(min(ingested_at)) AS ingested_us, \
         any(revision) AS revision, maxIf(deleted, src_row = 1) AS deleted, \
         any(enrichment_status) AS status, count() AS rows \
         FROM `{database}`.events_enriched WHERE event_id = '{id}' \
         GROUP BY src_lane, src_epoch, src_partition, src_offset \
         ORDER BY src_epoch, src_offset LIMIT 100 FORMAT JSONEachRow"
    )
}

/// Up to where the aggregates have applied a partition.
pub(super) async fn redis_position(
    config: &Config,
    partition: i32,
) -> Result<Option<Committed>, String> {
    let Some(aggregates) = Aggregates::of(config) else {
        return Err("there are no aggregates".into());
    };
    let position = aggregates.position(partition).await;
    position.map_err(|failure| {
        let causes = failure.causes().join(": ");
        format!("{} {causes}", failure.what()).trim().to_owned()
    })
}

/// A delivery that a receiver got.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) event_id: String,
    /// `None`: the endpoint's profile has none.
    pub(super) revision: Option<u64>,
    pub(super) webhook_id: String,
    pub(super) at: Micros,
}

impl Received {
    /// Whether it is a delivery of this change.
    pub(super) fn is_of(&self, found: &Found) -> bool {
        self.revision
            .is_none_or(|revision| revision == found.revision)
    }
}

/// What a receiver of the demo's kind still shows of it.
pub(super) async fn received(url: Option<&Url>, event_id: &str) -> Result<Vec<Received>, String> {
    let Some(url) = url else {
        return Ok(Vec::new());
    };
    let events = format!("{}/events?limit=10000", url.as_str().trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let failed = |error: reqwest::Error| format!("the receiver cannot be asked: {error}");
    let answer = client.get(events).send().await.map_err(failed)?;
    let events: Vec<Value> = answer.json().await.map_err(failed)?;
    let mut received: Vec<_> = events.iter().filter_map(receipt).collect();
    received.retain(|one| one.event_id == event_id);
    Ok(received)
}

fn receipt(kept: &Value) -> Option<Received> {
    let item = message::read(&kept["event"])?;
    Some(Received {
        event_id: item.event_id,
        revision: Some(item.revision).filter(|revision| *revision > 0),
        webhook_id: kept["webhook_id"].as_str()?.to_owned(),
        at: kept["received_at"].as_str()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_looked_for_as_what_it_looks_like_and_then_as_text() {
        assert_eq!(kinds("1001"), ["bigint", "text"]);
        assert_eq!(
            kinds("018d5f1e-0000-7000-8000-000000000001"),
            ["uuid", "text"]
        );
        assert_eq!(kinds("evt_1001"), ["text"]);
        assert!(row_sql("id", "text").ends_with("WHERE id = CAST($1::text AS text))"));
    }

    #[test]
    fn an_id_cannot_leave_its_literal() {
        let sql = rows_sql("engagement", "7' OR 1=1 --\\");
        assert!(sql.contains(r"event_id = '7\' OR 1=1 --\\'"), "{sql}");
    }

    #[test]
    fn a_row_is_of_the_change_at_its_position() {
        let text = r#"{"src_lane":"live","src_epoch":0,"src_partition":3,"src_offset":42,"src_lsn":9,"committed_us":1,
            "processed_us":2,"ingested_us":3,"revision":42000,"deleted":0,"status":"OK","rows":1}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        let found = row.as_found();
        assert!(row.is_of(&found.source));
        assert_eq!(
            (found.source.committed_at, found.operation),
            (Micros(1), "written")
        );
        assert!(!row.is_of(&Source {
            epoch: 1,
            ..found.source
        }));
    }

    #[test]
    fn a_receipt_names_event_message_and_time() {
        let kept = json!({"received_at": "1970-01-01T00:00:01Z", "webhook_id": "msg_1",
            "event": {"type": "engagement_event.created", "data": {"event_id": "7", "revision": 5}}});
        let one = receipt(&kept).unwrap();
        assert_eq!((one.event_id.as_str(), one.revision), ("7", Some(5)));
        assert_eq!(one.at, Micros(1_000_000));
        assert!(receipt(&json!({"event": null})).is_none());
    }
}
