//! A running pipeline to inject faults into: private servers, replicas of every service, proxies between them.
//!
//! Invariant: `addresses` leads straight to the servers, for verification and for faults; the services know only the
//! proxies' addresses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use devstack::{Process, Stack};
use engagectl::pipeline::{Addresses, RECEIVER, Site, launch, prepare};

use crate::faults::points;
use crate::fleet::FleetOptions;
use crate::measures::Measures;
use crate::proxy::{Pair, Proxies};
use crate::{Fleet, wait};

const READY_WITHIN: Duration = Duration::from_secs(240);

/// What kind of arena.
#[derive(Clone, Debug)]
pub struct ArenaOptions {
    /// Configuration and logs of the services; it stays.
    pub dir: PathBuf,
    /// Where the services' binaries are.
    pub bin: PathBuf,
    /// The services that run.
    pub services: Vec<&'static str>,
    /// Replicas of each service.
    pub replicas: usize,
    /// So many of them keep their name in their group over a restart.
    pub stable_names: usize,
    /// Further environment of every service.
    pub env: Vec<(String, String)>,
    /// Services reach their servers without what faults of the network need in between.
    pub direct: bool,
    /// Kafka and Connect compile for a long run.
    pub full_compiler: bool,
    /// No fault freezes a process for longer.
    pub longest_freeze: Duration,
    /// When what is awaited counts as broken.
    pub patience: Patience,
}

/// When what is awaited counts as broken.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From a fault that a service must refuse to the words in its log, and back to readiness after the repair.
    pub refusal: Duration,
    /// From the last fault to readiness of every service.
    pub ready: Duration,
    /// From the end of the load until every sink holds everything.
    pub drain: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            refusal: Duration::from_secs(180),
            ready: Duration::from_secs(120),
            drain: Duration::from_secs(600),
        }
    }
}

/// The running pipeline. Ends with its owner, however that ends.
#[derive(Debug)]
pub struct Arena {
    /// The services.
    pub fleet: Fleet,
    /// What stands between services and servers.
    pub proxies: Proxies,
    /// Where the servers really listen.
    pub addresses: Addresses,
    /// Held until the services have ended.
    _receiver: Receiver,
    /// The servers. Last, so that it ends after everything that uses it.
    pub stack: Stack,
    /// Configuration and logs of the services.
    pub dir: PathBuf,
    /// No fault freezes a process for longer.
    pub longest_freeze: Duration,
    /// When what is awaited counts as broken.
    pub patience: Patience,
    /// What is measured while faults happen.
    pub measures: Arc<Measures>,
}

impl Arena {
    /// Starts everything and returns when every service is ready.
    ///
    /// # Errors
    /// The first part that does not start, with the end of its log.
    pub async fn start(options: ArenaOptions) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        check_binaries(&options)?;
        let (stack, addresses, proxies) = Box::pin(Proxies::start(options.full_compiler)).await?;
        let proxied = if options.direct {
            addresses.clone()
        } else {
            proxies.detour(&addresses)
        };
        let site = Site {
            dir: std::path::absolute(&options.dir)?,
            bin: std::path::absolute(&options.bin)?,
        };
        let prepared = Box::pin(prepare(&addresses, &site)).await;
        prepared.map_err(|failure| anyhow::anyhow!(failure.render("platform")))?;
        engagectl::pipeline::write_webhook_config(&proxied, &site)
            .map_err(|failure| anyhow::anyhow!(failure.render("webhook configuration")))?;
        let supervisor = stack.supervisor().clone();
        let receiver = Receiver(supervisor.spawn(&launch(RECEIVER, &addresses, &site))?);
        let mut first = points::first_starts();
        first.retain(|service, _| options.services.contains(service));
        let fleet = FleetOptions {
            addresses: proxied,
            site: site.clone(),
            supervisor,
            services: options.services,
            stable_names: options.stable_names,
            env: options.env,
        };
        let fleet = Fleet::start(fleet, &first)?;
        let arena = Self {
            fleet,
            proxies,
            addresses,
            _receiver: receiver,
            stack,
            dir: site.dir,
            longest_freeze: options.longest_freeze,
            patience: options.patience,
            measures: Arc::default(),
        };
        points::first_starts_done(&arena, &first).await?;
        arena.fleet.fill(options.replicas)?;
        arena.all_ready(READY_WITHIN).await?;
        Ok(arena)
    }

    /// Who talks to whom, of those that run.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        let runs = |pair: &Pair| {
            pair.client() == Pair::ConnectKafka.client() || self.fleet.runs(pair.client())
        };
        Pair::ALL.into_iter().filter(runs).collect()
    }

    /// Waits until every replica that shall run says that it is ready.
    ///
    /// # Errors
    /// Who is not, with the reason and the end of its log.
    pub async fn all_ready(&self, within: Duration) -> anyhow::Result<()> {
        for service in self.fleet.services() {
            self.fleet
                .wait_ready(service, within)
                .await
                .with_context(|| format!("{service} is not ready"))?;
        }
        Ok(())
    }

    /// Waits until `look` answers `Ok`; see [`wait::until`].
    ///
    /// # Errors
    /// What was last seen.
    pub async fn until<T, E, F>(
        &self,
        what: &str,
        within: Duration,
        look: impl FnMut() -> F,
    ) -> anyhow::Result<T>
    where
        E: std::fmt::Debug,
        F: Future<Output = Result<T, E>>,
    {
        wait::until(what, within, look).await
    }

    /// Stops the services in good order, then the servers.
    ///
    /// # Errors
    /// A service that cannot be ended.
    pub async fn shutdown(self) -> anyhow::Result<()> {
        let ended = self.fleet.end().await;
        self.stack.shutdown().await;
        ended
    }
}

/// The webhook receiver, which keeps what it got in a file.
#[derive(Debug)]
struct Receiver(Process);

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill9() {
            tracing::warn!(%error, "the receiver outlives its arena");
        }
    }
}

/// Built with the feature `faults`: only such a service refuses a point that does not exist.
fn check_binaries(options: &ArenaOptions) -> anyhow::Result<()> {
    for service in &options.services {
        let path = options.bin.join(service);
        let output = std::process::Command::new(&path)
            .env("ENGAGE_FAULTS", "no.such.point=kill")
            .arg("check")
            .output()
            .with_context(|| {
                format!(
                    "{} is not built; next: cargo build --workspace --bins --features faults",
                    path.display()
                )
            })?;
        anyhow::ensure!(
            output.status.code() == Some(64)
                && String::from_utf8_lossy(&output.stderr).contains("no.such.point"),
            "{} has no fault points; next: cargo build --workspace --bins --features faults",
            path.display()
        );
    }
    Ok(())
}
