//! The servers that all checks of a process share.
//!
//! Invariant: they are private to this process and end with it; every check has names of its own on them.

use std::net::SocketAddr;
use std::path::PathBuf;

use devstack::{Needs, Shared, Stack};

/// Kafka, ClickHouse and Redis, and the binaries of the services.
pub struct World {
    stack: Stack,
}

impl World {
    /// The one of this process, started on first use.
    ///
    /// # Panics
    /// Where a server cannot be started, with its log.
    pub async fn shared() -> &'static Self {
        static SHARED: Shared<World> = Shared::new();
        SHARED.get(Self::start).await
    }

    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let needs = Needs::none().kafka().redis().clickhouse();
        let stack = Stack::builder().needs(needs).private().start().await;
        Self {
            stack: stack.unwrap_or_else(|error| panic!("{error}")),
        }
    }

    /// The servers.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Bootstrap servers.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.stack.kafka().bootstrap
    }

    /// Where a log or a configuration may be written.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.stack.dir().join(name)
    }
}

/// An address of 127.0.0.1 for a service, which nobody else gets.
pub(crate) fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], devstack::free_port().unwrap()).into()
}
