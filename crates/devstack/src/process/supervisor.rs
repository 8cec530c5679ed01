//! Who starts processes, and what becomes of them when it ends.
//!
//! Invariant: the gate of a child opens only after watchdog and run file know it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
};

use super::{Launch, Process, StopSignal};
use crate::{ProcessId, StackError, run_file::RunFile, watchdog::Watchdog};

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

    pub(super) fn forget(&self, id: &ProcessId, name: &str) {
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
