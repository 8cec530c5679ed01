//! A set of running servers.
//!
//! Invariant: a stack ends what it started itself, and nothing else; a detached one ends nothing.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Builder, ClickHouse, Connect, Jaeger, Kafka, Kind, Needs, Postgres, Process, Redis, Server,
    StackError, Supervisor,
    ports::{self, Ports},
    run_file::RunFile,
    site::Site,
};

/// Attempts to start a server on ever new ports, if another program grabs one in between.
const ATTEMPTS: usize = 4;
/// How long to wait for another command that works on the same directory.
const BUSY: Duration = Duration::from_secs(300);

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

/// One line of [`Stack::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// `postgres`, `kafka`, ..., or the name of another process.
    pub name: String,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Its ports on 127.0.0.1, the public one first.
    pub ports: Vec<u16>,
    /// Its log.
    pub log: PathBuf,
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

    /// Ends all processes of a demo directory in good order, the last started first. Blocks. Returns their names.
    ///
    /// # Errors
    /// When another command works on the directory, or a process stays.
    pub fn stop_all(dir: &Path) -> Result<Vec<String>, StackError> {
        let run = dir.join("run");
        if !run.is_dir() {
            return Ok(Vec::new());
        }
        let _lock = lock_blocking(dir)?;
        let mut stopped = Vec::new();
        for round in rounds(RunFile::all_alive(&run)) {
            stopped.extend(stop_together(&run, &round)?);
        }
        Ok(stopped)
    }

    /// What runs from a demo directory: the servers that the pipeline needs, then other processes that left a note.
    #[must_use]
    pub fn status(dir: &Path) -> Vec<ServerStatus> {
        let run = dir.join("run");
        let running = RunFile::all_alive(&run);
        let log = |name: &str| dir.join("log").join(format!("{name}.log"));
        let shown = Kind::ALL.into_iter().filter(|kind| {
            Needs::all().contains(*kind) || running.iter().any(|f| f.name == kind.name())
        });
        let servers = shown.map(
            |kind| match running.iter().find(|f| f.name == kind.name()) {
                Some(file) => ServerStatus::of(file),
                None => ServerStatus {
                    name: kind.name().to_owned(),
                    pid: None,
                    ports: Vec::new(),
                    log: log(kind.name()),
                },
            },
        );
        let others = running.iter().filter(|f| server_kind(&f.name).is_none());
        servers.chain(others.map(ServerStatus::of)).collect()
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

    async fn start(&self, kind: Kind) -> Result<Server, StackError> {
        let begun = Instant::now();
        let server = if self.site.is_private() {
            self.start_on_free_ports(kind).await?
        } else {
            self.start_or_adopt(kind).await?
        };
        tracing::info!(server = %kind, port = server.port(), pid = server.pid(), ms = begun.elapsed().as_millis(), "ready");
        Ok(server)
    }

    async fn start_or_adopt(&self, kind: Kind) -> Result<Server, StackError> {
        let found = self
            .site
            .supervisor
            .run_dir()
            .and_then(|dir| RunFile::read_alive(dir, kind.name()));
        let server = match found {
            Some(file) => Server::adopt(kind, &self.site, &file),
            None => {
                let ports = Ports::documented(kind)?.and_more(self.listeners(kind))?;
                Server::new(kind, &self.site, ports)
            }
        };
        self.start_or_end(server).await
    }

    async fn start_on_free_ports(&self, kind: Kind) -> Result<Server, StackError> {
        for _ in 1..ATTEMPTS {
            match self
                .start_or_end(Server::new(kind, &self.site, self.free_ports(kind)?))
                .await
            {
                Err(error) if error.is_taken_port() => {
                    tracing::warn!(server = %kind, "a port was taken in between, trying others");
                }
                result => return result,
            }
        }
        self.start_or_end(Server::new(kind, &self.site, self.free_ports(kind)?))
            .await
    }

    fn free_ports(&self, kind: Kind) -> Result<Ports, StackError> {
        Ports::free()?.and_more(self.listeners(kind) + ports::further(kind).len())
    }

    /// How many listeners a server has beyond its own.
    fn listeners(&self, kind: Kind) -> usize {
        match kind {
            // a secured broker talks to itself, and with its administrator, beside its clients
            Kind::Kafka if self.site.secured.is_some() => 1,
            Kind::Kafka => self.site.detours.advertised.len(),
            _ => 0,
        }
    }

    /// A server that does not become ready is not left behind.
    async fn start_or_end(&self, server: Server) -> Result<Server, StackError> {
        match server.start().await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.end_with_owner();
                Err(error)
            }
        }
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

impl ServerStatus {
    fn of(file: &RunFile) -> Self {
        Self {
            name: file.name.clone(),
            pid: Some(file.id.pid),
            ports: file.ports.clone(),
            log: file.log.clone(),
        }
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

fn server_kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// Who depends on others goes before them: services, Connect, the rest.
fn rounds(files: Vec<RunFile>) -> [Vec<RunFile>; 3] {
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for file in files {
        let round = match server_kind(&file.name) {
            None => 0,
            Some(Kind::Connect) => 1,
            Some(_) => 2,
        };
        rounds[round].push(file);
    }
    rounds
}

fn stop_together(run: &Path, files: &[RunFile]) -> Result<Vec<String>, StackError> {
    let supervisor = Supervisor::detached().with_run_files(run);
    thread::scope(|scope| {
        let stops: Vec<_> = files
            .iter()
            .map(|file| {
                let supervisor = &supervisor;
                scope.spawn(move || {
                    Process::adopt(file, supervisor).stop(Duration::from_secs(30))?;
                    Ok(file.name.clone())
                })
            })
            .collect();
        stops
            .into_iter()
            .map(|stop| {
                stop.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

fn lock_blocking(dir: &Path) -> Result<File, StackError> {
    let path = dir.join("run/lock");
    let file = File::create(&path).map_err(StackError::io("locking", &path))?;
    let deadline = Instant::now() + BUSY;
    while file.try_lock().is_err() {
        if Instant::now() >= deadline {
            return Err(StackError::Busy {
                dir: dir.to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}
