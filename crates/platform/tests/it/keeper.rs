//! A connector that Connect has given up, and one that must not be started again.

use std::time::{Duration, Instant};

use platform::{Keeper, Look, WalStatus};

use crate::capture::{Capture, PATIENCE};

/// Looks every 100 ms, as a service does every 2 s, until it finds what is wanted.
async fn until(keeper: &mut Keeper, wanted: impl Fn(&Look) -> bool) -> Look {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let look = keeper.look(Instant::now()).await.unwrap();
        if wanted(&look) {
            return look;
        }
        assert!(Instant::now() < deadline, "{look:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_was_given_up_is_started_again_unless_its_slot_is_lost() {
    let capture = Capture::start(1).await;
    let mut keeper = capture.keeper();
    let began = capture.delivered().await;
    // a snapshot is delivered before the slot is read
    let deadline = Instant::now() + PATIENCE;
    while !keeper.slot().await.unwrap().is_active {
        assert!(Instant::now() < deadline, "nobody reads the slot");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(keeper.is_running().await.unwrap());
    let slot = keeper.slot().await.unwrap();
    assert_eq!(slot.wal_status, WalStatus::Reserved);

    capture.fail().await;
    let look = until(&mut keeper, |look| matches!(look, Look::Restarted { .. })).await;
    assert!(
        matches!(&look, Look::Restarted { trouble } if trouble.contains("Exception")),
        "{look:?}"
    );
    until(&mut keeper, |look| *look == Look::Well).await;
    capture
        .sql("INSERT INTO engagement_events (event_type, event_ts) VALUES ('play', now())")
        .await;
    let deadline = Instant::now() + PATIENCE;
    while capture.delivered().await == began {
        assert!(Instant::now() < deadline, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    capture.fail().await;
    capture
        .sql("SELECT pg_drop_replication_slot('engage_cdc')")
        .await;
    assert!(!keeper.is_running().await.unwrap());
    assert_eq!(keeper.slot().await.unwrap().wal_status, WalStatus::Missing);
    let look = until(&mut keeper, |look| !matches!(look, Look::Waiting)).await;
    assert!(
        matches!(&look, Look::Lost { what, remedy } if what.contains("engage_cdc")
            && remedy.contains("engagectl backfill --start 20")),
        "{look:?}"
    );
    assert!(capture.status().await.contains("FAILED"));
    capture.stack.shutdown().await;
}
