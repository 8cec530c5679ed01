//! Reads what Redis holds of a partition.
//!
//! Invariant: position, totals and windows of one partition are of one moment: they are read in one `MULTI`.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, cmd, pipe};

use crate::error::Error;
use crate::msgpack::integers;
use crate::sources::RedisSource;
use crate::sums::{Sums, Window};

pub(crate) const WHAT: &str = "Redis";

/// A window as stored.
#[derive(Debug)]
pub(crate) struct HeldWindow {
    pub(crate) window: Window,
    /// Seven sums and the length that was known.
    pub(crate) sums: HashMap<String, [i64; 8]>,
    /// Per kind of score, the ranking.
    pub(crate) rankings: Vec<(String, HashMap<String, i64>)>,
}

/// A partition as stored.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) partition: i32,
    /// There is state; without any, everything is missing.
    pub(crate) opened: bool,
    /// Its totals were made from ClickHouse (`engagectl rebuild redis`), and counted on from there.
    pub(crate) rebuilt: bool,
    /// Offset in the enriched topic of the last record done.
    pub(crate) enriched: i64,
    pub(crate) totals: HashMap<String, Sums>,
    pub(crate) windows: Vec<HeldWindow>,
    pub(crate) weights: [i64; 5],
}

/// A connection to the aggregates.
pub(crate) struct Aggregates<'a> {
    source: &'a RedisSource,
    pub(crate) connection: MultiplexedConnection,
}

/// What the stored windows were made by: `60=events,seconds;1000/500/3000/300/0`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Signature {
    windows: Vec<(i64, Vec<String>)>,
    weights: [i64; 5],
}

impl<'a> Aggregates<'a> {
    pub(crate) async fn open(source: &'a RedisSource) -> Result<Self, Error> {
        let unreachable = |e: redis::RedisError| Error::Unreachable {
            what: WHAT,
            place: format!(
                "{}:{}",
                source.url.host_str().unwrap_or("localhost"),
                source.url.port().unwrap_or(6379)
            ),
            cause: e.to_string(),
            setting: "REDIS_URL and, with rediss://, REDIS_SSL_CA_LOCATION",
        };
        let client = source.client()?;
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(std::time::Duration::from_secs(60)));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(unreachable)?;
        Ok(Self { source, connection })
    }

    /// The hash with the totals of a partition.
    pub(crate) fn totals_key(&self, partition: i32) -> String {
        format!("{}{{{partition}}}:t", self.source.prefix)
    }

    /// A partition, if it was ever opened.
    pub(crate) async fn held(&mut self, partition: i32) -> Result<Option<Held>, Error> {
        let prefix = format!("{}{{{partition}}}:", self.source.prefix);
        let step = format!("the state of partition {partition}");
        let found = self.read(&prefix).await;
        let found = found.map_err(|e| Error::refused(WHAT, &step, e))?;
        found
            .map(|raw| raw.parse(partition))
            .transpose()
            .map_err(|what| Error::unexpected(WHAT, step, what, "what the aggregator writes"))
    }

    async fn read(&mut self, prefix: &str) -> RedisResult<Option<Raw>> {
        loop {
            let signature: Option<String> = cmd("HGET")
                .arg(format!("{prefix}pos"))
                .arg("windows")
                .query_async(&mut self.connection)
                .await?;
            let Some(text) = signature else {
                return Ok(None);
            };
            let signature = Signature::parse(&text);
            let ask = questions(prefix, &signature);
            let mut answers: Vec<redis::Value> = ask.query_async(&mut self.connection).await?;
            let pos: HashMap<String, String> = redis::from_redis_value(answers.remove(0))?;
            // The configuration changed in between: the windows asked for are not the ones there.
            if pos.get("windows") == Some(&text) {
                return Ok(Some(Raw {
                    pos,
                    signature,
                    answers,
                }));
            }
        }
    }
}

fn questions(prefix: &str, signature: &Signature) -> Pipeline {
    let mut ask = pipe();
    ask.atomic();
    ask.cmd("HGETALL").arg(format!("{prefix}pos"));
    ask.cmd("HGETALL").arg(format!("{prefix}t"));
    for (span, scores) in &signature.windows {
        ask.cmd("HGETALL").arg(format!("{prefix}w:{span}"));
        for score in scores {
            let key = format!("{prefix}w:{span}:{score}");
            ask.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES");
        }
    }
    ask
}

struct Raw {
    pos: HashMap<String, String>,
    signature: Signature,
    answers: Vec<redis::Value>,
}

impl Raw {
    fn number(&self, field: &str) -> Result<i64, String> {
        let text = self
            .pos
            .get(field)
            .ok_or_else(|| format!("no field {field}"))?;
        text.parse().map_err(|_| format!("{field} = {text:?}"))
    }

    fn parse(self, partition: i32) -> Result<Held, String> {
        let (enriched, hi, bucket_us) = (
            self.number("enriched")?,
            self.number("hi")?,
            self.number("bucket")?.max(1),
        );
        let mut answers = self.answers.into_iter();
        let mut next = || answers.next().unwrap_or(redis::Value::Nil);
        let totals = packed::<7>(next())?;
        let mut windows = Vec::new();
        for (span, scores) in self.signature.windows {
            let sums = packed::<8>(next())?;
            let mut rankings = Vec::new();
            for score in scores {
                let ranking: HashMap<String, i64> =
                    redis::from_redis_value(next()).map_err(|e| e.to_string())?;
                rankings.push((score, ranking));
            }
            let window = Window {
                span,
                hi,
                bucket_us,
            };
            windows.push(HeldWindow {
                window,
                sums,
                rankings,
            });
        }
        Ok(Held {
            partition,
            opened: true,
            rebuilt: self.pos.contains_key("rebuilt"),
            enriched,
            totals,
            windows,
            weights: self.signature.weights,
        })
    }
}

fn packed<const N: usize>(value: redis::Value) -> Result<HashMap<String, [i64; N]>, String> {
    let fields: HashMap<String, Vec<u8>> =
        redis::from_redis_value(value).map_err(|e| e.to_string())?;
    let read = |(id, bytes): (String, Vec<u8>)| match integers::<N>(&bytes) {
        Some(sums) => Ok((id, sums)),
        None => Err(format!("sums of content {id} that are no {N} integers")),
    };
    fields.into_iter().map(read).collect()
}

impl Signature {
    fn parse(text: &str) -> Self {
        let mut signature = Self::default();
        for part in text.split(';') {
            if let Some((span, scores)) = part.split_once('=') {
                let span = span.parse().unwrap_or(0);
                let scores = scores.split(',').filter(|score| !score.is_empty());
                signature
                    .windows
                    .push((span, scores.map(str::to_owned).collect()));
            } else {
                let weights = part.split('/').map(|milli| milli.parse().unwrap_or(0));
                for (weight, found) in signature.weights.iter_mut().zip(weights) {
                    *weight = found;
                }
            }
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_windows_scores_and_weights() {
        let found = Signature::parse("60=events,seconds;6=;1000/500/3000/300/0");
        assert_eq!(
            found.windows[0],
            (60, vec!["events".into(), "seconds".into()])
        );
        assert_eq!(found.windows[1], (6, vec![]));
        assert_eq!(found.weights, [1000, 500, 3000, 300, 0]);
    }
}
