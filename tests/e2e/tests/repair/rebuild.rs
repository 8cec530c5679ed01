//! Redis loses everything under load; the aggregator refuses; a rebuild that is killed half-way and run again makes it whole.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::program_beside_test;
use e2e::World;
use engagectl::generator::{Changes, Mix, Options, Progress};
use platform::Schema;
use redis::aio::MultiplexedConnection;
use tokio_util::sync::CancellationToken;

const PARTITIONS: usize = 16;

fn rebuild(world: &World) -> Command {
    let addresses = world.addresses();
    let mut command = Command::new(program_beside_test("engagectl"));
    command
        .stdin(Stdio::null())
        .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
        .env("REDIS_URL", &addresses.redis_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
        .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database)
        .args(["rebuild", "redis", "--execute"]);
    command
}

async fn redis(world: &World) -> MultiplexedConnection {
    let client = redis::Client::open(world.addresses().redis_url.as_str()).unwrap();
    let patient =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    let connected = client.get_multiplexed_async_connection_with_config(&patient);
    connected.await.unwrap()
}

/// Partitions that were begun, and those that are whole.
async fn made(redis: &mut MultiplexedConnection) -> (usize, usize) {
    let mut ask = redis::pipe();
    for partition in 0..PARTITIONS {
        ask.cmd("HGET")
            .arg(format!("eng:{{{partition}}}:pos"))
            .arg("at");
    }
    let places: Vec<Option<String>> = ask.query_async(redis).await.unwrap();
    let places: Vec<String> = places.into_iter().flatten().collect();
    let whole = places.iter().filter(|at| at.contains('@')).count();
    (places.len(), whole)
}

/// Runs it until a kill has left some partitions whole and others not.
async fn killed_half_way(world: &World, redis: &mut MultiplexedConnection) {
    for _ in 0..10 {
        let mut child = rebuild(world).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while made(redis).await.1 == 0 && child.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it makes nothing"
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, whole) = made(redis).await;
        if (1..PARTITIONS).contains(&whole) {
            return;
        }
        let _: () = redis::cmd("FLUSHALL").query_async(redis).await.unwrap();
    }
    panic!("no kill came half-way");
}

async fn generate(
    url: String,
    progress: Progress,
    stop: CancellationToken,
) -> Result<(), sqlx::Error> {
    let options = Options {
        rate: "150/s".parse().unwrap(),
        burst: 0,
        duration: None,
        seed: 31,
        mix: Mix::default(),
        changes: Changes {
            update_ratio: 0.05,
            ..Changes::default()
        },
        contents: 60,
        schema: Schema::Uuid,
        ..Options::default()
    };
    engagectl::generator::run(url, options, progress, stop).await
}

#[tokio::test]
async fn a_redis_emptied_under_load_is_refused_and_made_anew_by_a_rebuild_that_is_killed_half_way()
{
    let world = World::start(Schema::Uuid).await;
    let (stop, progress) = (CancellationToken::new(), Progress::default());
    let url = world.addresses().postgres_url.clone();
    let stream = tokio::spawn(generate(url, progress.clone(), stop.clone()));
    world.wait_for_rows(&progress, 1000).await;

    let mut redis = redis(&world).await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut redis)
        .await
        .unwrap();
    world
        .eventually("the aggregator refuses", || async {
            let said = world.service_logs();
            said.contains("engagectl rebuild redis --execute")
                .then_some(())
        })
        .await;
    world.terminate("redis-aggregator");

    killed_half_way(&world, &mut redis).await;
    let output = tokio::task::spawn_blocking({
        let mut command = rebuild(&world);
        move || command.output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("made, stays") && said.contains("made; start redis-aggregator"),
        "{said}"
    );
    assert_eq!(made(&mut redis).await, (PARTITIONS, PARTITIONS));

    world.wait_for_rows(&progress, 300).await;
    world.restart("redis-aggregator");
    world.wait_for_rows(&progress, 300).await;
    stop.cancel();
    stream.await.unwrap().unwrap();
    world
        .every_sink_equals_postgres(Duration::from_secs(300))
        .await;
}
