//! The comparison of the script and its Rust twin, asked the same on a real server.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis_aggregator::batch::{Batch, Wanted};
use redis_aggregator::position::Applied;
use redis_aggregator::script::{Answer, Scripts, Verdict};

use crate::support::*;

const CASES: u64 = 600;

/// A position out of a few, so that equal ones, older ones and others with the same offset come up.
fn position(random: &mut Random) -> Applied {
    let (epoch, offset) = (random.below(2), random.below(6));
    let text = format!("live/{epoch}/0/{offset}@{}", random.below(6));
    text.parse().unwrap()
}

async fn store(connection: &mut MultiplexedConnection, key: &str, stored: Option<&Applied>) {
    let _: () = redis::cmd("DEL")
        .arg(key)
        .query_async(connection)
        .await
        .unwrap();
    let Some(at) = stored else { return };
    let mut hset = redis::cmd("HSET");
    hset.arg(key).arg("at").arg(at.to_string());
    hset.arg("enriched").arg(at.enriched).arg("hi").arg(7);
    hset.arg("seq").arg(0);
    let _: () = hset.query_async(connection).await.unwrap();
}

#[tokio::test]
async fn the_scripts_comparison_and_its_twin_in_rust_say_the_same() {
    let url = &stack().redis().url;
    let name = unique("verdict");
    let config = config(&name, url);
    let mut connection = connect(url).await;
    let (scripts, key) = (Scripts::new(&config), format!("{name}:{{0}}:pos"));
    let wanted = Wanted {
        bucket_us: config.window.bucket_us(),
        last: false,
        recent: 0,
        users: false,
        minutes: false,
    };
    let (mut random, mut seen) = (Random(11), HashMap::new());
    for case in 0..CASES {
        let stored = (random.below(8) > 0).then(|| position(&mut random));
        let expected = match (&stored, random.below(2)) {
            (Some(at), 0) => *at,
            _ => position(&mut random),
        };
        let target = position(&mut random);
        store(&mut connection, &key, stored.as_ref()).await;
        let mut call = scripts.apply.prepare_invoke();
        call.key(&key)
            .arg(expected.to_string())
            .arg(target.to_string());
        call.arg(target.enriched).arg(7).arg("empty").arg(0).arg(7);
        call.arg(Batch::new(wanted).encode());
        let answer: Answer = call.invoke_async(&mut connection).await.unwrap();
        let text = stored.as_ref().map(ToString::to_string);
        let at = text.as_deref().zip(stored.as_ref().map(|at| at.enriched));
        let twin = Verdict::of(at, &expected.to_string(), target.enriched);
        assert_eq!(
            answer.verdict, twin,
            "case {case}: {stored:?}, {expected} -> {target}"
        );
        let now = if twin == Verdict::Applied {
            Some(target)
        } else {
            stored
        };
        assert_eq!(
            answer.applied, now,
            "case {case}: {stored:?}, {expected} -> {target}"
        );
        *seen.entry(format!("{twin:?}")).or_insert(0) += 1;
    }
    let rare = seen.values().min().copied().unwrap_or(0);
    assert!(seen.len() == 4 && rare > 20, "{seen:?}");
}
