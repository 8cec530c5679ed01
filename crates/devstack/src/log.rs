//! Reads the end of a server's log.
//!
//! Invariant: never reads more than the last 64 KiB, however long the log is.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

const WINDOW: u64 = 64 * 1024;

/// The last `lines` lines of a file, or a note why there are none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    match read_end(path) {
        Ok(text) if text.trim().is_empty() => "(the log is empty)".to_owned(),
        Ok(text) => last_lines(&text, lines),
        Err(error) => format!("(no log: {error})"),
    }
}

fn read_end(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_in_order() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 5), "a");
    }

    #[test]
    fn a_missing_log_says_so_instead_of_failing() {
        assert!(tail(Path::new("/nonexistent/x.log"), 3).starts_with("(no log"));
    }
}
