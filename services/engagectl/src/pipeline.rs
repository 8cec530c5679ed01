//! The services of the pipeline as processes beside a local stack of servers: for the demo, for `up`, for tests.
//!
//! Invariant: a service is started only after everything it needs was created, and `start` returns only when each
//! one says that it is ready.

mod addresses;
mod launch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::{Process, StackError, Supervisor};
use service::{Exit, Failure};
use tokio::time::Instant;

pub use addresses::{Addresses, TraceAddresses, free_port};
pub use launch::{launch, write_webhook_config};

/// The sinks, in the order in which they are shown.
pub const SINKS: [&str; 3] = ["clickhouse-sink", "redis-aggregator", "webhook-forwarder"];
/// Every service of the pipeline.
pub const SERVICES: [&str; 4] = [
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
];
/// The demo's webhook receiver, which runs beside them.
pub const RECEIVER: &str = "receiver";

const READY_WITHIN: Duration = Duration::from_secs(180);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The running services.
#[derive(Debug)]
pub struct Pipeline {
    addresses: Addresses,
    site: Site,
    supervisor: Supervisor,
    processes: BTreeMap<&'static str, Process>,
}

/// Where a pipeline lives on disk.
#[derive(Clone, Debug)]
pub struct Site {
    /// Configuration and logs.
    pub dir: PathBuf,
    /// The binaries of the services.
    pub bin: PathBuf,
}

impl Site {
    /// `dir`, with the binaries that lie beside the running program.
    ///
    /// # Errors
    /// Where the program cannot tell its own path.
    pub fn beside_this_program(dir: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::internal("cannot tell where this program lies").cause(e))?;
        let bin = program.parent().unwrap_or(Path::new("/")).to_owned();
        let dir = std::path::absolute(dir)
            .map_err(|e| Failure::usage(format!("{} is no path", dir.display())).cause(e))?;
        Ok(Self { dir, bin })
    }

    pub(crate) fn log(&self, service: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{service}.log"))
    }
}

impl Pipeline {
    /// Creates what is missing around the services (topics, connector, tables), starts what does not run, and waits
    /// until all are ready.
    ///
    /// # Errors
    /// What could not be created (69, 70, 78), or the service that is not ready in time, with the end of its log (69).
    pub async fn start(
        addresses: Addresses,
        site: Site,
        supervisor: Supervisor,
    ) -> Result<Self, Failure> {
        prepare(&addresses, &site).await?;
        let mut pipeline = Self {
            addresses,
            site,
            supervisor,
            processes: BTreeMap::new(),
        };
        for name in std::iter::once(RECEIVER).chain(SERVICES) {
            pipeline.start_service(name)?;
        }
        for name in SERVICES {
            pipeline.wait_ready(name).await?;
        }
        Ok(pipeline)
    }

    /// Where everything listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Starts a service that is not running; it may not be ready yet when this returns.
    ///
    /// # Errors
    /// Where its process cannot be started.
    pub fn start_service(&mut self, name: &'static str) -> Result<(), Failure> {
        if self
            .processes
            .get_mut(name)
            .is_some_and(|process| process.ended().is_none())
        {
            return Ok(());
        }
        if let Some(found) = self.supervisor.find(name) {
            self.processes.insert(name, found);
            return Ok(());
        }
        let launch = launch(name, &self.addresses, &self.site);
        let process = self
            .supervisor
            .spawn(&launch)
            .map_err(|e| Failure::unavailable(format!("{name} cannot be started")).cause(e))?;
        self.processes.insert(name, process);
        Ok(())
    }

    /// Starts again what has ended with the word that a new start is enough ([`Exit::TryAgain`]), as whatever runs it in production
    /// does, and answers what that was.
    ///
    /// # Errors
    /// Where a process cannot be started.
    pub fn start_again(&mut self) -> Result<Vec<&'static str>, Failure> {
        let mut started = Vec::new();
        for name in SERVICES {
            let ended = self.processes.get_mut(name).and_then(Process::exit_code);
            if ended == Some(i32::from(Exit::TryAgain.code())) {
                self.start_service(name)?;
                started.push(name);
            }
        }
        Ok(started)
    }

    /// `kill -9`. Blocks until the process is gone.
    ///
    /// # Errors
    /// Where not even that ends it.
    pub fn kill(&mut self, name: &str) -> Result<(), StackError> {
        self.processes.get_mut(name).map_or(Ok(()), Process::kill9)
    }

    /// SIGSTOP: its connections stay open, nothing answers.
    pub fn pause(&self, name: &str) {
        if let Some(process) = self.processes.get(name) {
            process.pause();
        }
    }

    /// SIGCONT.
    pub fn resume(&self, name: &str) {
        if let Some(process) = self.processes.get(name) {
            process.resume();
        }
    }

    /// SIGTERM, and SIGKILL after 20 s. Blocks until the process is gone.
    ///
    /// # Errors
    /// Where not even that ends it.
    pub fn terminate(&mut self, name: &str) -> Result<(), StackError> {
        self.processes
            .get_mut(name)
            .map_or(Ok(()), |process| process.stop(STOP_WITHIN))
    }

    /// Stops every service, sinks first, so that each still drains what it has begun.
    ///
    /// # Errors
    /// The first process that cannot be ended.
    pub fn stop(&mut self) -> Result<(), StackError> {
        for name in SINKS.iter().copied().chain(["enricher", RECEIVER]) {
            self.terminate(name)?;
        }
        Ok(())
    }

    /// Waits until a service answers `/readyz` with 200.
    ///
    /// # Errors
    /// Its last answer and the end of its log, at the deadline or once its process has ended (69).
    pub async fn wait_ready(&mut self, name: &'static str) -> Result<(), Failure> {
        let url = format!("http://{}/readyz", self.addresses.admin(name));
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()
            .expect("a plain HTTP client builds");
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = client.get(&url).send().await;
            if answer
                .as_ref()
                .is_ok_and(|response| response.status().is_success())
            {
                return Ok(());
            }
            let ended = self.processes.get_mut(name).and_then(Process::ended);
            if ended.is_some() || Instant::now() > deadline {
                let state = ended.unwrap_or_else(|| "it still runs".to_owned());
                return Err(self.not_ready(name, &state));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last lines of a service's log.
    #[must_use]
    pub fn log_tail(&self, name: &str, lines: usize) -> String {
        let text = std::fs::read(self.site.log(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn not_ready(&self, name: &str, state: &str) -> Failure {
        Failure::unavailable(format!("{name} is not ready ({state})"))
            .cause(self.log_tail(name, 15))
            .next(format!("less {}", self.site.log(name).display()))
    }
}

impl Drop for Pipeline {
    /// Services of an attached pipeline end with it; a dropped one has not stopped them in good order.
    fn drop(&mut self) {
        if self.supervisor.is_detached() {
            return;
        }
        for process in self
            .processes
            .values_mut()
            .filter(|process| process.is_owned())
        {
            if let Err(error) = process.kill9() {
                tracing::warn!(%error, "a service outlives its pipeline");
            }
        }
    }
}

/// Creates what is missing around the services: folders, the endpoint's file, topics, connector, tables.
///
/// # Errors
/// What could not be created (64, 69, 70, 78).
pub async fn prepare(addresses: &Addresses, site: &Site) -> Result<(), Failure> {
    for part in ["logs", "config"] {
        let dir = site.dir.join(part);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::usage(format!("cannot create {}", dir.display())).cause(e))?;
    }
    write_webhook_config(addresses, site)?;
    let settings = addresses.platform_settings();
    let plan = platform::plan(&settings)
        .await
        .map_err(crate::init::failure)?;
    if let Some(problem) = plan.problems.first() {
        return Err(Failure::repair(problem.what.clone()).remedy(problem.remedy.clone()));
    }
    plan.apply(
        &settings,
        |change| tracing::info!(component = %change.component, what = %change.what, "created"),
    )
    .await
    .map_err(crate::init::failure)
}
