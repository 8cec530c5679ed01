//! The directory of a test's run: configuration, logs, report.
//!
//! Invariant: it is gone after a test that succeeded, and still there, and named, after one that failed.

use std::path::{Path, PathBuf};

/// Removed when it is dropped, unless that happens in a panic.
#[derive(Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// `engage-<name>` among the temporary files; made by whoever writes into it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("engage-{name}")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let at = self.0.display();
        if std::thread::panicking() {
            eprintln!("logs are kept in {at}");
            return;
        }
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            eprintln!("{at} is left behind: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(name: &str) -> RunDir {
        let dir = RunDir::new(&format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.path().join("services")).unwrap();
        std::fs::write(dir.path().join("services/log"), "x").unwrap();
        dir
    }

    #[test]
    fn it_is_gone_after_success() {
        let dir = filled("run-dir-success");
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn it_is_kept_after_a_panic() {
        let dir = filled("run-dir-panic");
        let path = dir.path().to_owned();
        let failed = std::panic::catch_unwind(move || {
            let _dir = dir;
            panic!("the test fails");
        });
        assert!(failed.is_err() && path.join("services/log").exists());
        std::fs::remove_dir_all(path).unwrap();
    }
}
