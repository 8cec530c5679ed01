//! A long transaction is delivered after shorter ones that began later: its rows stand before their ends in the log.

use std::time::{Duration, Instant};

use platform::Look;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::capture::{Capture, PATIENCE};
use crate::moved::{Changes, ENOUGH, TOO_SMALL, limit_records_to};

const FIRST: &str = "INSERT INTO engagement_events (id, event_type) VALUES (10, 'play')";
const MEANWHILE: &str = "INSERT INTO engagement_events (id, event_type) VALUES (11, 'play')";
/// About 640 kB.
const LARGE: &str = "INSERT INTO engagement_events (id, event_type, raw_payload)
    SELECT 12, 'play', jsonb_build_object('x', string_agg(md5(i::text), '')) FROM generate_series(1, 20000) i";
/// Whether the slot has been confirmed beyond the first row.
const CONFIRMED: &str = "SELECT confirmed_flush_lsn > $1::pg_lsn FROM pg_replication_slots";

async fn confirmed_beyond(connection: &mut PgConnection, lsn: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let confirmed = sqlx::query_scalar(CONFIRMED).bind(lsn);
        if confirmed.fetch_one(&mut *connection).await.unwrap() {
            return;
        }
        assert!(Instant::now() < deadline, "the slot is not confirmed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_fails_within_a_long_transaction_is_started_again() {
    let capture = Capture::start(1).await;
    let mut changes = Changes::of(&capture);
    let url = &capture.stack.postgres().admin_url;
    let mut other = PgConnection::connect(url).await.unwrap();
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut long = connection.begin().await.unwrap();
    long.execute(FIRST).await.unwrap();
    let row: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
        .fetch_one(&mut *long)
        .await
        .unwrap();
    other.execute(MEANWHILE).await.unwrap();
    changes.await_change("c 11 none");
    confirmed_beyond(&mut other, &row).await;

    limit_records_to(&capture, TOO_SMALL).await;
    long.execute(LARGE).await.unwrap();
    long.commit().await.unwrap();
    changes.await_change("c 10 none");
    let (mut keeper, deadline) = (capture.keeper(), Instant::now() + PATIENCE);
    let look = loop {
        match keeper.look(Instant::now()).await.unwrap() {
            Look::Well => assert!(Instant::now() < deadline, "{}", capture.status().await),
            look => break look,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(matches!(look, Look::Restarted { .. }), "{look:?}");
    limit_records_to(&capture, ENOUGH).await;
    while keeper.look(Instant::now()).await.unwrap() != Look::Well {
        assert!(Instant::now() < deadline, "{}", capture.status().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    changes.await_change("c 12 none");
    // a consumer whose broker is gone may wait for it for ever
    drop(changes);
    capture.stack.shutdown().await;
}
