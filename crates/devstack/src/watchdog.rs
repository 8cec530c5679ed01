//! The process that ends the servers when their owner is gone.
//!
//! Invariant: it is told of a process before that process may start its work, and it acts when the pipe to the owner
//! closes, for whatever reason. (`PR_SET_PDEATHSIG` would not do: it follows the spawning thread, not the process.)

use std::{
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::{ProcessId, StackError};

const SCRIPT: &str = include_str!("../templates/watchdog.sh");

/// A running watchdog; dropping it without [`Watchdog::dismiss`] makes it end everything it knows of.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pipe: Mutex<ChildStdin>,
    child: Mutex<Child>,
}

impl Watchdog {
    /// Starts it. `remove` is deleted after the processes have ended; `grace` seconds lie between stop signal and SIGKILL.
    pub(crate) fn start(remove: Option<&Path>, grace: u32) -> Result<Self, StackError> {
        let mut child = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "engage-watchdog"])
            .arg(remove.unwrap_or(Path::new("")))
            .arg(grace.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(StackError::io("starting the watchdog", "setsid"))?;
        let pipe = child.stdin.take().ok_or(StackError::WatchdogGone {
            name: "the watchdog".to_owned(),
        })?;
        Ok(Self {
            pipe: Mutex::new(pipe),
            child: Mutex::new(child),
        })
    }

    /// From now on the process ends with the owner, by this signal first (`TERM`, `KILL`, ...).
    pub(crate) fn guard(&self, id: &ProcessId, signal: &str, name: &str) -> Result<(), StackError> {
        self.tell(&format!("+ {} {} {signal}\n", id.pid, id.started))
            .map_err(|_| StackError::WatchdogGone {
                name: name.to_owned(),
            })
    }

    /// The process has ended.
    pub(crate) fn release(&self, id: &ProcessId) {
        if let Err(error) = self.tell(&format!("- {}\n", id.pid)) {
            tracing::warn!(%error, pid = id.pid, "the watchdog does not answer");
        }
    }

    /// Everything is cleaned up: end without doing anything.
    pub(crate) fn dismiss(&self) {
        if self.tell("bye\n").is_ok() {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = child.wait();
        }
    }

    fn tell(&self, line: &str) -> std::io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.write_all(line.as_bytes())
    }
}
