//! A sink that is killed, stopped, frozen, or cut off from its store or its offsets.
//!
//! Invariant: after every disturbance the store holds each event once, without a person's help.

use crate::bench::Bench;
use crate::wait::eventually;

/// `kill -9` after an effect and before its commit: the next process neither repeats nor leaves out.
pub async fn a_crash_before_the_commit_repeats_nothing(mut bench: Bench) {
    let mut uncommitted = 0;
    let mut instance = bench.start();
    instance.is_ready().await;
    // commits follow about every second: on a busy machine a kill may come too late, and is tried again
    for round in 1..=30 {
        let held = bench.sink.holds().await.len();
        bench.write(20).await;
        bench.holds_some(held + 20).await;
        instance.kill();
        let committed = bench
            .log
            .committed(&bench.group(), &bench.log.enriched)
            .await;
        let committed: i64 = committed.iter().flatten().map(|at| at.offset).sum();
        let there = bench.sink.holds().await.len();
        uncommitted += usize::from(committed < i64::try_from(there).unwrap());
        instance = bench.start();
        bench.holds_all_once().await;
        if round >= 2 && uncommitted > 0 {
            break;
        }
    }
    assert!(
        uncommitted > 0,
        "no kill fell between an effect and its commit"
    );
    bench.is_committed().await;
    bench.holds_all_once().await;
}

/// While the store is away nothing is lost or given up, `/readyz` says so, and it heals by itself.
pub async fn an_outage_of_the_store_heals(mut bench: Bench) {
    bench.write(5).await;
    let instance = bench.start();
    bench.holds_all_once().await;
    instance.is_ready().await;
    bench.gate.shut();
    bench.write(30).await;
    instance.is_red(&[]).await;
    assert!(bench.log.dead_letters().await.is_empty());
    bench.gate.open();
    bench.holds_all_once().await;
    instance.is_ready().await;
    let failures = instance
        .metric("engage_sink_errors_total", &[bench.sink.service()])
        .await;
    assert!(
        failures.is_some_and(|failures| failures > 0.0),
        "{failures:?}"
    );
}

/// SIGTERM while a batch is under way: the process ends with 0, and the next one leaves nothing out.
pub async fn a_shutdown_in_the_middle_of_a_batch_loses_nothing(mut bench: Bench) {
    let mut instance = bench.start();
    instance.is_ready().await;
    for _ in 0..3 {
        let held = bench.sink.holds().await.len();
        bench.write(150).await;
        bench.holds_some(held + 1).await;
        instance.terminate().await;
        instance = bench.start();
    }
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
}

/// A process stands still with a write on its way, another takes over; the write arrives late, the process wakes up.
pub async fn a_zombies_late_write_changes_nothing(mut bench: Bench) {
    bench.write(5).await;
    let zombie = bench.start();
    bench.holds_all_once().await;
    bench.gate.hold();
    bench.write(10).await;
    eventually("a write is on its way", async || {
        let waiting = bench.gate.waiting();
        (waiting > 0).then_some(()).ok_or_else(|| zombie.tail())
    })
    .await;
    zombie.freeze();
    bench.gate.hold_only_the_old();
    let _successor = bench.start();
    bench.holds_all_once().await;
    bench.gate.open();
    zombie.thaw();
    bench.write(10).await;
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
}

/// The process stands still right before its write, another takes over; the write is sent when nobody waits for it.
pub async fn a_standstill_right_before_the_write_changes_nothing(mut bench: Bench) {
    bench.write(5).await;
    let fault = format!("{}=stop", bench.sink.write_point());
    let zombie = bench.start_with(|launch| launch.env("ENGAGE_FAULTS", fault));
    eventually("it stands still before its first write", async || {
        let (log, answer) = (zombie.tail(), zombie.page("/readyz").await);
        if answer.is_none() && log.contains("fault point") {
            return Ok(());
        }
        Err(format!(
            "it runs; fault points need: cargo build --workspace --bins --features faults\n{log}"
        ))
    })
    .await;
    let _successor = bench.start();
    bench.holds_all_once().await;
    zombie.thaw();
    bench.write(10).await;
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
}

/// The group's offsets are gone: the sink finds its place by itself, and repeats nothing that the store would show twice.
pub async fn lost_group_offsets_change_nothing(mut bench: Bench) {
    bench.write(10).await;
    let mut instance = bench.start();
    bench.holds_all_once().await;
    bench.is_committed().await;
    instance.terminate().await;
    bench.log.delete_group(&bench.group()).await;
    bench.write(10).await;
    let _instance = bench.start();
    bench.holds_all_once().await;
    bench.is_committed().await;
    bench.holds_all_once().await;
}
