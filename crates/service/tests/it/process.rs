//! Starts the sample service and waits for what it says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes longer on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// The sample, with nothing of the tester's environment.
pub(crate) fn sample(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples/sample");
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test it` alone does not",
        path.display()
    );
    path
}

/// Runs a command to its end.
pub(crate) fn output(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = sample(arguments, environment).output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// A sample at work.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    errors: Option<JoinHandle<String>>,
    pub(crate) admin: SocketAddr,
}

/// How a sample ended, and all that it wrote.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) log: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Started, with an admin port of its own and its first work done.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        let mut child = sample(&["--set", "admin.addr=127.0.0.1:0"], environment)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self {
            child,
            lines,
            seen: Vec::new(),
            errors: Some(errors),
            admin: nowhere,
        };
        running.admin = running.wait_for("started")["admin"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        running.wait_for("began");
        running
    }

    /// The next log line with this message.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line `{message}`; seen:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"]
                .as_str()
                .is_some_and(|found| found.starts_with(message))
            {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Status and body of a GET on the admin port.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let code = self
            .status()
            .code()
            .expect("ended by itself, not by a signal");
        self.seen.extend(self.lines.iter());
        Ended {
            code,
            log: self.seen.join("\n"),
            stderr: self.errors.take().unwrap().join().unwrap(),
        }
    }

    fn status(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "still running; seen:\n{}",
                self.seen.join("\n")
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
