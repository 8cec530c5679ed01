//! A new version of every service, one replica after the other: the new one first, then the old one goes.

use std::time::Duration;

use chaos::freshness::Watch;
use engagectl::pipeline::{SERVICES, SINKS};

use crate::world::World;

/// Rows a second; `ROLLING_RATE=1000` with optimised binaries.
const RATE: f64 = 200.0;
/// Before anything is measured: Kafka and Connect that have just started take a core to compile what they do.
const WARM: Duration = Duration::from_secs(40);
/// Beyond this an event is late.
const PROMISED: f64 = 5.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_of_every_service_loses_nothing_and_stays_fresh() {
    let rate = std::env::var("ROLLING_RATE").map_or(RATE, |rate| rate.parse().unwrap());
    let world = World::start("rolling", &SERVICES, 2, rate).await;
    tokio::time::sleep(WARM).await;
    let watch = Watch::begin(&world.arena).await;
    for service in SERVICES {
        for old in world.arena.fleet.replicas_of(service) {
            world.add(service).await;
            world.remove(old).await;
        }
    }
    let seen = watch.end().await.unwrap();
    for sink in SINKS {
        let fresh = &seen[sink];
        let (p50, p99) = (fresh.quantile(0.5), fresh.quantile(0.99));
        eprintln!(
            "{sink}: {} events, p50 {p50:?} s, p99 {p99:?} s",
            fresh.count()
        );
        assert!(p99.is_some_and(|p99| p99 <= PROMISED), "{sink}: {fresh:?}");
    }
    world.ends_equal().await;
}
