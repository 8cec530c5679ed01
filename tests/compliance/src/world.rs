//! The servers that all checks of a process share.
//!
//! Invariant: they are private to this process and end with it; every check has names of its own on them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use devstack::{Needs, Stack};

/// Kafka, ClickHouse and Redis, and the binaries of the services.
pub struct World {
    stack: Stack,
    bin: PathBuf,
}

impl World {
    /// The one of this process, started on first use.
    ///
    /// # Panics
    /// Where a server cannot be started, with its log.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        let start = || {
            // A runtime of its own: the first test's runtime ends before the last test.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let world = runtime.block_on(Self::start());
            std::mem::forget(runtime);
            world
        };
        let init = move || std::thread::spawn(start).join().unwrap();
        tokio::task::spawn_blocking(move || SHARED.get_or_init(init))
            .await
            .unwrap()
    }

    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let needs = Needs::none().kafka().redis().clickhouse();
        let stack = Stack::builder().needs(needs).private().start().await;
        let test = std::env::current_exe().unwrap();
        Self {
            stack: stack.unwrap_or_else(|error| panic!("{error}")),
            bin: test.parent().and_then(Path::parent).unwrap().to_owned(),
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

    /// The binary of a service: it lies one directory above this test's.
    ///
    /// # Panics
    /// Where it is not built.
    #[must_use]
    pub fn binary(&self, service: &str) -> PathBuf {
        let path = self.bin.join(service);
        assert!(
            path.exists(),
            "{} is not built: cargo build --workspace --bins",
            path.display()
        );
        path
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
