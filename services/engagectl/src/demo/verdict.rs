//! Compares what each sink holds with what Postgres holds.
//!
//! Invariant: equal means equal per content: the number of events, the sum of their milliseconds and a sum
//! of hashes of their ids (ClickHouse), the number of events (Redis), and the number of distinct events
//! (webhook receiver). Nothing is rounded and nothing is tolerated.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::pipeline::Addresses;

/// Per content: events, milliseconds, hash of the ids. The empty key is `content_id` NULL.
pub(super) type Totals = BTreeMap<String, [i64; 3]>;

/// What all stores hold at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The source.
    pub postgres: Totals,
    /// The view `events`.
    pub clickhouse: Totals,
    /// `content:count:{id}` of every content that has one.
    pub redis: BTreeMap<String, i64>,
    /// Distinct events that exist according to what the receiver got.
    pub webhook: i64,
}

/// What is wrong with one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The sink's name.
    pub sink: &'static str,
    /// What was expected and what was found.
    pub what: String,
}

impl Holdings {
    /// Events in Postgres.
    #[must_use]
    pub fn events(&self) -> i64 {
        self.postgres.values().map(|[events, ..]| events).sum()
    }

    /// Events in ClickHouse.
    #[must_use]
    pub fn clickhouse_events(&self) -> i64 {
        self.clickhouse.values().map(|[events, ..]| events).sum()
    }

    /// Events counted in Redis; those without a content are not counted there.
    #[must_use]
    pub fn redis_events(&self) -> i64 {
        self.redis.values().sum()
    }

    /// Every difference; empty when each sink holds exactly what Postgres holds.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        if let Some(what) = first_difference(&self.postgres, &self.clickhouse) {
            found.push(Difference {
                sink: "clickhouse-sink",
                what,
            });
        }
        let counted: BTreeMap<String, i64> = self
            .postgres
            .iter()
            .filter(|(id, _)| !id.is_empty())
            .map(|(id, [events, ..])| (id.clone(), *events))
            .collect();
        if let Some(what) = first_difference(&counted, &self.redis) {
            found.push(Difference {
                sink: "redis-aggregator",
                what,
            });
        }
        if self.webhook != self.events() {
            let what = format!(
                "{} distinct events received, {} committed",
                self.webhook,
                self.events()
            );
            found.push(Difference {
                sink: "webhook-forwarder",
                what,
            });
        }
        found
    }
}

fn first_difference<T: PartialEq + std::fmt::Debug>(
    source: &BTreeMap<String, T>,
    sink: &BTreeMap<String, T>,
) -> Option<String> {
    let ids = source
        .keys()
        .chain(sink.keys())
        .find(|id| source.get(*id) != sink.get(*id));
    ids.map(|id| {
        format!(
            "content {id:?}: Postgres has {:?}, the sink {:?}",
            source.get(id),
            sink.get(id)
        )
    })
}

/// Reads all four. The webhook count is read by the caller's HTTP client from the receiver's `/stats`.
///
/// # Errors
/// The first store that cannot be read.
pub async fn read(addresses: &Addresses) -> anyhow::Result<Holdings> {
    let postgres = read_postgres(addresses).await?;
    Ok(Holdings {
        clickhouse: read_clickhouse(addresses).await?,
        redis: read_redis(addresses, postgres.keys()).await?,
        webhook: read_receiver(addresses).await?,
        postgres,
    })
}

async fn read_postgres(addresses: &Addresses) -> anyhow::Result<Totals> {
    let key = addresses.schema.event_key();
    let sql = format!(
        "SELECT coalesce(content_id::text, ''), count(*), coalesce(sum(duration_ms), 0)::bigint, \
         sum(('x' || substr(md5({key}::text), 1, 8))::bit(32)::bigint)::bigint FROM engagement_events GROUP BY 1"
    );
    let mut connection = PgConnection::connect(&addresses.postgres_url).await?;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut connection)
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), [row.get(1), row.get(2), row.get(3)]))
        .collect())
}

async fn read_clickhouse(addresses: &Addresses) -> anyhow::Result<Totals> {
    let sql = format!(
        "SELECT ifNull(toString(content_id), ''), count(), sum(ifNull(duration_ms, 0)), \
         sum(reinterpretAsUInt32(reverse(substring(MD5(toString(event_id)), 1, 4)))) \
         FROM {}.events GROUP BY 1 FORMAT TSV",
        addresses.clickhouse_database
    );
    let response = reqwest::Client::new()
        .post(&addresses.clickhouse_url)
        .header("X-ClickHouse-User", &addresses.clickhouse_user)
        .header("X-ClickHouse-Key", &addresses.clickhouse_password)
        .body(sql)
        .send()
        .await?
        .error_for_status()?;
    response.text().await?.lines().map(parse_totals).collect()
}

fn parse_totals(line: &str) -> anyhow::Result<(String, [i64; 3])> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, events, ms, hash] = fields[..] else {
        anyhow::bail!("unexpected line from ClickHouse: {line:?}")
    };
    Ok((id.to_owned(), [events.parse()?, ms.parse()?, hash.parse()?]))
}

async fn read_redis(
    addresses: &Addresses,
    ids: impl Iterator<Item = &String>,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let client = redis::Client::open(addresses.redis_url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut counts = BTreeMap::new();
    for id in ids.filter(|id| !id.is_empty()) {
        let count: Option<i64> = redis::cmd("GET")
            .arg(format!("content:count:{id}"))
            .query_async(&mut connection)
            .await?;
        counts.extend(count.map(|count| (id.clone(), count)));
    }
    Ok(counts)
}

async fn read_receiver(addresses: &Addresses) -> anyhow::Result<i64> {
    let stats: serde_json::Value = reqwest::get(format!("http://{}/stats", addresses.receiver))
        .await?
        .json()
        .await?;
    stats["unique_events"]
        .as_i64()
        .ok_or_else(|| anyhow::anyhow!("the receiver's /stats has no field `unique_events`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal() -> Holdings {
        let totals = Totals::from([("a".into(), [2, 30, 77]), (String::new(), [1, 5, 9])]);
        Holdings {
            postgres: totals.clone(),
            clickhouse: totals,
            redis: BTreeMap::from([("a".into(), 2)]),
            webhook: 3,
        }
    }

    #[test]
    fn equal_holdings_have_no_difference() {
        assert_eq!(equal().differences(), []);
    }

    #[test]
    fn one_missing_event_in_any_sink_is_a_difference_of_that_sink() {
        let mut lost = equal();
        lost.clickhouse.insert("a".into(), [1, 30, 77]);
        assert_eq!(lost.differences()[0].sink, "clickhouse-sink");
        let mut lost = equal();
        lost.redis.insert("a".into(), 3);
        assert_eq!(lost.differences()[0].sink, "redis-aggregator");
        let mut lost = equal();
        lost.webhook = 2;
        assert_eq!(lost.differences()[0].sink, "webhook-forwarder");
    }

    #[test]
    fn the_same_count_with_another_id_is_a_difference() {
        let mut swapped = equal();
        swapped.clickhouse.insert("a".into(), [2, 30, 78]);
        assert!(!swapped.differences().is_empty());
    }
}
