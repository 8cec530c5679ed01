//! Servers, unique names, random events, and readers of what Redis holds.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use devstack::{Needs, Stack};
use engagement::event::{EnrichedEvent, Micros, Origin};
use engagement::testing::Sample;
use redis::aio::MultiplexedConnection;
use redis_aggregator::config::Config;
use redis_aggregator::msgpack::{Packed, unpack};
use redis_aggregator::sums::Sums;
use secrecy::SecretString;

use crate::model::Aggregates;

/// Nothing takes as long, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn stack() -> &'static Stack {
    devstack::shared_for_tests(Needs::none().kafka().redis())
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{name}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A configuration whose keys are its own.
pub(crate) fn config(name: &str, redis_url: &str) -> Config {
    let mut config = Config::default();
    config.redis.url = SecretString::from(redis_url);
    config.redis.prefix = format!("{name}:");
    config.input.enriched_topic = name.into();
    config.input.dead_letter_topic = format!("{name}.dlq");
    config.input.group_id = name.into();
    let own = |key: &mut String| *key = format!("{name}:{key}");
    own(&mut config.keys.content_last.key);
    own(&mut config.keys.content_count.key);
    own(&mut config.keys.content_stats.key);
    own(&mut config.keys.content_users.key);
    own(&mut config.keys.recent_events.key);
    own(&mut config.keys.minute_bucket.key);
    config
        .leaderboards
        .0
        .iter_mut()
        .for_each(|board| own(&mut board.key));
    config
}

pub(crate) async fn connect(url: &str) -> MultiplexedConnection {
    redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection_with_config(&unhurried())
        .await
        .unwrap()
}

/// The client by itself gives up after half a second, which is short for a busy machine.
pub(crate) fn unhurried() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

/// Waits for a condition; what was seen last is told when the deadline passes.
pub(crate) async fn eventually<F, Fut>(what: &str, mut seen: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    let began = Instant::now();
    let mut all_seen: Vec<String> = Vec::new();
    loop {
        match seen().await {
            Ok(()) => return,
            Err(now) => {
                if all_seen.last() != Some(&now) {
                    all_seen.push(now);
                }
                assert!(
                    began.elapsed() < PATIENCE,
                    "{what}: not within {PATIENCE:?}; seen: {:#?}",
                    &all_seen[all_seen.len().saturating_sub(5)..]
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Reproducible randomness.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A plausible log of one partition: inserts, updates, deletions, moves, odd times and durations.
pub(crate) fn random_log(
    seed: u64,
    partition: i32,
    count: usize,
    now: Micros,
) -> Vec<EnrichedEvent> {
    let mut random = Random(seed);
    let (mut log, mut living): (Vec<EnrichedEvent>, Vec<EnrichedEvent>) = (Vec::new(), Vec::new());
    while log.len() < count {
        let offset = i64::try_from(log.len()).unwrap();
        let event = if !living.is_empty() && random.one_in(5) {
            let index = usize::try_from(random.below(living.len() as u64)).unwrap();
            let before = living.swap_remove(index);
            match random.below(3) {
                0 => removal(&before, partition, offset, random.one_in(2)),
                _ => image(
                    &mut random,
                    &before.event_id,
                    partition,
                    offset,
                    now,
                    before.content_id.as_deref(),
                ),
            }
            .pipe(|sample| {
                if sample.deleted {
                    sample
                } else {
                    with_previous(sample, &before)
                }
            })
        } else {
            image(
                &mut random,
                &format!("{partition}-{offset}"),
                partition,
                offset,
                now,
                None,
            )
        };
        if !event.deleted {
            living.push(event.clone());
        }
        log.push(event);
    }
    log
}

trait Pipe: Sized {
    fn pipe<T>(self, then: impl FnOnce(Self) -> T) -> T {
        then(self)
    }
}
impl Pipe for EnrichedEvent {}

fn with_previous(after: EnrichedEvent, before: &EnrichedEvent) -> EnrichedEvent {
    let previous = Sample::new().replacing(before).build().previous;
    EnrichedEvent { previous, ..after }
}

fn removal(before: &EnrichedEvent, partition: i32, offset: i64, moved: bool) -> EnrichedEvent {
    let positioned = Sample::new().at_position(partition, offset).build();
    let mut gone = with_previous(before.clone(), before);
    gone.source = positioned.source;
    gone.source.committed_at = before.source.committed_at;
    gone.revision = positioned.revision;
    (gone.deleted, gone.moved) = (true, moved);
    gone
}

fn image(
    random: &mut Random,
    id: &str,
    partition: i32,
    offset: i64,
    now: Micros,
    content: Option<&str>,
) -> EnrichedEvent {
    let kind =
        ["play", "pause", "finish", "click", "share"][usize::try_from(random.below(5)).unwrap()];
    let number = random.below(9);
    let ago = match random.below(10) {
        0 => i64::try_from(random.below(1200)).unwrap(),
        1 => -i64::try_from(random.below(40)).unwrap(),
        _ => i64::try_from(random.below(620)).unwrap(),
    };
    let duration = match random.below(6) {
        0 => None,
        1 => Some(0),
        2 => Some(-5),
        _ => Some(i64::try_from(random.below(1_000_000)).unwrap()),
    };
    let mut sample = Sample::new()
        .event_id(id)
        .at_position(partition, offset)
        .event_type(kind)
        .duration_ms(duration);
    sample = match content {
        Some(content) => sample.content_id(content),
        None if random.one_in(15) => sample.no_content(),
        None => sample.content_id(format!("c{partition}-{number}")),
    };
    let mut event = sample.user_id(format!("u{}", random.below(20))).build();
    if let Some(content) = &event.content_id {
        let digit = i64::from(content.bytes().last().unwrap_or(b'0') - b'0');
        event.length_seconds = (digit > 0).then_some(digit * 100);
        event.content_title = Some(format!("Title of {content}"));
    }
    event.event_ts =
        Micros(now.0 - ago * 1_000_000 - i64::try_from(random.below(1_000_000)).unwrap());
    event.source.committed_at = Micros(now.0 - 1_000_000 + offset);
    event
}

/// Turns the records before `until` into those of a snapshot.
pub(crate) fn as_snapshot(log: &mut [EnrichedEvent], revision: u64) {
    for event in log {
        event.origin = Origin::Snapshot;
        event.source.snapshot = true;
        event.revision = revision;
    }
}

/// What Redis holds of these partitions.
pub(crate) async fn stored(
    config: &Config,
    connection: &mut MultiplexedConnection,
    partitions: &[i32],
) -> Aggregates {
    let mut all = Aggregates::default();
    for partition in partitions {
        let key = |rest: &str| format!("{}{{{partition}}}:{rest}", config.redis.prefix);
        all.totals.extend(sums_at(connection, &key("t")).await);
        let span = config.spans()[0].buckets;
        all.window
            .extend(sums_at(connection, &key(&format!("w:{span}"))).await);
        for score in &config.spans()[0].scores {
            let name = score.name();
            let ranked: Vec<(String, i64)> = query(
                connection,
                &[
                    "ZRANGE",
                    &key(&format!("w:{span}:{name}")),
                    "0",
                    "-1",
                    "WITHSCORES",
                ],
            )
            .await;
            all.boards.entry(name).or_default().extend(ranked);
        }
        let minutes: Vec<(String, i64)> =
            query(connection, &["ZRANGE", &key("ms"), "0", "-1", "WITHSCORES"]).await;
        for (name, minute) in minutes {
            let counts: Vec<(String, i64)> =
                query(connection, &["HGETALL", &key(&format!("m:{name}"))]).await;
            let reader: HashMap<String, i64> = query(
                connection,
                &[
                    "ZRANGE",
                    &config.keys.minute_bucket.of(&name),
                    "0",
                    "-1",
                    "WITHSCORES",
                ],
            )
            .await;
            let counts: BTreeMap<String, i64> = counts
                .into_iter()
                .filter(|(_, events)| *events > 0)
                .collect();
            for (id, events) in &counts {
                assert_eq!(reader.get(id), Some(events), "minute {name}, content {id}");
            }
            if !counts.is_empty() {
                all.minutes.entry(minute).or_default().extend(counts);
            }
        }
    }
    all.last = last_events(config, connection, &all.totals).await;
    all
}

/// Also checks that the reader keys of the totals agree with them.
async fn last_events(
    config: &Config,
    connection: &mut MultiplexedConnection,
    totals: &BTreeMap<String, Sums>,
) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    let pattern = config.keys.content_last.of("*");
    let keys: Vec<String> = query(connection, &["KEYS", &pattern]).await;
    for key in keys {
        let json: String = query(connection, &["GET", &key]).await;
        let event: serde_json::Value = serde_json::from_str(&json).unwrap();
        let id = event["event_id"]
            .as_str()
            .map_or_else(|| event["event_id"].to_string(), str::to_owned);
        last.insert(
            key.strip_prefix(&config.keys.content_last.of(""))
                .unwrap()
                .to_owned(),
            id,
        );
    }
    for (id, sums) in totals {
        let count: Option<i64> =
            query(connection, &["GET", &config.keys.content_count.of(id)]).await;
        assert_eq!(count, Some(sums.events.max(0)), "content:count of {id}");
        let stats: HashMap<String, String> =
            query(connection, &["HGETALL", &config.keys.content_stats.of(id)]).await;
        assert_eq!(
            stats["total_events"],
            sums.events.to_string(),
            "content_stats of {id}"
        );
        assert_eq!(
            stats["finish"],
            sums.finish.to_string(),
            "content_stats of {id}"
        );
    }
    last
}

async fn sums_at(connection: &mut MultiplexedConnection, key: &str) -> BTreeMap<String, Sums> {
    let raw: Vec<(String, Vec<u8>)> = query(connection, &["HGETALL", key]).await;
    let sums = raw.into_iter().map(|(id, packed)| {
        let values: Vec<i64> = unpack(&packed).unwrap().iter().map(Packed::int).collect();
        (id, Sums::from_array(values[..7].try_into().unwrap()))
    });
    sums.filter(|(_, sums)| !sums.is_zero()).collect()
}

pub(crate) async fn query<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command
        .query_async(connection)
        .await
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The watermark that Redis holds for a partition, as a bucket number.
pub(crate) async fn watermark(
    config: &Config,
    connection: &mut MultiplexedConnection,
    partition: i32,
) -> i64 {
    let key = format!("{}{{{partition}}}:pos", config.redis.prefix);
    query::<Option<i64>>(connection, &["HGET", &key, "hi"])
        .await
        .unwrap_or(0)
}

/// All partitions recomputed, each at its own stored watermark, and what is stored.
pub(crate) async fn compare(
    config: &Config,
    connection: &mut MultiplexedConnection,
    logs: &[Vec<EnrichedEvent>],
) -> Result<(), String> {
    let mut expected = Aggregates::default();
    let partitions: Vec<i32> = (0..).take(logs.len()).collect();
    for (partition, log) in std::iter::zip(&partitions, logs) {
        let at: Option<i64> = query(
            connection,
            &[
                "HGET",
                &format!("{}{{{partition}}}:pos", config.redis.prefix),
                "enriched",
            ],
        )
        .await;
        if at.unwrap_or(-1) + 1 < i64::try_from(log.len()).unwrap() {
            return Err(format!(
                "partition {partition} is applied up to {at:?} of {}",
                log.len()
            ));
        }
        let of =
            crate::model::recompute(config, log, watermark(config, connection, *partition).await);
        expected.totals.extend(of.totals);
        expected.window.extend(of.window);
        expected.last.extend(of.last);
        for (name, ranked) in of.boards {
            expected.boards.entry(name).or_default().extend(ranked);
        }
        for (minute, counts) in of.minutes {
            expected.minutes.entry(minute).or_default().extend(counts);
        }
    }
    let found = stored(config, connection, &partitions).await;
    if found == expected {
        Ok(())
    } else {
        Err(difference(&expected, &found))
    }
}

fn difference(expected: &Aggregates, found: &Aggregates) -> String {
    let parts = [
        (
            "totals",
            format!("{:#?}", expected.totals),
            format!("{:#?}", found.totals),
        ),
        (
            "window",
            format!("{:#?}", expected.window),
            format!("{:#?}", found.window),
        ),
        (
            "boards",
            format!("{:#?}", expected.boards),
            format!("{:#?}", found.boards),
        ),
        (
            "minutes",
            format!("{:#?}", expected.minutes),
            format!("{:#?}", found.minutes),
        ),
        (
            "last",
            format!("{:#?}", expected.last),
            format!("{:#?}", found.last),
        ),
    ];
    let differs = |(name, a, b): &(&str, String, String)| {
        let lines = std::iter::zip(a.lines(), b.lines())
            .filter(|(a, b)| a != b)
            .take(6);
        (a != b).then(|| format!("{name}: {:?}", lines.collect::<Vec<_>>()))
    };
    parts
        .iter()
        .filter_map(differs)
        .collect::<Vec<_>>()
        .join("\n")
}
