//! The receiver's memory on disk: one line for each delivery that was taken, written before it is answered.
//!
//! Invariant: whatever was answered with a 2xx is in the file, so a receiver that was killed and started again knows it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use ::verify::delivery::hash_of;
use serde::{Deserialize, Serialize};

use super::message::Item;

/// A delivery, as a line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// `webhook-id`.
    pub(super) id: String,
    /// Hash of the body, hexadecimal.
    body: String,
    event: String,
    revision: u64,
    deleted: bool,
    moved: bool,
    /// The backfill that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<i64>,
}

impl Entry {
    pub(super) fn new(id: &str, item: &Item, body: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            body: format!("{:016x}", hash_of(body)),
            event: item.event_id.clone(),
            revision: item.revision,
            deleted: item.deleted,
            moved: item.moved,
            run: item.run,
        }
    }

    /// The hash of the body; a line that was edited by hand may hold none.
    pub(super) fn body(&self) -> u64 {
        u64::from_str_radix(&self.body, 16).unwrap_or(0)
    }

    /// What the book needs of it.
    pub(super) fn item(&self) -> Item {
        Item {
            event_id: self.event.clone(),
            event_type: "(recorded)".into(),
            revision: self.revision,
            deleted: self.deleted,
            moved: self.moved,
            committed_at: None,
            run: self.run,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Recorder(File);

impl Recorder {
    /// Opens the file, hands what it holds to `replay`, and cuts off a last line that was not finished.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(&Entry)) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut whole) = (String::new(), 0);
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let entry = serde_json::from_str(&line).map_err(|e| {
                let what = format!("line at byte {whole} is no recorded delivery: {e}");
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            replay(&entry);
            whole += line.len() as u64;
            line.clear();
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// Adds one delivery in one write.
    pub(super) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        let item = Item {
            event_id: "7".into(),
            event_type: "play".into(),
            revision: 3,
            deleted: true,
            moved: false,
            committed_at: None,
            run: (id == "b").then_some(7),
        };
        Entry::new(id, &item, b"{}")
    }

    fn replayed(path: &Path) -> Vec<Entry> {
        let mut found = Vec::new();
        let copy =
            |entry: &Entry| serde_json::from_value(serde_json::to_value(entry).unwrap()).unwrap();
        Recorder::open(path, |entry| found.push(copy(entry))).unwrap();
        found
    }

    #[test]
    fn what_was_recorded_comes_back_and_a_torn_line_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deliveries");
        let mut recorder = Recorder::open(&path, |_| panic!("nothing was recorded")).unwrap();
        recorder.add(&entry("a")).unwrap();
        recorder.add(&entry("b")).unwrap();
        drop(recorder);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(replayed(&path), [entry("a")]);
        Recorder::open(&path, |_| ())
            .unwrap()
            .add(&entry("c"))
            .unwrap();
        assert_eq!(replayed(&path), [entry("a"), entry("c")]);
        assert_eq!(replayed(&path)[0].body(), hash_of(b"{}"));
    }

    #[test]
    fn the_run_of_a_delivery_is_kept_and_lines_of_before_have_none() {
        let line = |entry: &Entry| serde_json::to_string(entry).unwrap();
        assert!(line(&entry("b")).ends_with(r#","run":7}"#));
        let before = line(&entry("a"));
        assert!(!before.contains("run"), "{before}");
        let read = |text: &str| serde_json::from_str::<Entry>(text).unwrap().item().run;
        assert_eq!((read(&before), read(&line(&entry("b")))), (None, Some(7)));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deliveries");
        std::fs::write(&path, "years of work\n").unwrap();
        let error = Recorder::open(&path, |_| ()).unwrap_err().to_string();
        assert!(error.contains("no recorded delivery"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"years of work\n");
    }
}
