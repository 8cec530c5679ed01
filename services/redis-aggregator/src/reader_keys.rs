//! The keys that readers read, but for the leaderboards: each can be renamed or switched off.
//!
//! Invariant: they hold absolute values derived from our state and are rewritten, never incremented; whatever stands
//! under such a name is ours to replace.

use std::time::Duration;

use serde::Deserialize;

/// All of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReaderKeys {
    /// STRING: the last event, profile `ratio2`.
    pub content_last: Key,
    /// STRING: events of the content. No TTL unless one is set.
    pub content_count: Key,
    /// HASH: title, type, totals, last event, one counter per known event type and `other`, mean percent, users.
    pub content_stats: Key,
    /// HyperLogLog: users of the content, beside `content_stats`.
    pub content_users: Key,
    /// STREAM of the newest events (field `event`, profile `ratio2`).
    pub recent_events: Recent,
    /// ZSET: events per content in one minute; `{id}` stands for `YYYYMMDDHHMM`.
    pub minute_bucket: Key,
}

/// One kind of key.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The name; `{id}` is replaced.
    pub key: String,
    /// After how long without an event it disappears; unset = never.
    #[serde(default, with = "humantime_serde")]
    pub ttl: Option<Duration>,
    /// Whether it is written.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// The stream of the newest events.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recent {
    /// The name; `{id}` is replaced.
    pub key: String,
    /// After how long without an event it disappears; unset = never.
    #[serde(default, with = "humantime_serde")]
    pub ttl: Option<Duration>,
    /// Whether it is written.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How many events it keeps.
    #[serde(default = "hundred")]
    pub max: usize,
}

const fn yes() -> bool {
    true
}

const fn hundred() -> usize {
    100
}

const HOUR: u64 = 3600;

impl Default for ReaderKeys {
    fn default() -> Self {
        let key = |key: &str, ttl: Option<u64>| Key {
            key: key.into(),
            ttl: ttl.map(Duration::from_secs),
            enabled: true,
        };
        Self {
            content_last: key("content:last:{id}", Some(HOUR)),
            content_count: key("content:count:{id}", None),
            content_stats: key("content_stats:{id}", Some(HOUR)),
            content_users: key("content_users:{id}", Some(HOUR)),
            recent_events: Recent {
                key: "recent_events:{id}".into(),
                ttl: Some(Duration::from_secs(HOUR)),
                enabled: true,
                max: hundred(),
            },
            minute_bucket: key("top:content:bucket:{id}", Some(900)),
        }
    }
}

impl Key {
    /// What stands before and after `{id}`.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        parts(&self.key)
    }

    /// The key of one content or minute.
    #[must_use]
    pub fn of(&self, id: &str) -> String {
        let (before, after) = self.parts();
        format!("{before}{id}{after}")
    }
}

impl Recent {
    /// As any other key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            key: self.key.clone(),
            ttl: self.ttl,
            enabled: self.enabled,
        }
    }
}

fn parts(pattern: &str) -> (&str, &str) {
    pattern.split_once("{id}").unwrap_or((pattern, ""))
}

impl ReaderKeys {
    /// Everything that makes no sense, one sentence each with the setting's name.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let named = [
            ("content_last", &self.content_last.key),
            ("content_count", &self.content_count.key),
            ("content_stats", &self.content_stats.key),
            ("content_users", &self.content_users.key),
            ("recent_events", &self.recent_events.key),
            ("minute_bucket", &self.minute_bucket.key),
        ];
        let mut problems: Vec<String> = named
            .iter()
            .filter(|(_, key)| key.matches("{id}").count() != 1)
            .map(|(name, key)| format!("keys.{name}.key = {key:?} must name {{id}} exactly once"))
            .collect();
        for (index, (name, key)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..index].iter().find(|(_, before)| before == key) {
                problems.push(format!(
                    "keys.{name}.key and keys.{other}.key are the same: {key:?}"
                ));
            }
        }
        if self.recent_events.max == 0 {
            problems.push("keys.recent_events.max = 0; switch it off with enabled = false".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_pattern_with_the_id() {
        let keys = ReaderKeys::default();
        assert_eq!(keys.content_last.of("7"), "content:last:7");
        assert!(keys.problems().is_empty());
    }

    #[test]
    fn two_keys_of_one_name_or_without_an_id_are_refused() {
        let mut keys = ReaderKeys::default();
        keys.content_last.key = keys.content_count.key.clone();
        keys.content_stats.key = "stats".into();
        let problems = keys.problems().join("\n");
        assert!(problems.contains("keys.content_stats.key"), "{problems}");
        assert!(problems.contains("the same"), "{problems}");
    }
}
