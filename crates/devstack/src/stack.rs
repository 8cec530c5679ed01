//! A set of running servers.
//!
//! Invariant: a stack ends what it started itself, and nothing else; a detached one ends nothing.

mod found;
mod start;

use std::{
    fs::File,
    path::Path,
    sync::{Arc, OnceLock},
    thread,
};

use crate::{
    Builder, ClickHouse, Connect, Jaeger, Kafka, Kind, Needs, Postgres, Redis, Server, StackError,
    Supervisor, site::Site,
};
pub use found::ServerStatus;
use found::lock_blocking;

/// The running servers. Dropping it ends those it has started (unless detached) and, in a private stack, their data.
#[derive(Debug)]
pub struct Stack {
    site: Arc<Site>,
    starting: tokio::sync::Mutex<()>,
    postgres: OnceLock<Postgres>,
    kafka: OnceLock<Kafka>,
    connect: OnceLock<Connect>,
    redis: OnceLock<Redis>,
    clickhouse: OnceLock<ClickHouse>,
    jaeger: OnceLock<Jaeger>,
}

impl Stack {
    /// Chooses servers and mode.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(site: Site) -> Self {
        Self {
            site: Arc::new(site),
            starting: tokio::sync::Mutex::default(),
            postgres: OnceLock::new(),
            kafka: OnceLock::new(),
            connect: OnceLock::new(),
            redis: OnceLock::new(),
            clickhouse: OnceLock::new(),
            jaeger: OnceLock::new(),
        }
    }

    /// Starts what is wanted and not running yet; returns when all of it answers.
    ///
    /// # Errors
    /// The first server that cannot be started.
    pub async fn ensure(&self, needs: Needs) -> Result<(), StackError> {
        if self.has(needs) {
            return Ok(());
        }
        let _turn = self.starting.lock().await;
        let _lock = self.lock().await?;
        let (stores, pipeline) =
            tokio::join!(self.ensure_stores(needs), self.ensure_pipeline(needs));
        stores.and(pipeline)
    }

    /// Postgres.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        wanted(&self.postgres, Kind::Postgres)
    }

    /// The broker.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn kafka(&self) -> &Kafka {
        wanted(&self.kafka, Kind::Kafka)
    }

    /// The Connect worker.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn connect(&self) -> &Connect {
        wanted(&self.connect, Kind::Connect)
    }

    /// Redis.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        wanted(&self.redis, Kind::Redis)
    }

    /// ClickHouse.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn clickhouse(&self) -> &ClickHouse {
        wanted(&self.clickhouse, Kind::ClickHouse)
    }

    /// Jaeger.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn jaeger(&self) -> &Jaeger {
        wanted(&self.jaeger, Kind::Jaeger)
    }

    /// The same where it may not have been asked for.
    #[must_use]
    pub fn jaeger_if_any(&self) -> Option<&Jaeger> {
        self.jaeger.get()
    }

    /// Where data, logs (`log/`) and configuration (`conf/`) are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.site.dir
    }

    /// For other processes (this project's services) that shall live and end as the servers do.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.site.supervisor
    }

    /// Ends the stack as dropping it does, without blocking the runtime.
    pub async fn shutdown(self) {
        // The only error is a panic in a destructor, which has been printed.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    fn has(&self, needs: Needs) -> bool {
        Kind::ALL
            .into_iter()
            .filter(|kind| needs.contains(*kind))
            .all(|kind| self.server(kind).is_some())
    }

    fn server(&self, kind: Kind) -> Option<&Server> {
        match kind {
            Kind::Postgres => self.postgres.get().map(|s| &s.server),
            Kind::Kafka => self.kafka.get().map(|s| &s.server),
            Kind::Connect => self.connect.get().map(|s| &s.server),
            Kind::Redis => self.redis.get().map(|s| &s.server),
            Kind::ClickHouse => self.clickhouse.get().map(|s| &s.server),
            Kind::Jaeger => self.jaeger.get().map(|s| &s.server),
        }
    }

    async fn ensure_stores(&self, needs: Needs) -> Result<(), StackError> {
        let (postgres, redis, clickhouse, jaeger) = tokio::join!(
            self.ensure_one(needs, Kind::Postgres),
            self.ensure_one(needs, Kind::Redis),
            self.ensure_one(needs, Kind::ClickHouse),
            self.ensure_one(needs, Kind::Jaeger),
        );
        postgres.and(redis).and(clickhouse).and(jaeger)
    }

    async fn ensure_pipeline(&self, needs: Needs) -> Result<(), StackError> {
        self.ensure_one(needs, Kind::Kafka).await?;
        self.ensure_one(needs, Kind::Connect).await
    }

    async fn ensure_one(&self, needs: Needs, kind: Kind) -> Result<(), StackError> {
        if !needs.contains(kind) || self.server(kind).is_some() {
            return Ok(());
        }
        let server = self.start(kind).await?;
        let port = server.port();
        match kind {
            Kind::Postgres => drop(self.postgres.set(Postgres::new(server, &self.site))),
            Kind::Kafka => {
                let _ = self.site.broker.set(port);
                drop(self.kafka.set(Kafka::new(server)));
            }
            Kind::Connect => drop(self.connect.set(Connect::new(server))),
            Kind::Redis => drop(self.redis.set(Redis::new(server, &self.site))),
            Kind::ClickHouse => drop(self.clickhouse.set(ClickHouse::new(server, &self.site))),
            Kind::Jaeger => drop(self.jaeger.set(Jaeger::new(server))),
        }
        Ok(())
    }

    /// One command at a time works on a demo directory.
    async fn lock(&self) -> Result<Option<File>, StackError> {
        if self.site.is_private() {
            return Ok(None);
        }
        let dir = self.site.dir.clone();
        tokio::task::spawn_blocking(move || lock_blocking(&dir))
            .await
            .unwrap_or_else(|_| {
                Err(StackError::Busy {
                    dir: self.site.dir.clone(),
                })
            })
            .map(Some)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.site.supervisor.is_detached() {
            return;
        }
        let end = |kind| {
            if let Some(server) = self.server(kind) {
                server.end_with_owner();
            }
        };
        // Connect says goodbye to Kafka and Postgres, so it goes first; nothing says goodbye in a private stack.
        if !self.site.is_private() {
            end(Kind::Connect);
        }
        thread::scope(|scope| {
            for kind in Kind::ALL {
                scope.spawn(move || end(kind));
            }
        });
        if self.site.is_private()
            && let Err(error) = std::fs::remove_dir_all(&self.site.dir)
        {
            tracing::warn!(%error, dir = %self.site.dir.display(), "not removed");
        }
        self.site.supervisor.dismiss();
    }
}

#[expect(
    clippy::panic,
    reason = "asking for a server that the test did not start is a mistake in the test"
)]
fn wanted<T>(slot: &OnceLock<T>, kind: Kind) -> &T {
    slot.get().unwrap_or_else(|| {
        panic!(
            "{kind} is not part of this stack; add it: Needs::none().{}()",
            kind.name()
        )
    })
}
