//! The replicas of every service, supervised: one that ends is started again at once.
//!
//! Invariant: a replica's log, admin address and instance name stay the same over all its starts; an exit 78 (a human
//! must repair) is an error of the run unless a fault has announced it.

mod act;
mod expected;
mod launch;
mod look;
mod replica;
mod supervise;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devstack::Supervisor;
use engagectl::pipeline::{Addresses, Site};
use tokio_util::sync::CancellationToken;

pub use expected::ExpectedStop;
use replica::Replica;
pub use replica::{Ended, Wanted};

/// One replica of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The service, one of [`engagectl::pipeline::SERVICES`].
    pub service: &'static str,
    /// From 1.
    pub number: usize,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.number)
    }
}

/// What runs, and where.
#[derive(Debug)]
pub struct FleetOptions {
    /// Where the services believe the servers to be.
    pub addresses: Addresses,
    /// Configuration, logs, binaries.
    pub site: Site,
    /// Starts the processes.
    pub supervisor: Supervisor,
    /// The services, in the order of their start.
    pub services: Vec<&'static str>,
    /// Replicas up to this number have a stable name, as in a StatefulSet; others leave their group when they end, as in a
    /// Deployment.
    pub stable_names: usize,
    /// Further environment of every service.
    pub env: Vec<(String, String)>,
}

/// All replicas.
#[derive(Debug)]
pub struct Fleet {
    state: Arc<State>,
    stop: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: FleetOptions,
    pub(crate) table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    /// Further environment of every start of a service.
    pub(crate) service_env: BTreeMap<&'static str, Vec<(String, String)>>,
    /// Largest resident memory seen, in KiB.
    pub(crate) peak_kib: BTreeMap<&'static str, u64>,
    /// Services that may exit 78 now: how many faults expect it.
    pub(crate) expected: BTreeMap<&'static str, usize>,
    /// What must not have happened.
    pub(crate) errors: Vec<String>,
}

impl State {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Starts one replica of each service and their supervision; they may not be ready yet. [`Fleet::fill`] adds the rest.
    /// `first`: what `ENGAGE_FAULTS` is in the first starts of a service.
    ///
    /// # Errors
    /// A process that cannot be started.
    pub fn start(
        options: FleetOptions,
        first: &BTreeMap<&'static str, Vec<String>>,
    ) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            options,
            table: Mutex::default(),
        });
        let fleet = Self {
            state,
            stop: CancellationToken::new(),
        };
        for service in fleet.services() {
            let faults = first.get(service).map(Vec::as_slice).unwrap_or_default();
            fleet.add_armed(service, faults)?;
        }
        tokio::spawn(supervise::run(Arc::clone(&fleet.state), fleet.stop.clone()));
        Ok(fleet)
    }

    /// Where the services believe the servers to be.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.state.options.addresses
    }

    /// The services that run.
    #[must_use]
    pub fn services(&self) -> Vec<&'static str> {
        self.state.options.services.clone()
    }

    /// Whether this service is one of them.
    #[must_use]
    pub fn runs(&self, service: &str) -> bool {
        self.state.options.services.contains(&service)
    }

    /// Every replica, also one that is down at the moment.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.state.table().replicas.keys().copied().collect()
    }

    /// The replicas of one service.
    #[must_use]
    pub fn replicas_of(&self, service: &str) -> Vec<ReplicaId> {
        let mut all = self.replicas();
        all.retain(|id| id.service == service);
        all
    }

    /// As many replicas of each service as wanted, where there are fewer.
    ///
    /// # Errors
    /// A process that cannot be started.
    pub fn fill(&self, replicas: usize) -> anyhow::Result<()> {
        for service in self.services() {
            for _ in self.replicas_of(service).len()..replicas {
                self.add(service)?;
            }
        }
        Ok(())
    }

    /// One more replica of a service.
    ///
    /// # Errors
    /// Where its process cannot be started.
    pub fn add(&self, service: &'static str) -> anyhow::Result<ReplicaId> {
        self.add_armed(service, &[])
    }

    /// One more replica, whose first starts have these `ENGAGE_FAULTS`.
    fn add_armed(&self, service: &'static str, faults: &[String]) -> anyhow::Result<ReplicaId> {
        let mut table = self.state.table();
        let taken = |number| table.replicas.contains_key(&ReplicaId { service, number });
        let number = (1..).find(|number| !taken(*number)).unwrap_or(1);
        let id = ReplicaId { service, number };
        let mut replica = Replica::new(faults);
        replica.start(id, &self.state, service_env(&table, service))?;
        table.replicas.insert(id, replica);
        Ok(id)
    }

    /// The next start of this replica (only that) has this `ENGAGE_FAULTS`.
    pub fn arm_next_start(&self, id: ReplicaId, faults: &str) {
        self.env_next_start(id, "ENGAGE_FAULTS", faults);
    }

    /// Every later start of a service has these variables, in place of those given before.
    pub fn set_service_env(&self, service: &'static str, env: Vec<(String, String)>) {
        self.state.table().service_env.insert(service, env);
    }

    /// Largest resident memory of a process of each service so far, in KiB.
    #[must_use]
    pub fn peak_kib(&self) -> BTreeMap<&'static str, u64> {
        self.state.table().peak_kib.clone()
    }

    /// The next start of this replica (only that) has this variable.
    pub fn env_next_start(&self, id: ReplicaId, name: &str, value: &str) {
        self.with(id, |replica| {
            replica.set_next((name.into(), value.into()));
        });
    }

    /// How often this replica was started, and how its processes ended (the last first).
    #[must_use]
    pub fn history(&self, id: ReplicaId) -> (usize, Vec<Ended>) {
        self.with(id, |replica| {
            (replica.starts, replica.ends.iter().rev().cloned().collect())
        })
        .unwrap_or_default()
    }

    /// The process id of a replica that runs.
    #[must_use]
    pub fn pid(&self, id: ReplicaId) -> Option<u32> {
        self.with(id, |replica| replica.pid()).flatten()
    }

    /// From now until the guard is dropped, processes of this service may exit 78; they are not started again until then.
    #[must_use]
    pub fn expecting_stop(&self, service: &'static str) -> ExpectedStop {
        *self.state.table().expected.entry(service).or_default() += 1;
        ExpectedStop::new(service, Arc::clone(&self.state))
    }

    /// What must not have happened so far (exits 78 that nobody expected).
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.state.table().errors.clone()
    }

    /// The log of a replica, over all its starts.
    #[must_use]
    pub fn log(&self, id: ReplicaId) -> PathBuf {
        launch::log(&self.state.options.site, id)
    }

    /// The admin interface of a replica.
    #[must_use]
    pub fn admin(&self, id: ReplicaId) -> Option<std::net::SocketAddr> {
        self.with(id, |replica| replica.admin)
    }

    /// Ends supervision and all replicas in good order.
    ///
    /// # Errors
    /// Where a process stays.
    pub async fn end(&self) -> anyhow::Result<()> {
        self.stop.cancel();
        for service in self.services().into_iter().rev() {
            self.hold(service).await?;
        }
        Ok(())
    }

    pub(crate) fn with<T>(&self, id: ReplicaId, act: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        self.state.table().replicas.get_mut(&id).map(act)
    }
}

fn service_env(table: &Table, service: &str) -> Vec<(String, String)> {
    table.service_env.get(service).cloned().unwrap_or_default()
}

impl Drop for Fleet {
    /// Whatever still runs then has not been stopped in good order.
    fn drop(&mut self) {
        self.stop.cancel();
        for (id, replica) in &mut self.state.table().replicas {
            replica.wanted = Wanted::Down;
            if let Err(error) = replica.kill9() {
                tracing::warn!(replica = %id, %error, "outlives its fleet");
            }
        }
    }
}
