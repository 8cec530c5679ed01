//! Where secrets must not be: logs, metrics, shown configurations, errors, arguments of processes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::secrets::Secrets;

/// Texts and where they were found.
#[derive(Debug, Default)]
pub struct Evidence {
    texts: Vec<(String, String)>,
}

impl Evidence {
    /// Adds a text.
    pub fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.texts.push((place.into(), text.into()));
    }

    /// Adds every file of a folder, which must have some.
    pub fn add_files(&mut self, dir: &Path) {
        let before = self.texts.len();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
        }
        assert!(self.texts.len() > before, "{} is empty", dir.display());
    }

    /// Adds the arguments of every process of this machine.
    pub fn add_processes(&mut self) {
        for entry in fs::read_dir("/proc").unwrap() {
            let path = entry.unwrap().path();
            // a process may have ended meanwhile
            if let Ok(bytes) = fs::read(path.join("cmdline")) {
                self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// How many bytes there are to look at.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|(_, text)| text.len()).sum()
    }

    /// Which secret stands where.
    #[must_use]
    pub fn leaks(&self, secrets: &Secrets) -> String {
        let mut found = String::new();
        for (name, secret) in secrets.drawn() {
            for (place, text) in &self.texts {
                if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                    let line: String = line.chars().take(300).collect();
                    // Writing to a String cannot fail.
                    let _ = writeln!(found, "{name} in {place}: {line}");
                }
            }
        }
        found
    }
}
