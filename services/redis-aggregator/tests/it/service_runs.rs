//! The whole service: records in Kafka, aggregates in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engagement::event::{EnrichedEvent, Micros};
use engagement::testing::Sample;

use crate::support::*;
use crate::support_kafka::*;

fn now() -> Micros {
    Micros(service::clock::now())
}

fn log_of(partition: i32, count: usize, seed: u64) -> Vec<EnrichedEvent> {
    random_log(seed, partition, count, now())
}

async fn ready_made(name: &str, partitions: i32) -> redis_aggregator::config::Config {
    with_topics(
        config(&unique(name), &stack().redis().url),
        &stack().kafka().bootstrap,
        partitions,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_and_restarts_in_the_middle_of_a_stream_change_nothing() {
    let config = ready_made("crash", 2).await;
    let logs = Arc::new(vec![log_of(0, 1500, 1), log_of(1, 1500, 2)]);
    let parts: Vec<Vec<EnrichedEvent>> = (0..5)
        .map(|n| {
            logs.iter()
                .flat_map(|log| log[n * 300..(n + 1) * 300].to_vec())
                .collect()
        })
        .collect();
    for (round, part) in parts.iter().enumerate() {
        let running = Running::start(&config);
        produce(&config, part).await;
        let mut connection = connect(&stack().redis().url).await;
        let key = format!("{}{{0}}:pos", config.redis.prefix);
        let passed = i64::try_from(round * 300).unwrap();
        eventually("some of this part is applied", || {
            let (mut connection, key) = (connection.clone(), key.clone());
            async move {
                let at: Option<i64> = query(&mut connection, &["HGET", &key, "enriched"]).await;
                if at.is_some_and(|at| at >= passed) {
                    Ok(())
                } else {
                    Err(format!("{at:?}"))
                }
            }
        })
        .await;
        let _: String = query(&mut connection, &["PING"]).await;
        if round % 2 == 0 {
            running.crash().await;
        } else {
            running.stop().await;
        }
    }
    let running = Running::start(&config);
    settled(&config, &stack().redis().url, logs).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_of_the_same_partition_count_once() {
    let config = ready_made("zombie", 1).await;
    let mut other = config.clone();
    other.input.group_id = format!("{}-zombie", config.input.group_id);
    let logs = Arc::new(vec![log_of(0, 2000, 3)]);
    let (one, two) = (Running::start(&config), Running::start(&other));
    for part in logs[0].chunks(100) {
        produce(&config, part).await;
    }
    settled(&config, &stack().redis().url, logs).await;
    one.stop().await;
    two.crash().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_group_and_repeated_records_change_nothing() {
    let config = ready_made("rewound", 1).await;
    let logs = Arc::new(vec![log_of(0, 600, 4)]);
    let running = Running::start(&config);
    produce(&config, &logs[0][..400]).await;
    // a zombie of the enricher appends a run again
    produce(&config, &logs[0][350..400]).await;
    produce(&config, &logs[0][400..]).await;
    settled(&config, &stack().redis().url, Arc::clone(&logs)).await;
    running.stop().await;
    commit_offset(&config, 0, 0).await;
    let running = Running::start(&config);
    let more = Arc::new(vec![{
        let mut log = logs[0].clone();
        log.push(
            Sample::new()
                .event_id("new")
                .content_id("c0-1")
                .at_position(0, 600)
                .happened(now()),
        );
        log
    }]);
    produce(&config, &more[0][600..]).await;
    // what is compared is read key by key: not while the last record is being applied
    let connection = connect(&stack().redis().url).await;
    eventually("the last record is applied", || {
        let mut connection = connection.clone();
        let key = format!("{}{{0}}:pos", config.redis.prefix);
        async move {
            let at: Option<i64> = query(&mut connection, &["HGET", &key, "enriched"]).await;
            if at == Some(650) {
                Ok(())
            } else {
                Err(format!("{at:?}"))
            }
        }
    })
    .await;
    settled(&config, &stack().redis().url, more).await;
    running.stop().await;
}

trait Happened {
    fn happened(self, at: Micros) -> EnrichedEvent;
}

impl Happened for Sample {
    fn happened(self, at: Micros) -> EnrichedEvent {
        let mut event = self.build();
        (event.event_ts, event.source.committed_at) = (at, at);
        event
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leaderboard_empties_and_a_busy_one_shows_what_happened() {
    let mut config = config(&unique("idle"), &stack().redis().url);
    config.window.bucket = Duration::from_millis(500);
    let window = Duration::from_secs(5);
    config
        .leaderboards
        .0
        .iter_mut()
        .for_each(|board| board.window = window);
    let config = with_topics(config, &stack().kafka().bootstrap, 2).await;
    let running = Running::start(&config);
    running.is_ready().await;
    let event = |content: &str, partition, offset| {
        Sample::new()
            .content_id(content)
            .at_position(partition, offset)
            .duration_ms(7_000)
            .length_seconds(300)
            .happened(now())
    };
    let connection = connect(&stack().redis().url).await;
    let board = |index: usize| {
        let (mut connection, key) = (connection.clone(), config.leaderboards.0[index].key.clone());
        async move {
            query::<Vec<(String, f64)>>(
                &mut connection,
                &["ZREVRANGE", &key, "0", "-1", "WITHSCORES"],
            )
            .await
        }
    };
    let described = "podcast:Rust in Production";
    let expected = [
        vec![("b".to_owned(), 2.0), ("a".to_owned(), 1.0)],
        vec![("b".to_owned(), 14.0), ("a".to_owned(), 7.0)],
        vec![
            (format!("b:{described}"), 2.33),
            (format!("a:{described}"), 2.33),
        ],
        vec![("b".to_owned(), 2.046_667), ("a".to_owned(), 1.023_333)],
    ];
    let (begun, mut written, mut next) = (Instant::now(), None::<Instant>, 0);
    let mut shown = [false; 4];
    while shown.contains(&false) {
        // where the machine was too busy to look while the window was open, the same happens once more
        if written.is_none_or(|at| at.elapsed() > 2 * window) {
            written = Some(Instant::now());
            let (first, second) = (event("b", 1, 2 * next), event("b", 1, 2 * next + 1));
            produce(&config, &[event("a", 0, next), first, second]).await;
            next += 1;
        }
        for (index, ranked) in expected.iter().enumerate() {
            shown[index] |= board(index).await == *ranked;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "leaderboards that showed both contents: {shown:?}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    for index in 0..4 {
        eventually("the idle leaderboard is empty", || async {
            let found = board(index).await;
            if found.is_empty() {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_counts_once_and_one_taken_again_replaces_it() {
    let config = ready_made("snapshot", 1).await;
    let mut log = log_of(0, 400, 5);
    for event in &mut log[..300] {
        (event.previous, event.deleted, event.moved) = (None, false, false);
    }
    // interrupted after 100 rows, taken again with all rows, then the stream, then somebody's second snapshot
    as_snapshot(&mut log[..100], 1_000);
    as_snapshot(&mut log[100..300], 2_000);
    as_snapshot(&mut log[390..], 9_000);
    let logs = Arc::new(vec![log]);
    let running = Running::start(&config);
    produce(&config, &logs[0][..200]).await;
    settled(
        &config,
        &stack().redis().url,
        Arc::new(vec![logs[0][..200].to_vec()]),
    )
    .await;
    produce(&config, &logs[0][200..]).await;
    settled(&config, &stack().redis().url, logs).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_is_dead_lettered_and_the_chain_goes_on() {
    let config = ready_made("poison", 1).await;
    let running = Running::start(&config);
    let event = |offset| {
        Sample::new()
            .event_id(offset)
            .content_id("p")
            .at_position(0, offset)
            .happened(now())
    };
    let mut absurd = event(5);
    absurd.duration_ms = Some(i64::MAX);
    produce(&config, &[event(0), event(1)]).await;
    produce_raw(
        &config,
        &[Raw {
            partition: 0,
            payload: b"\xff not an event",
            source: Some("live/0/0/2".into()),
        }],
    )
    .await;
    produce(&config, &[event(3)]).await;
    produce_raw(
        &config,
        &[Raw {
            partition: 0,
            payload: b"no header either",
            source: None,
        }],
    )
    .await;
    produce(&config, &[absurd, event(6)]).await;
    let letters = dead_letters(&config, 3).await;
    let kinds: Vec<&str> = letters.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, ["malformed", "malformed", "duration"]);
    assert_eq!(&letters[0].0[..], b"\xff not an event");
    let connection = connect(&stack().redis().url).await;
    eventually("the four good events are counted", || {
        let (mut connection, key) = (connection.clone(), config.keys.content_count.of("p"));
        async move {
            let count: Option<i64> = query(&mut connection, &["GET", &key]).await;
            if count == Some(4) {
                Ok(())
            } else {
                Err(format!("{count:?}"))
            }
        }
    })
    .await;
    running.stop().await;
    let running = Running::start(&config);
    produce(&config, &[event(7)]).await;
    eventually("it goes on after a restart", || {
        let (mut connection, key) = (connection.clone(), config.keys.content_count.of("p"));
        async move {
            let count: Option<i64> = query(&mut connection, &["GET", &key]).await;
            if count == Some(5) {
                Ok(())
            } else {
                Err(format!("{count:?}"))
            }
        }
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rubbish_stops_the_partition() {
    let mut config = config(&unique("flood"), &stack().redis().url);
    config.dead_letters.window = std::num::NonZeroUsize::new(10).unwrap();
    let config = with_topics(config, &stack().kafka().bootstrap, 1).await;
    let rubbish: Vec<Raw<'_>> = (0..40)
        .map(|_| Raw {
            partition: 0,
            payload: b"\xff",
            source: None,
        })
        .collect();
    produce_raw(&config, &rubbish).await;
    let failure = Running::start(&config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    assert!(
        failure.what().contains("were rejected"),
        "{}",
        failure.what()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_chain_stops_and_names_both_sides() {
    let config = ready_made("hole", 1).await;
    let event = |offset| Sample::new().at_position(0, offset).happened(now());
    produce(&config, &[event(0), event(1), event(4)]).await;
    let failure = Running::start(&config).failure().await;
    assert_eq!(failure.exit().code(), 78);
    for word in ["live/0/0/4", "live/0/0/1", "engagectl"] {
        assert!(failure.what().contains(word), "{}", failure.what());
    }
}

/// An event of a content of its own at a position.
fn at(partition: i32, offset: i64, content: &str) -> EnrichedEvent {
    let mut event = Sample::new()
        .at_position(partition, offset)
        .event_id(offset)
        .content_id(content)
        .event_ts(now())
        .build();
    event.source.committed_at = now();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn leaderboards_are_published_although_the_lane_of_partition_0_is_stopped() {
    let config = ready_made("board", 2).await;
    let torn = at(0, 5, "beyond-the-hole");
    produce(&config, &[at(0, 0, "early"), torn, at(1, 0, "other")]).await;
    let running = Running::start(&config);
    running
        .says(&["records are missing", "engagectl lineage show"])
        .await;
    produce(&config, &[at(1, 1, "late")]).await;
    let connection = connect(&stack().redis().url).await;
    for board in config.published() {
        eventually(
            &format!("{} shows the other lane's content", board.key),
            || {
                let (mut connection, key) = (connection.clone(), board.key.clone());
                async move {
                    let members: Vec<String> =
                        query(&mut connection, &["ZRANGE", &key, "0", "-1"]).await;
                    if members.iter().any(|member| member.contains("late")) {
                        Ok(())
                    } else {
                        Err(format!("{members:?}"))
                    }
                }
            },
        )
        .await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_before_a_log_without_its_beginning_is_refused_unless_that_is_wanted() {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let mut config = ready_made("partial", 1).await;
    let all: Vec<_> = (0..4).map(|offset| at(0, offset, "some")).collect();
    produce(&config, &all[..3]).await;
    let admin: AdminClient<DefaultClientContext> =
        client(&config.kafka.bootstrap_servers).create().unwrap();
    let mut expired = rdkafka::TopicPartitionList::new();
    let end = rdkafka::Offset::End;
    expired
        .add_partition_offset(&config.input.enriched_topic, 0, end)
        .unwrap();
    admin
        .delete_records(&expired, &AdminOptions::new())
        .await
        .unwrap();
    produce(&config, &all[3..]).await;

    let failure = Running::start(&config).failure().await;
    let text = failure.render("redis-aggregator");
    assert_eq!(failure.exit().code(), 78, "{text}");
    assert!(
        text.contains("totals would lack") && text.contains("set input.partial_totals = true"),
        "{text}"
    );

    config.input.partial_totals = true;
    let running = Running::start(&config);
    let connection = connect(&stack().redis().url).await;
    eventually("what is left is counted", || {
        let (mut connection, key) = (connection.clone(), config.keys.content_count.of("some"));
        async move {
            let count: Option<i64> = query(&mut connection, &["GET", &key]).await;
            if count == Some(1) {
                Ok(())
            } else {
                Err(format!("{count:?}"))
            }
        }
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_begins_late_is_on_the_boards_at_once_although_others_never_pause() {
    const PARTITIONS: i32 = 12;
    let config = ready_made("late-board", PARTITIONS).await;
    produce(&config, &[at(0, 0, "first")]).await;
    let running = Running::start(&config);
    let board = config.published().next().unwrap().key.clone();
    let url = &stack().redis().url;
    let shows = async |content: &str| {
        let (connection, asked) = (connect(url).await, Instant::now());
        eventually(&format!("the board shows {content}"), || {
            let (mut connection, key) = (connection.clone(), board.clone());
            let content = content.to_owned();
            async move {
                let all: Vec<String> = query(&mut connection, &["ZRANGE", &key, "0", "-1"]).await;
                let found = all.iter().any(|member| member.contains(&content));
                if found {
                    Ok(())
                } else {
                    Err(format!("{all:?}"))
                }
            }
        })
        .await;
        asked.elapsed()
    };
    shows("first").await;
    let (busy_config, stop) = (config.clone(), tokio_util::sync::CancellationToken::new());
    let stopping = stop.clone();
    let busy = tokio::spawn(async move {
        for offset in 1.. {
            if stopping.is_cancelled() {
                return;
            }
            produce(&busy_config, &[at(0, offset, "first")]).await;
        }
    });
    // Everything is written again every five seconds anyway: sooner is what is asked for, and twice in a row, because
    // after such a moment the next one is five seconds away. A busy machine has as many tries as there are partitions.
    let (mut soon, mut took) = (0, Vec::new());
    for partition in 1..PARTITIONS {
        let content = format!("late-{partition}-");
        produce(&config, &[at(partition, 0, &content)]).await;
        took.push(shows(&content).await);
        soon = match took.last() {
            Some(took) if *took < Duration::from_secs(3) => soon + 1,
            _ => 0,
        };
        if soon == 2 {
            break;
        }
    }
    assert_eq!(soon, 2, "shown after {took:?}");
    stop.cancel();
    busy.await.unwrap();
    running.stop().await;
}
