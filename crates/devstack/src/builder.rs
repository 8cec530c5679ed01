//! Chooses servers and mode.
//!
//! Invariant: the default is private: nothing that runs on the machine is touched.

use std::{path::PathBuf, time::Duration};

use crate::{
    Needs, Secured, Stack, StackError,
    site::{Detours, Site},
};

/// A cold JVM on a busy machine with two cores stays well below this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// What a [`Stack`] shall be.
#[derive(Clone, Debug)]
pub struct Builder {
    needs: Needs,
    demo: Option<PathBuf>,
    detached: bool,
    deadline: Duration,
    detours: Detours,
    full_compiler: bool,
    secured: Option<Secured>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            needs: Needs::none(),
            demo: None,
            detached: false,
            deadline: DEADLINE,
            detours: Detours::default(),
            full_compiler: false,
            secured: None,
        }
    }
}

impl Builder {
    /// With exactly these servers.
    #[must_use]
    pub const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    /// With all five servers.
    #[must_use]
    pub const fn all(self) -> Self {
        self.needs(Needs::all())
    }

    /// Also Postgres.
    #[must_use]
    pub const fn postgres(mut self) -> Self {
        self.needs = self.needs.postgres();
        self
    }

    /// Also Kafka.
    #[must_use]
    pub const fn kafka(mut self) -> Self {
        self.needs = self.needs.kafka();
        self
    }

    /// Also Kafka Connect, and Kafka with it.
    #[must_use]
    pub const fn connect(mut self) -> Self {
        self.needs = self.needs.connect();
        self
    }

    /// Also Redis.
    #[must_use]
    pub const fn redis(mut self) -> Self {
        self.needs = self.needs.redis();
        self
    }

    /// Also ClickHouse.
    #[must_use]
    pub const fn clickhouse(mut self) -> Self {
        self.needs = self.needs.clickhouse();
        self
    }

    /// Free ports and a directory that disappears with the stack (the default).
    #[must_use]
    pub fn private(mut self) -> Self {
        self.demo = None;
        self.detached = false;
        self
    }

    /// The documented ports (each moved by its `ENGAGE_PORT_*`), and a directory that stays. Servers that run from
    /// this directory already are used as they are.
    #[must_use]
    pub fn demo(mut self, dir: impl Into<PathBuf>) -> Self {
        self.demo = Some(dir.into());
        self
    }

    /// The servers survive this process; [`Stack::stop_all`] ends them. Only for [`Builder::demo`].
    #[must_use]
    pub const fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// How long each server may take to become ready (default 120 s).
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The broker gets one more listener for each of these ports of 127.0.0.1 and tells whoever comes through it to come
    /// back there: a proxy, which forwards to [`crate::Kafka::listeners`].
    #[must_use]
    pub fn kafka_advertised_at(mut self, ports: &[u16]) -> Self {
        self.detours.advertised = ports.to_vec();
        self
    }

    /// Connect reaches the broker at this port of 127.0.0.1 (a proxy) instead of directly.
    #[must_use]
    pub fn connect_reaches_kafka_at(mut self, port: u16) -> Self {
        self.detours.connect_to = Some(port);
        self
    }

    /// Kafka and Connect compile as the demo's do, which pays off after minutes. A private stack's JVMs are otherwise made for
    /// a quick start.
    #[must_use]
    pub const fn full_compiler(mut self, wanted: bool) -> Self {
        self.full_compiler = wanted;
        self
    }

    /// With TLS, passwords and rights in every server that knows them. Only for [`Builder::private`].
    #[must_use]
    pub fn secured(mut self, secured: Secured) -> Self {
        self.secured = Some(secured);
        self
    }

    /// Starts the servers, side by side where possible; returns when all of them answer.
    ///
    /// # Errors
    /// What the first server that failed had to say. Those already started are ended again (unless detached).
    pub async fn start(self) -> Result<Stack, StackError> {
        let site = match &self.demo {
            Some(dir) => Site::demo(dir, self.detached, self.deadline)?,
            None => Site::private(self.deadline)?,
        };
        let site = site
            .with_detours(self.detours)
            .with_full_compiler(self.full_compiler)
            .secured_by(self.secured);
        let stack = Stack::new(site);
        Box::pin(stack.ensure(self.needs)).await?;
        Ok(stack)
    }
}
