//! G6: while one thing stands still for two seconds and goes on, 99 of 100 events are in Redis less than five seconds after their
//! commit, by the metric that alerts are made of.

use std::time::Duration;

use e2e::World;
use engagectl::freshness::Freshness;
use engagectl::generator::{self, Mix, Options, Progress};
use tokio_util::sync::CancellationToken;

use crate::pipeline::{page, pipeline};

const SINK: &str = "redis-aggregator";
/// How long each fault lasts, and how long is measured from its beginning on: its events are through by then.
const FAULT: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(9);
const PROMISED: f64 = 5.0;

/// What stands still.
#[derive(Clone, Copy, Debug)]
enum Frozen {
    Redis,
    Kafka,
    Postgres,
    Connect,
    Service(&'static str),
}

const FAULTS: [Frozen; 6] = [
    Frozen::Redis,
    Frozen::Kafka,
    Frozen::Postgres,
    Frozen::Connect,
    Frozen::Service("enricher"),
    Frozen::Service(SINK),
];

impl Frozen {
    async fn for_a_while(self, world: &World) {
        let stack = world.stack();
        match self {
            Self::Redis => stack.redis().pause().unwrap(),
            Self::Kafka => stack.kafka().pause().unwrap(),
            Self::Postgres => stack.postgres().pause().unwrap(),
            Self::Connect => stack.connect().pause().unwrap(),
            Self::Service(name) => world.pause(name),
        }
        tokio::time::sleep(FAULT).await;
        match self {
            Self::Redis => stack.redis().resume().unwrap(),
            Self::Kafka => stack.kafka().resume().unwrap(),
            Self::Postgres => stack.postgres().resume().unwrap(),
            Self::Connect => stack.connect().resume().unwrap(),
            Self::Service(name) => world.resume(name),
        }
    }
}

async fn measured(world: &World) -> Freshness {
    let answer = page(world.addresses().admin(SINK), "/metrics").await;
    Freshness::parse(&answer.expect("the sink answers").1, SINK)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_in_redis_in_time_while_one_thing_stands_still_for_two_seconds() {
    let (world, _turn) = pipeline().await;
    let (stop, progress) = (CancellationToken::new(), Progress::default());
    let options = Options {
        rate: "100/s".parse().unwrap(),
        duration: None,
        mix: Mix::default(),
        contents: 50,
        ..Options::default()
    };
    let url = world.addresses().postgres_url.clone();
    let stream = tokio::spawn(generator::run(url, options, progress.clone(), stop.clone()));
    world.wait_for_rows(&progress, 300).await;
    for frozen in FAULTS {
        let before = measured(world).await;
        let over = tokio::time::Instant::now() + MEASURED;
        frozen.for_a_while(world).await;
        tokio::time::sleep_until(over).await;
        let freshness = measured(world).await.since(&before);
        assert!(
            freshness.count() > 200,
            "{frozen:?}: {} events",
            freshness.count()
        );
        let late = freshness.quantile(0.99).expect("there are events");
        assert!(late <= PROMISED, "{frozen:?}: p99 {late} s");
        eprintln!("{frozen:?}: p99 within {late} s");
    }
    stop.cancel();
    stream.await.unwrap().unwrap();
}
