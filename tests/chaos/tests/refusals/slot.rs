//! The replication slot disappears while rows are committed that nobody has captured.

use std::time::Duration;

use chaos::wait;
use devstack::{Needs, Stack};
use engagectl::pipeline::{Addresses, Site, prepare};
use platform::Schema;
use sqlx::{Connection as _, PgConnection};

const WITHIN: Duration = Duration::from_secs(240);
/// Rows before the loss.
const CAPTURED: i64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_slot_is_named_by_check_and_capture_does_not_go_on_silently() {
    let world = World::start().await;
    for row in 1..=CAPTURED {
        world.a_row_is_captured_and_the_plan_is_well(row).await;
    }
    world
        .the_slot_is_dropped_and_a_row_is_committed_while_connect_is_down()
        .await;
    world.the_plan_names_the_lost_slot().await;
    world.nothing_more_is_captured().await;
}

/// Servers and a connector; no services.
struct World {
    stack: Stack,
    addresses: Addresses,
}

impl World {
    async fn start() -> Self {
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
        Self { stack, addresses }
    }

    async fn a_row_is_captured_and_the_plan_is_well(&self, row: i64) {
        insert(&mut self.postgres().await).await;
        captured(&self.stack, row).await;
        let plan = platform::plan(&self.addresses.platform_settings()).await;
        let problems = plan.unwrap().problems;
        assert!(problems.is_empty(), "capture is well: {problems:?}");
    }

    async fn the_slot_is_dropped_and_a_row_is_committed_while_connect_is_down(&self) {
        let mut postgres = self.postgres().await;
        self.stack.connect().kill9().await.unwrap();
        drop_slot(&mut postgres).await;
        insert(&mut postgres).await;
        self.stack.connect().start().await.unwrap();
    }

    async fn the_plan_names_the_lost_slot(&self) {
        let settings = self.addresses.platform_settings();
        wait::until("the plan names the lost slot", WITHIN, || async {
            let plan = platform::plan(&settings).await;
            let problems = plan.map_err(|error| error.to_string())?.problems;
            let named = problems.iter().any(|problem| {
                problem.what.contains("slot engage_cdc")
                    && problem.remedy.contains("engagectl verify")
            });
            if named {
                return Ok(());
            }
            let rows = count(&self.stack).await;
            Err(format!("{problems:?}, {rows} rows captured"))
        })
        .await
        .unwrap();
    }

    /// A row committed now must not be captured as if nothing had been lost in between.
    async fn nothing_more_is_captured(&self) {
        insert(&mut self.postgres().await).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
        while tokio::time::Instant::now() < deadline {
            let found = count(&self.stack).await;
            assert_eq!(found, CAPTURED, "capture went on after the loss");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn postgres(&self) -> PgConnection {
        let url = &self.addresses.postgres_admin_url;
        PgConnection::connect(url).await.unwrap()
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
