//! What to start, and how it is ended.
//!
//! Invariant: the program takes the place of the shell at its gate, so that the process id stays.

use std::{
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::StackError;

const GATE: &str = r#"read -r go && exec setsid "$@" </dev/null"#;

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
    pub(super) const fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::TERM,
            Self::Interrupt => Signal::INT,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
        }
    }
}

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(super) name: String,
    pub(super) program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    user: Option<(u32, u32)>,
    pub(super) stop: StopSignal,
    pub(super) ports: Vec<u16>,
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

    pub(super) fn command(&self) -> Result<Command, StackError> {
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
