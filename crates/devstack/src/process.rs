//! Child processes that end with their owner. Servers use it; any other program of a test or demo may, too.
//!
//! Invariant: a child does nothing before watchdog and run file know it. It waits at a gate (`read` in a shell, which
//! then becomes the program by `exec`, so the process id stays) that opens only after that.

use std::{
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{ProcessId, StackError, run_file::RunFile, watchdog::Watchdog};

const GATE: &str = r#"read -r go && exec setsid "$@" </dev/null"#;
const POLL: Duration = Duration::from_millis(5);
/// How long the kernel may take to end a process after SIGKILL (a big one gives its memory back first).
const AFTER_KILL: Duration = Duration::from_secs(20);

/// The signal that makes a program end in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    /// SIGTERM: almost every program.
    Terminate,
    /// SIGINT: Postgres' fast shutdown, which does not wait for clients.
    Interrupt,
}

impl StopSignal {
    const fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::TERM,
            Self::Interrupt => Signal::INT,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
        }
    }
}

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    log: PathBuf,
    user: Option<(u32, u32)>,
    stop: StopSignal,
    ports: Vec<u16>,
}

impl Launch {
    /// A program whose output is appended to `log`. `name` is used in errors and for the run file.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: PathBuf::from("/"),
            log: log.into(),
            user: None,
            stop: StopSignal::Terminate,
            ports: Vec::new(),
        }
    }

    /// The same under another name and with a log of its own: one of several replicas.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, log: impl Into<PathBuf>) -> Self {
        self.name = name.into();
        self.log = log.into();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the rest is inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory (default `/`).
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Sets the signal for an orderly end (default SIGTERM).
    #[must_use]
    pub fn stop_signal(mut self, stop: StopSignal) -> Self {
        self.stop = stop;
        self
    }

    /// Notes the ports in the run file, for whoever finds the process later.
    #[must_use]
    pub fn ports(mut self, ports: &[u16]) -> Self {
        self.ports = ports.to_vec();
        self
    }

    /// Runs it as this user and group; needs root.
    #[must_use]
    pub(crate) fn user(mut self, user: Option<(u32, u32)>) -> Self {
        self.user = user;
        self
    }

    fn command(&self) -> Result<Command, StackError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(StackError::io("opening", &self.log))?;
        let errors = log
            .try_clone()
            .map_err(StackError::io("opening", &self.log))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", GATE, &self.name])
            .arg(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }
}

/// Starts processes and knows what becomes of them when their owner ends.
#[derive(Clone, Debug)]
pub struct Supervisor {
    watchdog: Option<Arc<Watchdog>>,
    /// Orphans get SIGKILL at once: their data goes away anyhow.
    kill_orphans: bool,
    run_dir: Option<PathBuf>,
}

impl Supervisor {
    /// Processes end in good order with the owner.
    ///
    /// # Errors
    /// When the watchdog cannot be started.
    pub fn attached() -> Result<Self, StackError> {
        Ok(Self {
            watchdog: Some(Arc::new(Watchdog::start(None, 20)?)),
            kill_orphans: false,
            run_dir: None,
        })
    }

    /// Processes are killed with the owner, and `dir` is removed.
    pub(crate) fn disposable(dir: &Path) -> Result<Self, StackError> {
        Ok(Self {
            watchdog: Some(Arc::new(Watchdog::start(Some(dir), 3)?)),
            kill_orphans: true,
            run_dir: None,
        })
    }

    /// Processes survive the owner.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            watchdog: None,
            kill_orphans: false,
            run_dir: None,
        }
    }

    /// Also leaves a note of each process in this directory.
    #[must_use]
    pub fn with_run_files(mut self, dir: &Path) -> Self {
        self.run_dir = Some(dir.to_owned());
        self
    }

    /// A process that another command started with the same directory of run files, if it still runs.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Process> {
        let file = RunFile::read_alive(self.run_dir.as_deref()?, name)?;
        Some(Process::adopt(&file, self))
    }

    /// Whether its processes survive the owner.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.watchdog.is_none()
    }

    pub(crate) fn run_dir(&self) -> Option<&Path> {
        self.run_dir.as_deref()
    }

    /// Starts a process; returns when it runs, not when it is ready.
    ///
    /// # Errors
    /// When the log cannot be opened, the process cannot be started, or the watchdog is gone. A program that does not
    /// exist is not an error here: the process ends at once and its log says why.
    pub fn spawn(&self, launch: &Launch) -> Result<Process, StackError> {
        let mut child = launch
            .command()?
            .spawn()
            .map_err(StackError::io("starting", &launch.program))?;
        let known = self.announce(&child, launch);
        let gate = child.stdin.take();
        match (known, gate) {
            (Ok(id), Some(mut gate)) => {
                // A child that is gone already shows in its status and log.
                let _ = gate.write_all(b"go\n");
                Ok(Process {
                    id,
                    name: launch.name.clone(),
                    stop: launch.stop,
                    child: Some(child),
                    supervisor: self.clone(),
                })
            }
            (known, gate) => {
                drop(gate);
                let _ = child.wait();
                Err(known.err().unwrap_or_else(|| gone(launch)))
            }
        }
    }

    fn announce(&self, child: &Child, launch: &Launch) -> Result<ProcessId, StackError> {
        let id = ProcessId::of(child.id()).ok_or_else(|| gone(launch))?;
        if let Some(watchdog) = &self.watchdog {
            let signal = match (self.kill_orphans, launch.stop) {
                (true, StopSignal::Terminate) => "KILL",
                // The postmaster itself must end its children; SIGQUIT does it at once.
                (true, StopSignal::Interrupt) => "QUIT",
                (false, stop) => stop.name(),
            };
            watchdog.guard(&id, signal, &launch.name)?;
        }
        if let Some(dir) = &self.run_dir {
            let file = RunFile {
                name: launch.name.clone(),
                id: id.clone(),
                stop: launch.stop,
                ports: launch.ports.clone(),
                log: launch.log.clone(),
            };
            file.write(dir)?;
        }
        Ok(id)
    }

    fn forget(&self, id: &ProcessId, name: &str) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.release(id);
        }
        if let Some(dir) = &self.run_dir {
            RunFile::remove(dir, name);
        }
    }

    /// Nothing is left to guard.
    pub(crate) fn dismiss(&self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.dismiss();
        }
    }
}

fn gone(launch: &Launch) -> StackError {
    StackError::WatchdogGone {
        name: launch.name.clone(),
    }
}

/// A process started by a [`Supervisor`], or one found running.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    name: String,
    stop: StopSignal,
    /// `None` for a process that someone else started.
    child: Option<Child>,
    supervisor: Supervisor,
}

impl Process {
    /// Takes over a process found by its run file; it is not ended with this owner.
    pub(crate) fn adopt(file: &RunFile, supervisor: &Supervisor) -> Self {
        Self {
            id: file.id.clone(),
            name: file.name.clone(),
            stop: file.stop,
            child: None,
            supervisor: supervisor.clone(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Whether this owner started it.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.child.is_some()
    }

    /// How it ended, or `None` while it runs. Also reaps it.
    pub fn ended(&mut self) -> Option<String> {
        match &mut self.child {
            Some(child) => match child.try_wait() {
                Ok(Some(status)) => Some(status.to_string()),
                Ok(None) => None,
                Err(error) => Some(error.to_string()),
            },
            None if self.id.is_alive() => None,
            None => Some("ended".to_owned()),
        }
    }

    /// Asks it to end in good order and does not wait.
    pub fn terminate(&self) {
        self.id.signal(self.stop.signal());
    }

    /// Ends it in good order; after `grace` by SIGKILL. Blocks.
    ///
    /// # Errors
    /// Only when not even SIGKILL ends it.
    pub fn stop(&mut self, grace: Duration) -> Result<(), StackError> {
        self.id.signal(self.stop.signal());
        self.resume();
        if self.wait_ended(grace) {
            self.supervisor.forget(&self.id, &self.name);
            return Ok(());
        }
        tracing::warn!(name = %self.name, pid = self.id.pid, "did not stop in time, killing it");
        self.kill9()
    }

    /// Ends it and all its descendants by SIGKILL, and waits until they are gone. Blocks.
    ///
    /// # Errors
    /// Only when a process stays (uninterruptible I/O).
    pub fn kill9(&mut self) -> Result<(), StackError> {
        let tree = self.id.tree();
        for id in &tree {
            id.signal(Signal::KILL);
        }
        let deadline = Instant::now() + AFTER_KILL;
        for id in &tree[1..] {
            wait_until(deadline, || !id.is_alive());
        }
        if !self.wait_ended(deadline.saturating_duration_since(Instant::now())) {
            return Err(StackError::Immortal {
                name: self.name.clone(),
                pid: self.id.pid,
            });
        }
        self.supervisor.forget(&self.id, &self.name);
        Ok(())
    }

    /// Freezes it and all its descendants (SIGSTOP): connections stay open, nothing answers.
    pub fn pause(&self) {
        for id in self.id.tree() {
            id.signal(Signal::STOP);
        }
    }

    /// Undoes [`Process::pause`].
    pub fn resume(&self) {
        for id in self.id.tree() {
            id.signal(Signal::CONT);
        }
    }

    /// A process of another parent is waited for until it is reaped, because Postgres takes a zombie for a live server.
    fn wait_ended(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let ended = wait_until(deadline, || self.ended().is_some());
        if ended && self.child.is_none() {
            wait_until(Instant::now() + Duration::from_secs(10), || {
                !self.id.is_listed()
            });
        }
        ended
    }
}

fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}
