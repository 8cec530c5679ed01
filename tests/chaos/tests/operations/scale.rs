//! One replica of each sink, then four, then two, under load and with a backlog in front of a slow receiver.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chaos::faults::process::has_effect;
use chaos::faults::progress;
use chaos::wait;
use engagectl::pipeline::{SERVICES, SINKS};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::world::{WITHIN, World};

/// Rows a second.
const RATE: f64 = 100.0;
/// Each answer of the receiver takes so long, so that a forwarder delivers as many as it may have under way, and no more.
const SLOW: Duration = Duration::from_millis(100);
/// More than all stages deliver.
const BACKLOG: u32 = 40_000;
/// What a sink other than the forwarder may be behind, in records: some seconds of the load.
const BEHIND: i64 = 2_000;
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// Records a second that each sink has done.
type Rates = BTreeMap<&'static str, f64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sinks_follow_their_replicas_and_lose_nothing() {
    let world = World::start("scale", &SERVICES, 1, RATE).await;
    receiver_takes(&world, SLOW).await;
    backlog(&world).await;
    let mut stages = Vec::new();
    for replicas in [1, 4, 2] {
        scale_to(&world, replicas).await;
        let rates = rates(&world).await;
        eprintln!("{replicas} replicas: {rates:.0?} records/s");
        stages.push(rates["webhook-forwarder"]);
    }
    let [one, four, two] = stages[..] else {
        panic!("three stages")
    };
    assert!(four > 2.5 * one, "{one} -> {four}");
    assert!(two > 1.4 * one && two < 0.75 * four, "{one}, {four}, {two}");
    receiver_takes(&world, Duration::ZERO).await;
    world.ends_equal().await;
}

/// So many of each sink, each of which makes events visible.
async fn scale_to(world: &World, replicas: usize) {
    for sink in SINKS {
        let mut ids = world.arena.fleet.replicas_of(sink);
        while ids.len() > replicas {
            world.remove(ids.remove(0)).await;
        }
        while ids.len() < replicas {
            ids.push(world.add(sink).await);
        }
    }
    for id in SINKS
        .iter()
        .flat_map(|sink| world.arena.fleet.replicas_of(sink))
    {
        let what = format!("{id} has its share");
        let works = wait::until(&what, WITHIN, || async {
            has_effect(&world.arena, id)
                .await
                .then_some(())
                .ok_or("none")
        });
        works.await.unwrap();
    }
}

/// Over some seconds. The sinks with fast servers keep up with the load meanwhile.
async fn rates(world: &World) -> Rates {
    let began = Instant::now();
    let before = all_progress(world).await;
    tokio::time::sleep(MEASURED_FOR).await;
    let after = all_progress(world).await;
    let seconds = began.elapsed().as_secs_f64();
    let mut rates = Rates::new();
    for sink in SINKS {
        let (done, end) = after[sink];
        let records = u32::try_from(done - before[sink].0).unwrap();
        rates.insert(sink, f64::from(records) / seconds);
        let slow = sink == "webhook-forwarder";
        assert_eq!(end - done > BEHIND, slow, "{sink}: {done} of {end}");
    }
    rates
}

async fn all_progress(world: &World) -> BTreeMap<&'static str, (i64, i64)> {
    let mut all = BTreeMap::new();
    for sink in SINKS {
        all.insert(sink, progress(&world.arena, sink).await.unwrap());
    }
    all
}

/// Waits until the sinks with fast servers have done it.
async fn backlog(world: &World) {
    let url = &world.arena.addresses.postgres_url;
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = format!(
        "INSERT INTO engagement_events (content_id, event_type, duration_ms) \
         SELECT c.id, 'play', n FROM generate_series(1, {BACKLOG}) n \
         JOIN (SELECT id, row_number() OVER () - 1 AS i FROM content LIMIT 100) c ON c.i = n % 100"
    );
    let inserted = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection);
    inserted.await.unwrap();
    for sink in ["clickhouse-sink", "redis-aggregator"] {
        wait::until(&format!("{sink} has done the backlog"), WITHIN, || async {
            match progress(&world.arena, sink).await {
                Ok((done, end)) if end >= i64::from(BACKLOG) && end - done < BEHIND => Ok(()),
                seen => Err(seen.map_err(|error| format!("{error:#}"))),
            }
        })
        .await
        .unwrap();
    }
}

async fn receiver_takes(world: &World, delay: Duration) {
    let url = format!("http://{}/faults", world.arena.addresses.receiver);
    let faults = serde_json::json!({"slow_ms": delay.as_millis()});
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.put(url).json(&faults).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
