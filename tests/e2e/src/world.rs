//! A running pipeline for tests: real servers in a private directory, every service a process of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devstack::{Needs, Shared, Stack, program_beside_test};
use engagectl::generator::Progress;
use engagectl::pipeline::{Addresses, Pipeline, SERVICES, Site};
use platform::Schema;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The content of the rows that exist before the connector does.
pub const CONTENT_BEFORE: &str = "be404e00-0000-4000-8000-000000000001";
/// How many rows of `engagement_events` exist before the connector does.
pub const ROWS_BEFORE: i64 = 25;

/// One pipeline. Ends with the test process, however that ends.
#[derive(Debug)]
pub struct World {
    addresses: Addresses,
    pipeline: Mutex<Pipeline>,
    stack: Stack,
}

impl World {
    /// The pipeline of the documented schema that most tests share.
    pub async fn shared() -> &'static Self {
        static SHARED: Shared<World> = Shared::new();
        SHARED.get(|| Self::start(Schema::Uuid)).await
    }

    /// A pipeline of one's own, ready for events.
    pub async fn start(schema: Schema) -> Self {
        Self::with(schema, Needs::all(), |_| ()).await
    }

    /// One with such servers and addresses.
    pub(crate) async fn with(
        schema: Schema,
        needs: Needs,
        adjust: impl FnOnce(&mut Addresses),
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stack = Stack::builder()
            .needs(needs)
            .private()
            .start()
            .await
            .unwrap();
        let mut addresses = Addresses::private(&stack, schema);
        adjust(&mut addresses);
        if schema == Schema::Uuid {
            rows_before(&addresses).await;
        }
        let site = Site {
            dir: stack.dir().join("services"),
            bin: binaries(),
        };
        let pipeline = Pipeline::start(addresses.clone(), site, stack.supervisor().clone()).await;
        let pipeline = pipeline.unwrap_or_else(|failure| panic!("{}", failure.render("pipeline")));
        Self {
            addresses,
            pipeline: Mutex::new(pipeline),
            stack,
        }
    }

    /// Where everything listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The servers, for faults.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// `kill -9` of a service.
    pub fn kill(&self, service: &str) {
        self.pipeline().kill(service).unwrap();
    }

    /// SIGTERM to a service, and its end.
    pub fn terminate(&self, service: &str) {
        self.pipeline().terminate(service).unwrap();
    }

    /// Starts a service again.
    pub fn restart(&self, service: &'static str) {
        self.pipeline().start_service(service).unwrap();
    }

    /// Starts again what has asked for it by its exit code: a client that found no way back to the broker, say. Nothing while another
    /// test starts or ends a service.
    pub fn start_again(&self) {
        if let Ok(mut pipeline) = self.pipeline.try_lock() {
            for service in pipeline.start_again().unwrap() {
                eprintln!("{service} is started again, as it asked for");
            }
        }
    }

    /// Freezes a service or the receiver (SIGSTOP): its connections stay open, nothing answers.
    pub fn pause(&self, service: &str) {
        self.pipeline().pause(service);
    }

    /// Undoes [`World::pause`].
    pub fn resume(&self, service: &str) {
        self.pipeline().resume(service);
    }

    /// Waits until the generator has written `count` rows more.
    pub async fn wait_for_rows(&self, progress: &Progress, count: u64) {
        let wanted = progress.inserted() + count;
        self.eventually("more generated rows", || async {
            (progress.inserted() >= wanted).then_some(())
        })
        .await;
    }

    /// Waits until no sink differs from Postgres; fails with the differences at the deadline.
    pub async fn every_sink_equals_postgres(&self, within: Duration) {
        let sources = verify::Sources::from(&self.addresses);
        let report = verify::settle(&sources, within).await.unwrap();
        assert_eq!(report.sinks.len(), verify::Sink::ALL.len(), "{report}");
        assert!(
            report.is_equal(),
            "after {} s: {report}\n{}",
            within.as_secs(),
            self.service_logs()
        );
    }

    /// The end of every service's log.
    #[must_use]
    pub fn service_logs(&self) -> String {
        let pipeline = self.pipeline();
        SERVICES
            .iter()
            .map(|name| format!("--- {name}\n{}\n", pipeline.log_tail(name, 12)))
            .collect()
    }

    fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tables and rows before anything captures them.
async fn rows_before(addresses: &Addresses) {
    let mut connection = PgConnection::connect(&addresses.postgres_url)
        .await
        .unwrap();
    let sql = format!(
        "{}; INSERT INTO content VALUES ('{CONTENT_BEFORE}', 'before', 'Before', 'video', 60, now()); \
         INSERT INTO engagement_events (content_id, event_type, duration_ms) \
         SELECT '{CONTENT_BEFORE}', 'play', n FROM generate_series(1, {ROWS_BEFORE}) n",
        Schema::Uuid.ddl()
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Where the services' binaries are, all of them built.
fn binaries() -> PathBuf {
    let programs = SERVICES.map(program_beside_test);
    let directory = programs[0].parent().map(Path::to_owned);
    directory.unwrap_or_default()
}
