//! Passwords, each in a file of its own, and all of them known by name so that a leak can be told.
//!
//! Invariant: each is long and drawn anew, so that finding it anywhere means that it was written there.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What nobody may see.
#[derive(Clone)]
pub struct Secrets {
    dir: PathBuf,
    known: BTreeMap<String, String>,
}

impl Secrets {
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        Self {
            dir: dir.to_owned(),
            known: BTreeMap::new(),
        }
    }

    /// Draws one and writes its file.
    pub(crate) fn draw(&mut self, name: &str) -> String {
        let drawn = format!("pw{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
        self.keep(name, &drawn);
        drawn
    }

    /// Writes a secret, or a text that holds one, into a file of that name.
    pub(crate) fn keep(&mut self, name: &str, text: &str) -> PathBuf {
        self.known.insert(name.to_owned(), text.to_owned());
        let path = self.file(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    /// The secret itself.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        &self.known[name]
    }

    /// The file that holds it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn sha256(&self, name: &str) -> String {
        let hash = Sha256::digest(self.value(name).as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Name and text of each that was drawn (not of the texts that hold others).
    pub(crate) fn drawn(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.known.iter();
        all.map(|(name, text)| (name.as_str(), text.as_str()))
            .filter(|(_, text)| text.starts_with("pw") || text.starts_with("whsec_"))
    }
}
