//! Child processes that end with their owner. Servers use it; any other program of a test or demo may, too.
//!
//! Invariant: a child does nothing before watchdog and run file know it. It waits at a gate (`read` in a shell, which
//! then becomes the program by `exec`, so the process id stays) that opens only after that.

mod launch;
mod supervisor;

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{ProcessId, StackError, run_file::RunFile};
pub use launch::{Launch, StopSignal};
pub use supervisor::Supervisor;

const POLL: Duration = Duration::from_millis(5);
/// How long the kernel may take to end a process after SIGKILL (a big one gives its memory back first).
const AFTER_KILL: Duration = Duration::from_secs(20);

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

    /// The code with which it ended. `None`: it runs, a signal ended it, or someone else started it.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        status.code()
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
