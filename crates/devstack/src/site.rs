//! Where a stack lives: its directory, and how its servers are tuned.
//!
//! Invariant: everything a server writes lies under the stack's directory, one folder per server. (One exception: see
//! [`crate::servers::postgres`] for a directory that the user `postgres` cannot reach.)

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use crate::{Kind, Secured, StackError, Supervisor};

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// A test: free ports, small and quick servers, the directory disappears.
    Private,
    /// The demo: documented ports, data that stays.
    Demo,
}

/// The directory of a stack and what all its servers share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) flavour: Flavour,
    pub(crate) supervisor: Supervisor,
    /// How long a server may take to become ready.
    pub(crate) deadline: Duration,
    /// Where Connect finds Kafka.
    pub(crate) broker: OnceLock<u16>,
    pub(crate) detours: Detours,
    /// The JVMs of a private stack compile as the demo's do.
    pub(crate) full_compiler: bool,
    /// Passwords, rights and certificates, in a secured stack.
    pub(crate) secured: Option<Secured>,
}

/// Ways to the broker that lead through somebody else, so that a fault can lie between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detours {
    /// The port that each further listener of the broker names to its clients.
    pub(crate) advertised: Vec<u16>,
    /// Where Connect finds the broker, if not directly.
    pub(crate) connect_to: Option<u16>,
}

impl Site {
    /// A new directory under the system's temporary one.
    pub(crate) fn private(deadline: Duration) -> Result<Self, StackError> {
        let parent = temporary_parent();
        let dir = tempfile::Builder::new()
            .prefix("engage-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir_in(&parent)
            .map_err(StackError::io("creating a directory in", parent))?
            .keep();
        let supervisor = Supervisor::disposable(&dir)?;
        Self::new(dir, Flavour::Private, supervisor, deadline)
    }

    /// A directory that stays.
    pub(crate) fn demo(dir: &Path, detached: bool, deadline: Duration) -> Result<Self, StackError> {
        fs::create_dir_all(dir).map_err(StackError::io("creating", dir))?;
        let dir = dir
            .canonicalize()
            .map_err(StackError::io("resolving", dir))?;
        let supervisor = if detached {
            Supervisor::detached()
        } else {
            Supervisor::attached()?
        };
        let supervisor = supervisor.with_run_files(&dir.join("run"));
        Self::new(dir, Flavour::Demo, supervisor, deadline)
    }

    fn new(
        dir: PathBuf,
        flavour: Flavour,
        supervisor: Supervisor,
        deadline: Duration,
    ) -> Result<Self, StackError> {
        for folder in ["conf", "log", "run", "tmp"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(StackError::io("creating", &path))?;
        }
        Ok(Self {
            dir,
            flavour,
            supervisor,
            deadline,
            broker: OnceLock::new(),
            detours: Detours::default(),
            full_compiler: false,
            secured: None,
        })
    }

    pub(crate) fn with_detours(mut self, detours: Detours) -> Self {
        self.detours = detours;
        self
    }

    pub(crate) fn with_full_compiler(mut self, wanted: bool) -> Self {
        self.full_compiler = wanted;
        self
    }

    /// Secured, where the stack is a private one.
    pub(crate) fn secured_by(mut self, secured: Option<Secured>) -> Self {
        self.secured = secured.filter(|_| self.is_private());
        self
    }

    pub(crate) fn is_private(&self) -> bool {
        self.flavour == Flavour::Private
    }

    /// The log of a server.
    pub(crate) fn log(&self, kind: Kind) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", kind.name()))
    }

    /// The data folder of a server, created.
    pub(crate) fn data(&self, name: &str) -> Result<PathBuf, StackError> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).map_err(StackError::io("creating", &path))?;
        Ok(path)
    }

    /// Writes a configuration file: a template with `@NAME@` replaced.
    pub(crate) fn configure(
        &self,
        name: &str,
        template: &str,
        values: &[(&str, &str)],
    ) -> Result<PathBuf, StackError> {
        let path = self.dir.join("conf").join(name);
        let text = values
            .iter()
            .fold(template.to_owned(), |text, (key, value)| {
                text.replace(&format!("@{key}@"), value)
            });
        self.write(&path, &text)?;
        Ok(path)
    }

    /// What a secured stack writes may hold a secret: only its owner reads it.
    fn write(&self, path: &Path, text: &str) -> Result<(), StackError> {
        let mode = if self.secured.is_some() { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)
            .map_err(StackError::io("writing", path))?;
        file.write_all(text.as_bytes())
            .map_err(StackError::io("writing", path))
    }
}

/// As root, servers run as another user, who must be able to walk to the directory.
fn temporary_parent() -> PathBuf {
    let usual = std::env::temp_dir();
    if blocked_at(&usual).is_none() {
        return usual;
    }
    let fallback = PathBuf::from("/tmp");
    if blocked_at(&fallback).is_none() {
        fallback
    } else {
        usual
    }
}

/// The first folder on the way to `dir` (itself included) that other users cannot pass.
pub(crate) fn blocked_at(dir: &Path) -> Option<PathBuf> {
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|folder| fs::metadata(folder).map_or(true, |m| m.mode() & 0o001 == 0))
        .map(Path::to_owned)
}
