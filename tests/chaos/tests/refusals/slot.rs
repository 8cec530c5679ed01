//! The replication slot disappears while rows are committed that nobody has captured.

use std::time::Duration;

use chaos::wait;
use devstack::{Needs, Stack};
use engagectl::pipeline::{Addresses, Site, prepare};
use platform::Schema;
use sqlx::{Connection as _, PgConnection};

const WITHIN: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_slot_is_named_by_check_and_capture_does_not_go_on_silently() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let starting = Stack::builder().needs(Needs::all()).private().start();
    let stack = Box::pin(starting).await.unwrap();
    let addresses = Addresses::private(&stack, Schema::Uuid);
    let site = Site {
        dir: stack.dir().join("services"),
        bin: "/".into(),
    };
    let prepared = Box::pin(prepare(&addresses, &site)).await;
    prepared.unwrap_or_else(|failure| panic!("{}", failure.render("platform")));
    let mut postgres = PgConnection::connect(&addresses.postgres_admin_url)
        .await
        .unwrap();
    let settings = addresses.platform_settings();
    for row in 1..=8 {
        insert(&mut postgres).await;
        captured(&stack, row).await;
        let plan = platform::plan(&settings).await.unwrap();
        assert!(
            plan.problems.is_empty(),
            "capture is well: {:?}",
            plan.problems
        );
    }

    stack.connect().kill9().await.unwrap();
    drop_slot(&mut postgres).await;
    insert(&mut postgres).await;
    stack.connect().start().await.unwrap();

    wait::until("the plan names the lost slot", WITHIN, || async {
        let plan = platform::plan(&settings).await;
        let plan = plan.map_err(|error| error.to_string())?;
        let named = plan.problems.iter().any(|problem| {
            problem.what.contains("slot engage_cdc") && problem.remedy.contains("engagectl verify")
        });
        match named {
            true => Ok(()),
            false => Err(format!(
                "{:?}, {} rows captured",
                plan.problems,
                count(&stack).await
            )),
        }
    })
    .await
    .unwrap();
    // A row committed now must not be captured as if nothing had been lost in between.
    insert(&mut postgres).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
    while tokio::time::Instant::now() < deadline {
        assert_eq!(count(&stack).await, 8, "capture went on after the loss");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn insert(postgres: &mut PgConnection) {
    sqlx::query("INSERT INTO engagement_events (event_type, duration_ms) VALUES ('play', 1)")
        .execute(postgres)
        .await
        .unwrap();
}

async fn drop_slot(postgres: &mut PgConnection) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let drop = sqlx::query("SELECT pg_drop_replication_slot('engage_cdc')");
        match drop.execute(&mut *postgres).await {
            Ok(_) => return,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn captured(stack: &Stack, rows: i64) {
    wait::until("rows in the change topic", WITHIN, || async {
        match count(stack).await {
            found if found == rows => Ok(()),
            found => Err(found),
        }
    })
    .await
    .unwrap();
}

/// Records of the change topic.
async fn count(stack: &Stack) -> i64 {
    let kafka = stack.kafka().bootstrap.clone();
    let asked = move || chaos::faults::kafka::end_of(&kafka, "cdc.public.engagement_events");
    tokio::task::spawn_blocking(asked).await.unwrap().unwrap()
}
