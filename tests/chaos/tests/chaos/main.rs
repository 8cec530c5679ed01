//! A short run with a fixed seed: every fault point in every service, then every class of fault.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::run::{RunOptions, run};
use chaos::{Patience, RunDir, faults};
use engagectl::pipeline::SERVICES;
use tokio_util::sync::CancellationToken;

const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_sink_equals_postgres_after_every_class_of_fault() {
    let seed = std::env::var("CHAOS_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let dir = RunDir::new(&format!("chaos-{seed}"));
    let options = RunOptions {
        seed,
        duration: Duration::ZERO,
        every: chaos::schedule::CLOSEST,
        classes: faults::all().collect(),
        point_rounds: 1,
        recovery_rounds: 1,
        outage: None,
        rate: 150.0,
        bursts: None,
        services: SERVICES.to_vec(),
        replicas: 2,
        full_compiler: false,
        longest_freeze: Duration::from_secs(10),
        patience: Patience::default(),
        broken: None,
        enough: CancellationToken::new(),
        dir: dir.path().to_owned(),
        bin: binaries(),
        again: format!("CHAOS_SEED={seed} cargo test -p chaos --test chaos"),
    };
    let outcome = Box::pin(run(&options)).await.unwrap();
    assert!(outcome.is_good(), "{outcome}");
    eprintln!("{outcome}");
}

/// The services' binaries lie one directory above this test's.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}
