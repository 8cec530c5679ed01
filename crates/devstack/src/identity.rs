//! Tells one process from another that later got the same number.
//!
//! Invariant: a zombie counts as ended, and a reused process id is never taken for the old process.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process: its id, and when it started in which boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

/// The fields of `/proc/PID/stat` that are needed here.
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl ProcessId {
    /// The identity of a running process, or `None` if there is none (a zombie is none).
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid).filter(Stat::runs)?;
        Some(Self {
            pid,
            started: stat.started,
            boot: boot_id(),
        })
    }

    /// Whether this very process still runs; `false` for a zombie.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|s| s.runs() && s.started == self.started)
            && self.boot == boot_id()
    }

    /// Whether the kernel still lists it, be it as a zombie: Postgres takes such a process for a live server.
    pub(crate) fn is_listed(&self) -> bool {
        stat(self.pid).is_some_and(|s| s.started == self.started)
    }

    /// This process and all its descendants: Postgres gives each backend a session of its own, so groups do not help.
    pub(crate) fn tree(&self) -> Vec<Self> {
        let mut tree = vec![self.clone()];
        let all = processes();
        let mut next = 0;
        while next < tree.len() {
            let parent = tree[next].pid;
            tree.extend(
                all.iter()
                    .filter(|(_, stat)| stat.parent == parent && stat.runs())
                    .map(|(pid, stat)| Self {
                        pid: *pid,
                        started: stat.started,
                        boot: self.boot.clone(),
                    }),
            );
            next += 1;
        }
        tree
    }

    /// Sends a signal if it still is this process; whether it was sent.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        self.is_alive()
            && i32::try_from(self.pid)
                .ok()
                .and_then(Pid::from_raw)
                .is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

impl Stat {
    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// `PID (name, which may contain blanks and brackets) S PPID ...`
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn processes() -> Vec<(u32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat =
            Stat::parse("42 (a b) c) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 991 5 6").unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 7, 991));
    }

    #[test]
    fn this_process_is_alive_and_an_older_bearer_of_its_number_is_not() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let older = ProcessId {
            started: me.started - 1,
            ..me
        };
        assert!(!older.is_alive());
    }

    #[test]
    fn a_zombie_is_listed_but_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ProcessId::of(pid).is_some() {
            assert!(std::time::Instant::now() < deadline, "`true` did not end");
            std::thread::yield_now();
        }
        assert!(stat(pid).is_some(), "not reaped yet, so still listed");
        child.wait().unwrap();
        assert!(stat(pid).is_none());
    }
}
