//! What is known on disk about a running server, so that another command can find, adopt or stop it.
//!
//! Invariant: the file is written before the server may start its work, and by rename, so a reader sees all or nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{ProcessId, StackError, StopSignal};

/// The contents of `run/NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    /// `postgres`, `kafka`, ...
    pub(crate) name: String,
    /// Which process it is.
    #[serde(flatten)]
    pub(crate) id: ProcessId,
    /// How to end it.
    pub(crate) stop: StopSignal,
    /// The ports it was started with, the public one first.
    pub(crate) ports: Vec<u16>,
    /// Its log.
    pub(crate) log: PathBuf,
}

impl RunFile {
    fn path(dir: &Path, name: &str) -> PathBuf {
        dir.join(format!("{name}.json"))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), StackError> {
        let path = Self::path(dir, &self.name);
        let draft = path.with_extension("json.new");
        let text =
            serde_json::to_string(self).map_err(|e| StackError::io("encoding", &path)(e.into()))?;
        fs::write(&draft, text).map_err(StackError::io("writing", &draft))?;
        fs::rename(&draft, &path).map_err(StackError::io("writing", &path))
    }

    /// `None` if there is none, or none that can be read (a machine that lost power may leave an empty one).
    pub(crate) fn read(dir: &Path, name: &str) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(Self::path(dir, name)).ok()?).ok()
    }

    /// Like [`RunFile::read`], but only if that process still runs.
    pub(crate) fn read_alive(dir: &Path, name: &str) -> Option<Self> {
        Self::read(dir, name).filter(|file| file.id.is_alive())
    }

    /// All processes of a directory that run, by name.
    pub(crate) fn all_alive(dir: &Path) -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some(
                    entry
                        .file_name()
                        .to_str()?
                        .strip_suffix(".json")?
                        .to_owned(),
                )
            })
            .collect();
        names.sort();
        names
            .iter()
            .filter_map(|name| Self::read_alive(dir, name))
            .collect()
    }

    pub(crate) fn remove(dir: &Path, name: &str) {
        let _ = fs::remove_file(Self::path(dir, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_file_survives_the_disk_and_names_a_living_process_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = RunFile {
            name: "redis".into(),
            id: ProcessId::of(std::process::id()).unwrap(),
            stop: StopSignal::Terminate,
            ports: vec![6379],
            log: "/x/redis.log".into(),
        };
        file.write(dir.path()).unwrap();
        assert_eq!(RunFile::read_alive(dir.path(), "redis"), Some(file.clone()));

        let mut gone = file;
        gone.id.started += 1;
        gone.write(dir.path()).unwrap();
        assert_eq!(RunFile::read_alive(dir.path(), "redis"), None);
        fs::write(dir.path().join("redis.json"), "").unwrap();
        assert_eq!(RunFile::read(dir.path(), "redis"), None);
    }
}
