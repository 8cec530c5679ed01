//! Reading a row back from each sink, as a reader of that sink would.
//!
//! Invariant: reading changes nothing, and a row is there only if its value is the one that was written.

use std::sync::Arc;
use std::time::Duration;

use platform::ClickHouseSettings;
use reqwest::Client;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use service::{Failure, TlsFiles};
use url::Url;

use super::row::Row;
use super::settings::Store;
use crate::config::Config;

/// Longest time of one request.
const REQUEST: Duration = Duration::from_secs(4);
/// How many of the last deliveries a receiver is asked for.
const LAST: usize = 1000;

/// A sink that can be asked.
pub(super) enum Sink {
    ClickHouse {
        client: Client,
        settings: ClickHouseSettings,
    },
    Redis {
        client: redis::Client,
        key: String,
    },
    Webhook {
        client: Client,
        url: Url,
    },
}

/// What one look came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The row, as it was written.
    There,
    /// Not yet.
    Absent,
    /// The row with another value, or twice.
    Wrong(String),
}

impl Sink {
    /// The sinks of a configuration.
    pub(super) fn all(config: &Config) -> Result<Vec<Arc<Self>>, Failure> {
        let canary = &config.canary;
        let mut sinks = Vec::new();
        for store in &canary.sinks {
            sinks.push(Arc::new(match store {
                Store::Clickhouse => Self::ClickHouse {
                    client: client(&config.clickhouse.tls, "clickhouse")?,
                    settings: config.clickhouse.clone(),
                },
                Store::Redis => Self::Redis {
                    client: config
                        .redis
                        .client()
                        .map_err(|error| Failure::usage("no client of Redis").cause(error))?,
                    key: canary.redis_key.clone(),
                },
            }));
        }
        if let Some(receiver) = &canary.receiver {
            let url = receiver
                .join(&format!("events?limit={LAST}"))
                .map_err(|error| Failure::usage("canary.receiver is no URL").cause(error))?;
            let client = client(&TlsFiles::default(), "canary")?;
            sinks.push(Arc::new(Self::Webhook { client, url }));
        }
        Ok(sinks)
    }

    /// Label `sink`.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::ClickHouse { .. } => "clickhouse",
            Self::Redis { .. } => "redis",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// Looks once; an error is why it could not.
    pub(super) async fn look(&self, row: &Row) -> Result<Verdict, String> {
        match self {
            Self::ClickHouse { client, settings } => {
                let text = ask_clickhouse(client, settings, row).await;
                in_clickhouse(&text.map_err(|error| text_of(&error))?, row)
            }
            Self::Redis { client, key } => {
                let found = ask_redis(client, &key.replace("{id}", &row.content_id)).await;
                Ok(in_redis(
                    found.map_err(|error| error.to_string())?.as_deref(),
                    row,
                ))
            }
            Self::Webhook { client, url } => {
                let told = ask_receiver(client, url).await;
                Ok(in_deliveries(&told.map_err(|error| text_of(&error))?, row))
            }
        }
    }
}

/// `section` is the one of the configuration that names the files.
fn client(tls: &TlsFiles, section: &str) -> Result<Client, Failure> {
    let client = Client::builder().no_proxy().timeout(REQUEST);
    let client = tls
        .http(section, client)
        .map_err(|error| Failure::usage("no HTTP client").cause(error))?;
    let client = client.build();
    client.map_err(|error| Failure::internal("no HTTP client").cause(error))
}

/// Without the URL, which may hold a token.
fn text_of(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

async fn ask_clickhouse(
    client: &Client,
    settings: &ClickHouseSettings,
    row: &Row,
) -> reqwest::Result<String> {
    let mut url = settings.url.clone();
    url.query_pairs_mut().append_pair("readonly", "1");
    let mut request = client
        .post(url)
        .header("X-ClickHouse-User", &settings.user)
        .body(query(&settings.database, row));
    if let Some(password) = &settings.password {
        request = request.header("X-ClickHouse-Key", password.expose_secret());
    }
    let answer = request.send().await?.error_for_status()?;
    answer.text().await
}

/// By the sort key; ids are digits, or text that holds no quote.
fn query(database: &str, row: &Row) -> String {
    let literal = |text: &str| text.replace(['\'', '\\'], "");
    format!(
        "SELECT count(), any(duration_ms) FROM `{database}`.events_enriched \
         WHERE event_ts = fromUnixTimestamp64Micro({}, 'UTC') AND content_id = '{}' AND toString(event_id) = '{}' AND deleted = 0 FORMAT TSV",
        row.event_ts,
        literal(&row.content_id),
        literal(&row.event_id)
    )
}

fn in_clickhouse(answer: &str, row: &Row) -> Result<Verdict, String> {
    let (count, value) = answer
        .trim()
        .split_once('\t')
        .ok_or_else(|| format!("ClickHouse answered {answer:?}"))?;
    Ok(match count {
        "0" => Verdict::Absent,
        "1" => is_value(Some(value), row),
        more => Verdict::Wrong(format!("it is there {more} times")),
    })
}

async fn ask_redis(client: &redis::Client, key: &str) -> redis::RedisResult<Option<String>> {
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REQUEST))
        .set_response_timeout(Some(REQUEST));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    redis::cmd("GET")
        .arg(key)
        .query_async(&mut connection)
        .await
}

fn in_redis(found: Option<&str>, row: &Row) -> Verdict {
    let Some(event) = found.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Verdict::Absent;
    };
    if text(&event["event_id"]).as_deref() != Some(&row.event_id) {
        return Verdict::Absent;
    }
    is_value(text(&event["duration_ms"]).as_deref(), row)
}

async fn ask_receiver(client: &Client, url: &Url) -> reqwest::Result<Value> {
    let answer = client.get(url.clone()).send().await?;
    answer.error_for_status()?.json().await
}

/// The body of a delivery holds the event at its top or under `data`.
fn in_deliveries(told: &Value, row: &Row) -> Verdict {
    let list = told.as_array().or_else(|| told["events"].as_array());
    let bodies = list.into_iter().flatten().map(|kept| &kept["event"]);
    let mut events = bodies.map(|body| {
        if body["data"].is_object() {
            &body["data"]
        } else {
            body
        }
    });
    let ours = |event: &&Value| {
        let id = text(&event["event_id"]).or_else(|| text(&event["id"]));
        id.as_deref() == Some(&row.event_id)
    };
    match events.find(ours) {
        None => Verdict::Absent,
        Some(event) => is_value(text(&event["duration_ms"]).as_deref(), row),
    }
}

fn is_value(found: Option<&str>, row: &Row) -> Verdict {
    if found == Some(&row.duration_ms.to_string()) {
        return Verdict::There;
    }
    let found = found.unwrap_or("absent");
    Verdict::Wrong(format!(
        "duration_ms is {found}, {} was written",
        row.duration_ms
    ))
}

/// Ids and numbers are JSON numbers in some profiles and texts in others.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Row {
        Row {
            event_id: "42".into(),
            content_id: "c".into(),
            event_ts: 7,
            duration_ms: 900,
        }
    }

    #[test]
    fn clickhouse_holds_the_row_once_with_its_value_or_something_is_wrong() {
        let look = |answer| in_clickhouse(answer, &row());
        assert_eq!(look("0\t0\n"), Ok(Verdict::Absent));
        assert_eq!(look("1\t900\n"), Ok(Verdict::There));
        assert!(matches!(look("1\t901\n"), Ok(Verdict::Wrong(_))));
        assert!(matches!(look("2\t900\n"), Ok(Verdict::Wrong(_))));
        assert!(look("").is_err());
    }

    #[test]
    fn the_last_event_of_the_content_in_redis_is_the_row_or_an_earlier_one() {
        let look = |text| in_redis(text, &row());
        assert_eq!(look(None), Verdict::Absent);
        assert_eq!(
            look(Some(r#"{"event_id":41,"duration_ms":900}"#)),
            Verdict::Absent
        );
        assert_eq!(
            look(Some(r#"{"event_id":42,"duration_ms":900}"#)),
            Verdict::There
        );
        assert!(matches!(
            look(Some(r#"{"event_id":"42","duration_ms":null}"#)),
            Verdict::Wrong(_)
        ));
    }

    #[test]
    fn a_delivery_is_found_with_and_without_an_envelope() {
        let enveloped = json!([{"event": {"data": {"event_id": "42", "duration_ms": 900}}}]);
        let bare = json!({"events": [{"event": {"id": 42, "duration_ms": 900}}]});
        let other = json!([{"event": {"data": {"event_id": "41"}}}]);
        assert_eq!(in_deliveries(&enveloped, &row()), Verdict::There);
        assert_eq!(in_deliveries(&bare, &row()), Verdict::There);
        assert_eq!(in_deliveries(&other, &row()), Verdict::Absent);
    }
}
