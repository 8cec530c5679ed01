//! Everything that can go wrong, with the next command to run.
//!
//! Invariant: an error about a server carries the end of that server's log.

use std::{io, path::PathBuf, time::Duration};

use crate::Kind;

/// Why a server could not be started, stopped or reached.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A program or file that a server needs is not on this machine.
    #[error(
        "{server} cannot start: {what} not found (looked in {looked}); run deploy/provision/provision.sh"
    )]
    Missing {
        /// The server that needs it.
        server: Kind,
        /// The program or file.
        what: String,
        /// The places that were looked at.
        looked: String,
    },
    /// A fixed port is held by another process.
    #[error(
        "{server} cannot start: port {port} is already taken; `ss -ltnp 'sport = :{port}'` shows by whom; stop that process or set {variable} to a free port"
    )]
    PortTaken {
        /// The server that wanted the port.
        server: Kind,
        /// The port on 127.0.0.1.
        port: u16,
        /// The environment variable that moves it.
        variable: &'static str,
    },
    /// An `ENGAGE_PORT_*` variable is not a port.
    #[error("{variable}={value} is not a port: give a number from 1 to 65535")]
    BadPort {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// No free port was found in the range that stacks use.
    #[error("no free port on 127.0.0.1 between {first} and {last}")]
    NoFreePort {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// The server's process ended before it was ready.
    #[error("{server} ended ({status}) while waiting for {waited_for}; end of {}:\n{tail}", log.display())]
    Exited {
        /// The server.
        server: Kind,
        /// Exit status, as the system words it.
        status: String,
        /// What it had to answer.
        waited_for: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// The server runs, but did not answer in time.
    #[error(
        "{server} was not ready after {} s: waited for {waited_for}, last answer: {last}; end of {}:\n{tail}", deadline.as_secs(), log.display()
    )]
    NotReady {
        /// The server.
        server: Kind,
        /// How long it was waited for.
        deadline: Duration,
        /// What it had to answer.
        waited_for: String,
        /// What it answered instead.
        last: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// A preparing step (initdb, storage format, first SQL) failed.
    #[error("{server}: {step} failed: {output}")]
    Step {
        /// The server being prepared.
        server: Kind,
        /// The step.
        step: String,
        /// What it printed.
        output: String,
    },
    /// An operation needs a running server.
    #[error("{server} is not running; start() it first")]
    NotRunning {
        /// The server.
        server: Kind,
    },
    /// The process would not end, not even by SIGKILL.
    #[error(
        "process {pid} ({name}) is still there after SIGKILL; look at /proc/{pid}/stat (state D = waiting for a disk)"
    )]
    Immortal {
        /// Name given at its start.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// /dev/null is unusable for other users, so Postgres cannot start.
    #[error(
        "/dev/null is not a device that everyone may read and write, so Postgres as user `postgres` cannot start; run: rm -f /dev/null && mknod -m 666 /dev/null c 1 3"
    )]
    DevNull,
    /// Another process holds the start lock of this data directory for too long.
    #[error("another start or stop is under way in {}; wait for it to end", dir.display())]
    Busy {
        /// The data directory.
        dir: PathBuf,
    },
    /// The process that ends the servers with their owner is gone.
    #[error("the watchdog of this stack has ended, so {name} was not started")]
    WatchdogGone {
        /// What should have been started.
        name: String,
    },
    /// A file or process operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl StackError {
    /// For `map_err`: an I/O error with what was being done to which file.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    /// Whether the server ended because another program had taken its port in between.
    pub(crate) fn is_taken_port(&self) -> bool {
        matches!(self, Self::Exited { tail, .. } if tail.to_lowercase().contains("address already in use"))
    }
}
