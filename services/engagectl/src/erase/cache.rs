//! The person in the keys of Redis that readers read.
//!
//! Invariant: only such keys are removed, which `redis-aggregator` writes anew with the next event of their content; sums and
//! positions are not touched, and name nobody.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd, pipe};
use service::Failure;

use super::person::Person;
use super::search::Place;
use crate::config::{Config, RedisSettings};

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Keys, or entries of a stream, that are looked at in one go.
const PAGE: usize = 500;
/// What a HyperLogLog begins with.
const HYPERLOGLOG: &[u8] = b"HYLL";

/// The keys for readers.
pub(super) struct Cache {
    connection: MultiplexedConnection,
    patterns: Vec<String>,
    /// Where a HyperLogLog is copied to and tried.
    scratch: String,
    address: String,
}

/// What is done where the person is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Count,
    Remove,
}

impl Cache {
    /// # Errors
    /// It does not answer (69), or is a cluster (64).
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let settings = &config.redis;
        let client = settings
            .client()
            .map_err(|error| Failure::usage("no client of Redis").cause(error))?;
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let connecting = client.get_multiplexed_async_connection_with_config(&patient);
        let mut connection = connecting.await.map_err(|e| unanswered(settings, &e))?;
        let info: String = cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await
            .map_err(|e| unanswered(settings, &e))?;
        if info.contains("redis_mode:cluster") {
            return Err(Failure::usage(format!(
                "redis at {} is a node of a cluster, and a person may be on any of them",
                settings.address()
            ))
            .remedy("leave Redis out with --set groups.redis=, and remove the keys of docs/privacy.md node by node"));
        }
        Ok(Self {
            connection,
            patterns: config.erase.redis_keys.clone(),
            scratch: format!("{}erase:{}", settings.prefix, uuid::Uuid::now_v7()),
            address: settings.address(),
        })
    }

    /// How often the person is found, pattern by pattern.
    pub(super) async fn count(&mut self, person: &Person) -> Result<Vec<Place>, Failure> {
        self.each(person, Then::Count).await
    }

    /// Removes what is found; says how much.
    pub(super) async fn erase(&mut self, person: &Person) -> Result<Vec<Place>, Failure> {
        self.each(person, Then::Remove).await
    }

    async fn each(&mut self, person: &Person, then: Then) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        for pattern in self.patterns.clone() {
            let count = self.pattern(&pattern, person, then).await;
            places.push(Place {
                store: "redis",
                count: count.map_err(|error| {
                    Failure::unavailable(format!("redis at {}: {error}", self.address))
                        .remedy("give the user of REDIS_URL the rights of engagectl-erase: engagectl access redis")
                })?,
                name: pattern,
            });
        }
        Ok(places)
    }

    async fn pattern(&mut self, pattern: &str, person: &Person, then: Then) -> RedisResult<u64> {
        let matching = glob(pattern, person.id());
        let (mut cursor, mut count) = (0_u64, 0);
        loop {
            let (next, keys): (u64, Vec<String>) = cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&matching)
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.connection)
                .await?;
            for key in keys {
                // the key itself names the person
                let named = pattern.contains("{user}");
                count += self.key(&key, named, person, then).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(count);
            }
        }
    }

    async fn key(
        &mut self,
        key: &str,
        named: bool,
        person: &Person,
        then: Then,
    ) -> RedisResult<u64> {
        let kind: String = cmd("TYPE")
            .arg(key)
            .query_async(&mut self.connection)
            .await?;
        if kind == "stream" && !named {
            return self.stream(key, person, then).await;
        }
        let found = named
            || match kind.as_str() {
                "string" => self.string(key, person).await?,
                "hash" => self.hash(key, person).await?,
                _ => false,
            };
        if found && then == Then::Remove {
            let _: u64 = cmd("UNLINK")
                .arg(key)
                .query_async(&mut self.connection)
                .await?;
        }
        Ok(u64::from(found && kind != "none"))
    }

    async fn string(&mut self, key: &str, person: &Person) -> RedisResult<bool> {
        let bytes: Option<Vec<u8>> = cmd("GET")
            .arg(key)
            .query_async(&mut self.connection)
            .await?;
        match bytes {
            Some(bytes) if bytes.starts_with(HYPERLOGLOG) => self.may_count(key, person).await,
            Some(bytes) => Ok(person.is_in(&bytes)),
            None => Ok(false),
        }
    }

    /// Whether adding the person to a copy, which lives within one transaction, would change nothing. It says yes, too, where others
    /// hide the difference.
    async fn may_count(&mut self, key: &str, person: &Person) -> RedisResult<bool> {
        let (copied, changed): (i64, i64) = pipe()
            .atomic()
            .cmd("COPY")
            .arg(key)
            .arg(&self.scratch)
            .arg("REPLACE")
            .cmd("PFADD")
            .arg(&self.scratch)
            .arg(person.id())
            .cmd("UNLINK")
            .arg(&self.scratch)
            .ignore()
            .query_async(&mut self.connection)
            .await?;
        Ok(copied == 1 && changed == 0)
    }

    async fn hash(&mut self, key: &str, person: &Person) -> RedisResult<bool> {
        let values: Vec<Vec<u8>> = cmd("HVALS")
            .arg(key)
            .query_async(&mut self.connection)
            .await?;
        Ok(values.iter().any(|value| person.is_in(value)))
    }

    async fn stream(&mut self, key: &str, person: &Person, then: Then) -> RedisResult<u64> {
        let (mut from, mut count) = ("-".to_owned(), 0);
        loop {
            let page: Vec<(String, Vec<Value>)> = cmd("XRANGE")
                .arg(key)
                .arg(&from)
                .arg("+")
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut self.connection)
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(count);
            };
            from = format!("({last}");
            let names = |fields: &[Value]| fields.iter().any(|field| is_in(field, person));
            let found = page.iter().filter(|(_, fields)| names(fields));
            let found: Vec<&String> = found.map(|(id, _)| id).collect();
            count += found.len() as u64;
            if then == Then::Remove && !found.is_empty() {
                let _: u64 = cmd("XDEL")
                    .arg(key)
                    .arg(found)
                    .query_async(&mut self.connection)
                    .await?;
            }
        }
    }
}

fn is_in(field: &Value, person: &Person) -> bool {
    match field {
        Value::BulkString(bytes) => person.is_in(bytes),
        Value::SimpleString(text) => person.is_in(text.as_bytes()),
        _ => false,
    }
}

/// What keys of a pattern match, as SCAN takes it.
fn glob(pattern: &str, user: &str) -> String {
    let escaped = |text: &str| -> String {
        let special = |c: char| "*?[]\\^-".contains(c);
        text.chars()
            .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
            .collect()
    };
    let parts = pattern.split("{user}").map(|part| {
        let parts: Vec<String> = part.split("{id}").map(escaped).collect();
        parts.join("*")
    });
    let parts: Vec<String> = parts.collect();
    parts.join(&escaped(user))
}

fn unanswered(settings: &RedisSettings, error: &redis::RedisError) -> Failure {
    Failure::unavailable(format!("redis at {}: {error}", settings.address()))
        .remedy("start it, correct REDIS_URL, or leave it out with --set groups.redis= where there is none")
        .next("engagectl check")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_every_content_and_one_user() {
        assert_eq!(glob("content:last:{id}", "7"), "content:last:*");
        assert_eq!(
            glob("user_engagement:{user}:{id}", "a*b"),
            "user_engagement:a\\*b:*"
        );
        assert_eq!(glob("x[1]:{id}", "7"), "x\\[1\\]:*");
        assert_eq!(glob("{id}/{user}", "u-1"), "*/u\\-1");
    }
}
