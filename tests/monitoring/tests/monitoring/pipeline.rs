//! The one pipeline, and how its services are asked.

use std::net::SocketAddr;
use std::time::Duration;

use devstack::{Launch, Process, program_beside_test};
use e2e::World;
use engagectl::pipeline::free_port;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Nothing here takes longer on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

static TURN: Mutex<()> = Mutex::const_new(());

/// The pipeline, for one test at a time.
pub(crate) async fn pipeline() -> (&'static World, MutexGuard<'static, ()>) {
    let turn = TURN.lock().await;
    (World::shared().await, turn)
}

/// Status and body of a page.
pub(crate) async fn page(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(3));
    let url = format!("http://{admin}{path}");
    let answer = client.build().unwrap().get(url).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}

/// Asks again and again; fails with what was seen last.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "not within {} s: {what}; last seen: {seen}",
                within.as_secs()
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A canary beside the pipeline; ends with this value.
pub(crate) struct Running {
    pub(crate) admin: SocketAddr,
    process: Process,
}

impl Running {
    pub(crate) fn canary(world: &World, within: &str) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let addresses = world.addresses();
        let log = world.stack().dir().join("services/logs/canary.log");
        let launch = Launch::new("canary", program_beside_test("engagectl"), log)
            .args([
                "canary",
                "--every",
                "500ms",
                "--within",
                within,
                "--receiver",
            ])
            .arg(format!("http://{}/", addresses.receiver))
            .env("ADMIN_ADDR", admin.to_string())
            .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
            .env("DATABASE_URL", &addresses.postgres_url)
            .env("REDIS_URL", &addresses.redis_url)
            .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
            .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
            .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
            .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database);
        let process = world.stack().supervisor().spawn(&launch).unwrap();
        Self { admin, process }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(10)).unwrap();
    }
}
