//! The scripts and what they are told and answer.
//!
//! Invariant: a script compares the stored position before it changes anything, so running it twice, late, or from
//! two processes changes the sums once.

use redis::{FromRedisValue, ParsingError, Script, Value};

use crate::config::Config;
use crate::position::Applied;
use crate::window::micros;

/// The scripts of one configuration: its constants stand above the text, so a call carries none of them.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// Applies a batch, or moves the windows when there is none.
    pub apply: Script,
    /// Drops the sums of a partition for a newer snapshot.
    pub reset: Script,
}

impl Scripts {
    /// The scripts for a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let apply = format!(
            "local CFG = {}\n{}",
            constants(config),
            include_str!("lua/apply.lua")
        );
        Self {
            apply: Script::new(&apply),
            reset: Script::new(include_str!("lua/reset.lua")),
        }
    }
}

/// The configuration as a Lua table.
fn constants(config: &Config) -> String {
    let spans = config.spans();
    let windows: Vec<String> = spans
        .iter()
        .map(|span| {
            let scores: Vec<String> = span
                .scores
                .iter()
                .map(|score| format!("'{}'", score.name()))
                .collect();
            format!("{{span={},scores={{{}}}}}", span.buckets, scores.join(","))
        })
        .collect();
    let [play, pause, finish, click, other] = config.weights.milli();
    let keys = &config.keys;
    let recent = key(
        &keys.recent_events.key(),
        &format!(",{}", keys.recent_events.max),
    );
    format!(
        "{{cluster={},bucket_us={},longest={},signature='{}',windows={{{}}},weights={{{play},{pause},{finish},{click},{other}}},\
         minutes_kept={},renew_after={},last={},count={},stats={},users={},minute={},recent={recent}}}",
        config.redis.cluster,
        config.window.bucket_us(),
        spans.iter().map(|span| span.buckets).max().unwrap_or(0),
        signature(config),
        windows.join(","),
        minutes_kept(config),
        renew_after(config),
        key(&keys.content_last, ""),
        key(&keys.content_count, ""),
        key(&keys.content_stats, ""),
        key(&keys.content_users, ""),
        key(&keys.minute_bucket, ""),
    )
}

/// What the stored windows were made by: spans, scores, weights. Another signature makes the script build them anew.
fn signature(config: &Config) -> String {
    let spans: Vec<String> = config
        .spans()
        .iter()
        .map(|span| {
            let scores: Vec<&str> = span.scores.iter().map(|score| score.name()).collect();
            format!("{}={}", span.buckets, scores.join(","))
        })
        .collect();
    let weights = config
        .weights
        .milli()
        .map(|milli| milli.to_string())
        .join("/");
    format!("{};{weights}", spans.join(";"))
}

/// Minutes of which the counts per content are kept: as long as their reader key lives.
fn minutes_kept(config: &Config) -> u64 {
    config
        .keys
        .minute_bucket
        .ttl
        .map_or(1440, |ttl| ttl.as_secs().div_ceil(60))
}

/// Buckets after which the TTLs of a content's reader keys are renewed: a sixtieth of the shortest, so that a busy
/// content does not pay for it with every batch.
fn renew_after(config: &Config) -> i64 {
    let keys = &config.keys;
    let ttls = [
        keys.content_stats.ttl,
        keys.content_users.ttl,
        keys.recent_events.ttl,
    ];
    let shortest = ttls.into_iter().flatten().min().unwrap_or_default();
    micros(shortest) / 60 / config.window.bucket_us()
}

/// `{'before','after',seconds}`, or `false` when switched off.
fn key(key: &crate::reader_keys::Key, more: &str) -> String {
    if !key.enabled {
        return "false".into();
    }
    let (before, after) = key.parts();
    let seconds = key.ttl.map_or_else(
        || "false".to_owned(),
        |ttl| ttl.as_secs().max(1).to_string(),
    );
    format!("{{{},{},{seconds}{more}}}", quoted(before), quoted(after))
}

/// A Lua string literal of any bytes.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'-' | b'.' | b'{' | b'}' => {
                char::from(byte).to_string()
            }
            other => format!("\\{other:03}"),
        })
        .collect();
    format!("'{escaped}'")
}

/// What a script found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The stored position was the expected one; everything is done.
    Applied,
    /// The stored position is at or beyond the new one already.
    Already,
    /// The stored position is before the new one and not the expected one: the server lost writes, or somebody else
    /// writes too.
    Gap,
    /// There is no position.
    Wiped,
}

impl Verdict {
    /// The comparison that `lua/apply.lua` makes before anything else, in Rust: what a call is answered that expects
    /// the position `expected` and ends at `enriched`. `stored`: the text of the position, and its enriched offset.
    #[must_use]
    pub fn of(stored: Option<(&str, i64)>, expected: &str, enriched: i64) -> Self {
        match stored {
            None => Self::Wiped,
            Some((at, _)) if at == expected => Self::Applied,
            Some((_, reached)) if reached >= enriched => Self::Already,
            Some(_) => Self::Gap,
        }
    }
}

/// What a script answers.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// What it found.
    pub verdict: Verdict,
    /// The position stored now; `None` when there is none.
    pub applied: Option<Applied>,
    /// The watermark stored now, as a bucket number.
    pub watermark: i64,
    /// Commands on reader keys that the caller has to send; only in cluster mode.
    pub emitted: Vec<Vec<Value>>,
}

/// What a script answers, before its position is read: a partition that is being made has none that could be.
pub(crate) struct Said {
    /// What it found.
    pub(crate) verdict: Verdict,
    /// The text stored as the position now.
    pub(crate) stored: String,
    watermark: i64,
    /// As [`Answer::emitted`].
    pub(crate) emitted: Vec<Vec<Value>>,
}

fn bad(what: &str) -> ParsingError {
    ParsingError::from(format!("the script's answer has {what}"))
}

impl FromRedisValue for Said {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(mut parts) = value else {
            return Err(bad("another shape"));
        };
        if parts.len() < 4 {
            return Err(bad("too few parts"));
        }
        let emitted = parts.drain(4..).next();
        let verdict = match String::from_redis_value_ref(&parts[0])?.as_str() {
            "APPLIED" => Verdict::Applied,
            "ALREADY" => Verdict::Already,
            "GAP" => Verdict::Gap,
            "WIPED" => Verdict::Wiped,
            other => return Err(bad(&format!("an unknown verdict {other:?}"))),
        };
        Ok(Self {
            verdict,
            stored: String::from_redis_value_ref(&parts[1])?,
            watermark: i64::from_redis_value_ref(&parts[2])?,
            emitted: commands(emitted),
        })
    }
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let said = Said::from_redis_value(value)?;
        let applied = if said.verdict == Verdict::Wiped {
            None
        } else {
            Some(said.stored.parse().map_err(|what: String| bad(&what))?)
        };
        Ok(Self {
            verdict: said.verdict,
            applied,
            watermark: said.watermark,
            emitted: said.emitted,
        })
    }
}

fn commands(emitted: Option<Value>) -> Vec<Vec<Value>> {
    let Some(Value::Array(commands)) = emitted else {
        return Vec::new();
    };
    commands
        .into_iter()
        .filter_map(|command| {
            if let Value::Array(words) = command {
                Some(words)
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_configuration() {
        let mut config = Config::default();
        config.keys.content_users.enabled = false;
        config.keys.content_last.key = "it's \"{id}\"".into();
        let text = constants(&config);
        assert!(
            text.contains(
                "windows={{span=60,scores={'events','seconds','mean_percent','weighted'}}}"
            ),
            "{text}"
        );
        assert!(text.contains("users=false"), "{text}");
        assert!(
            text.contains(r"last={'it\039s\032\034','\034',3600}"),
            "{text}"
        );
        assert!(
            text.contains("recent={'recent_events:','',3600,100}"),
            "{text}"
        );
        assert!(
            text.contains(
                "signature='60=events,seconds,mean_percent,weighted;1000/500/3000/300/0'"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_answer_reads_its_verdict_and_position() {
        let value = |verdict: &str, at: &str| {
            Value::Array(vec![
                Value::BulkString(verdict.into()),
                Value::BulkString(at.into()),
                Value::Int(9),
                Value::Int(1),
            ])
        };
        let answer = Answer::from_redis_value(value("APPLIED", "live/0/3/41@57")).unwrap();
        assert_eq!((answer.verdict, answer.watermark), (Verdict::Applied, 9));
        assert_eq!(answer.applied.unwrap().enriched, 57);
        assert_eq!(
            Answer::from_redis_value(value("WIPED", ""))
                .unwrap()
                .applied,
            None
        );
        assert!(Answer::from_redis_value(value("MAYBE", "")).is_err());
    }
}
