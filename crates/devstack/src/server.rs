//! One server of a stack: start, stop, kill, freeze, look at.
//!
//! Invariant: every start of one server uses the same ports and the same data.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Kind, Process, StackError, log, ports::Ports, probe::Probe, run_file::RunFile, servers,
    site::Site,
};

/// Lines of log that an error shows.
const TAIL: usize = 30;
/// How long an orderly stop may take before SIGKILL.
const GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);

/// A server process and how to handle it. All methods act on this one server only.
#[derive(Debug)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    site: Arc<Site>,
    ports: Ports,
    probe: Probe,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Server {
    pub(crate) fn new(kind: Kind, site: &Arc<Site>, ports: Ports) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                site: Arc::clone(site),
                probe: servers::probe(kind, site, &ports),
                ports,
                log: site.log(kind),
                process: Mutex::new(None),
            }),
        }
    }

    /// A server that another command has started.
    pub(crate) fn adopt(kind: Kind, site: &Arc<Site>, file: &RunFile) -> Self {
        let server = Self::new(kind, site, Ports::known(&file.ports));
        *server.inner.process() = Some(Process::adopt(file, &site.supervisor));
        server
    }

    /// Which server this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The port on 127.0.0.1 that clients use.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.ports.public
    }

    pub(crate) fn inner_port(&self) -> u16 {
        self.inner.ports.inner
    }

    pub(crate) fn more_ports(&self) -> &[u16] {
        &self.inner.ports.more
    }

    /// The process id, or `None` while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.inner.process();
        let process = process.as_mut()?;
        process.ended().is_none().then(|| process.pid())
    }

    /// Whether its process runs (a zombie does not).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Its log file: everything it printed, over all its starts.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.inner.log
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        log::tail(&self.inner.log, lines)
    }

    /// Starts it, if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// When a part is missing, it ends at once, or it does not answer in time; with the end of its log.
    pub async fn start(&self) -> Result<(), StackError> {
        if !self.is_running() {
            self.inner.on_thread(Inner::launch).await?;
        }
        self.wait_ready().await
    }

    /// Ends it in good order (SIGKILL after 30 s).
    ///
    /// # Errors
    /// When its process stays.
    pub async fn stop(&self) -> Result<(), StackError> {
        self.inner
            .on_thread(|inner| inner.end(|p| p.stop(GRACE)))
            .await
    }

    /// Stops and starts it: same ports, same data.
    ///
    /// # Errors
    /// As [`Server::stop`] and [`Server::start`].
    pub async fn restart(&self) -> Result<(), StackError> {
        self.stop().await?;
        self.start().await
    }

    /// `kill -9` for it and its children; returns when they are gone. Start it again with [`Server::start`].
    ///
    /// # Errors
    /// When a process stays.
    pub async fn kill9(&self) -> Result<(), StackError> {
        self.inner
            .on_thread(|inner| inner.end(Process::kill9))
            .await
    }

    /// Freezes it (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<(), StackError> {
        self.inner.running(Process::pause)
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<(), StackError> {
        self.inner.running(Process::resume)
    }

    /// Waits until it answers in its own protocol.
    ///
    /// # Errors
    /// When its process ends, or the stack's deadline passes; with the last answer and the end of its log.
    pub async fn wait_ready(&self) -> Result<(), StackError> {
        let inner = &self.inner;
        let deadline = Instant::now() + inner.site.deadline;
        loop {
            let answer = inner.probe.once().await;
            if let Some(status) = inner.status() {
                return Err(inner.exited(status));
            }
            let Err(last) = answer else { break };
            if Instant::now() >= deadline {
                return Err(inner.not_ready(last));
            }
            tokio::time::sleep(POLL).await;
        }
        servers::finish(inner.kind, &inner.site, &inner.ports).await
    }

    /// Ends it as its stack ends. Blocks; errors are logged, because there is nobody left to handle them.
    pub(crate) fn end_with_owner(&self) {
        let private = self.inner.site.is_private();
        let ended = self
            .inner
            .end(|process| match (process.is_owned(), private) {
                (false, _) => Ok(()),
                (true, true) => process.kill9(),
                (true, false) => process.stop(GRACE),
            });
        if let Err(error) = ended {
            tracing::error!(%error, server = %self.inner.kind, "not stopped");
        }
    }
}

impl Inner {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its process ended, if it has.
    fn status(&self) -> Option<String> {
        match self.process().deref_mut() {
            Some(process) => process.ended(),
            None => Some("not running".to_owned()),
        }
    }

    fn launch(&self) -> Result<(), StackError> {
        self.end(Process::kill9)?;
        let launch = servers::prepare(self.kind, &self.site, &self.ports)?;
        let launch = launch.ports(&self.ports.all());
        *self.process() = Some(self.site.supervisor.spawn(&launch)?);
        Ok(())
    }

    /// Ends the process, if there is one, in the way given; what is left of one that has ended is cleared away, too.
    fn end(
        &self,
        how: impl FnOnce(&mut Process) -> Result<(), StackError>,
    ) -> Result<(), StackError> {
        let mut slot = self.process();
        if let Some(process) = slot.as_mut() {
            how(process)?;
        }
        *slot = None;
        Ok(())
    }

    fn running(&self, act: impl FnOnce(&Process)) -> Result<(), StackError> {
        match self.process().deref() {
            Some(process) => {
                act(process);
                Ok(())
            }
            None => Err(StackError::NotRunning { server: self.kind }),
        }
    }

    /// Runs blocking work without holding up the runtime.
    async fn on_thread<F>(self: &Arc<Self>, work: F) -> Result<(), StackError>
    where
        F: FnOnce(&Self) -> Result<(), StackError> + Send + 'static,
    {
        let inner = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(StackError::Step {
                server: self.kind,
                step: "a blocking step".to_owned(),
                output: error.to_string(),
            }),
        }
    }

    fn exited(&self, status: String) -> StackError {
        StackError::Exited {
            server: self.kind,
            status,
            waited_for: self.probe.describe(),
            log: self.log.clone(),
            tail: log::tail(&self.log, TAIL),
        }
    }

    fn not_ready(&self, last: String) -> StackError {
        StackError::NotReady {
            server: self.kind,
            deadline: self.site.deadline,
            waited_for: self.probe.describe(),
            last,
            log: self.log.clone(),
            tail: log::tail(&self.log, TAIL),
        }
    }
}
