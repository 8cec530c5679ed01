//! The servers of a demo directory, found from outside by what they have left there.
//!
//! Invariant: one command at a time works on a directory.

use std::{
    fs::File,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::Stack;
use crate::{Kind, Needs, Process, StackError, Supervisor, run_file::RunFile};

/// How long to wait for another command that works on the same directory.
const BUSY: Duration = Duration::from_secs(300);

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

/// Waits for whoever works on the directory. Blocks.
pub(super) fn lock_blocking(dir: &Path) -> Result<File, StackError> {
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
