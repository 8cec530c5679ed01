//! One replica over all its processes.
//!
//! Invariant: at most one process of it runs at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use devstack::Process;
use engagectl::pipeline::free_port;

use super::{ReplicaId, State, launch};

/// What supervision does with a replica that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Starts it again.
    Up,
    /// Leaves it down.
    Down,
    /// Leaves it down until its repair is done.
    Repair,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// As the system says it, for example `signal: 9 (SIGKILL)` or `exit status: 78`.
    pub how: String,
    /// When that was noticed.
    pub at: Instant,
}

impl Ended {
    /// A human must repair.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.how == "exit status: 78"
    }

    /// By SIGKILL: from outside, or at a fault point.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.how.starts_with("signal: 9")
    }
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) admin: SocketAddr,
    pub(crate) wanted: Wanted,
    pub(crate) starts: usize,
    pub(crate) started_at: Instant,
    pub(crate) ends: Vec<Ended>,
    /// Further environment of the next starts, one entry each.
    next_env: VecDeque<Vec<(String, String)>>,
    process: Option<Process>,
    lent: bool,
}

impl Replica {
    /// `faults`: what is armed in its first starts.
    pub(crate) fn new(faults: &[String]) -> Self {
        let armed = |faults: &String| vec![("ENGAGE_FAULTS".to_owned(), faults.clone())];
        Self {
            admin: ([127, 0, 0, 1], free_port()).into(),
            wanted: Wanted::Up,
            starts: 0,
            started_at: Instant::now(),
            ends: Vec::new(),
            next_env: faults.iter().map(armed).collect(),
            process: None,
            lent: false,
        }
    }

    /// One more variable of the next start.
    pub(crate) fn set_next(&mut self, variable: (String, String)) {
        match self.next_env.front_mut() {
            Some(next) => next.push(variable),
            None => self.next_env.push_back(vec![variable]),
        }
    }

    /// What was set for this start only comes last, so it wins.
    pub(crate) fn start(
        &mut self,
        id: ReplicaId,
        state: &State,
        mut env: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        env.append(&mut self.next_env.pop_front().unwrap_or_default());
        let launch = launch::launch(id, self.admin, state, &env);
        self.process = Some(state.options.supervisor.spawn(&launch)?);
        self.starts += 1;
        self.started_at = Instant::now();
        Ok(())
    }

    /// How its process ended, the first time this is asked after the end.
    pub(crate) fn take_end(&mut self) -> Option<Ended> {
        let how = self.process.as_mut()?.ended()?;
        self.process = None;
        let ended = Ended {
            how,
            at: Instant::now(),
        };
        self.ends.push(ended.clone());
        Some(ended)
    }

    /// Whether a process may be started.
    pub(crate) fn is_down(&self) -> bool {
        self.process.is_none() && !self.lent
    }

    /// To somebody who will end it.
    pub(crate) fn lend(&mut self) -> Option<Process> {
        let process = self.process.take();
        self.lent = process.is_some();
        process
    }

    /// After that.
    pub(crate) fn give_back(&mut self, process: Process) {
        self.process = Some(process);
        self.lent = false;
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub(crate) fn kill9(&mut self) -> anyhow::Result<()> {
        Ok(self.process.as_mut().map_or(Ok(()), Process::kill9)?)
    }

    pub(crate) fn terminate(&self) {
        self.process.iter().for_each(Process::terminate);
    }

    pub(crate) fn pause(&self) {
        self.process.iter().for_each(Process::pause);
    }

    pub(crate) fn resume(&self) {
        self.process.iter().for_each(Process::resume);
    }
}
