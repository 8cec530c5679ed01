//! A pseudo-terminal with a process on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{WAIT, ended};

/// The side of the person who looks and types.
pub(crate) struct Terminal {
    master: File,
    /// Held open, so that its settings can be looked at when the process has ended.
    slave: File,
    child: Child,
    pieces: Receiver<Vec<u8>>,
    /// Everything that came so far.
    pub(crate) seen: String,
}

impl Terminal {
    /// Starts a process with all three streams on a terminal of 120 columns and 30 rows.
    pub(crate) fn start(command: &mut Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let open = || File::from(ioctl_tiocgptpeer(&master, flags).unwrap());
        let slave = open();
        let size = Winsize {
            ws_row: 30,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        command.env("TERM", "xterm-256color");
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (to, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if to.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            master,
            slave,
            child,
            pieces,
            seen: String::new(),
        }
    }

    /// Waits until this was written, whatever moves of the cursor stand between its signs.
    pub(crate) fn until(&mut self, wanted: &str) {
        let begun = Instant::now();
        while !self.seen.contains(wanted) {
            assert!(
                begun.elapsed() < WAIT,
                "{wanted:?} does not come; seen:\n{:?}",
                self.seen
            );
            if let Ok(piece) = self.pieces.recv_timeout(Duration::from_millis(100)) {
                self.seen += &String::from_utf8_lossy(&piece);
            }
        }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Waits for the end of the process, and reads what it wrote last.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = ended(&mut self.child);
        while let Ok(piece) = self.pieces.recv_timeout(Duration::from_millis(200)) {
            self.seen += &String::from_utf8_lossy(&piece);
        }
        status
    }

    /// Whether typed signs are shown and come by lines, as a shell wants it.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
