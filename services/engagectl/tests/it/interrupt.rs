//! Ctrl-C and SIGTERM while a command waits for servers that do not answer.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{ended, tool};

/// Far less than what the commands would wait.
const AT_ONCE: Duration = Duration::from_secs(8);

fn begun(command: &mut Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    (child, said)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn line(said: &mut BufReader<ChildStderr>) -> String {
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    line
}

#[test]
fn a_comparison_that_waits_ends_at_the_first_signal() {
    let (mut child, mut said) = begun(
        tool()
            .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
            .args(["verify", "--within", "10m"]),
    );
    // nothing has drained where nobody answers
    while !line(&mut said).contains("waiting until the sinks have drained") {}
    let at = Instant::now();
    signal(&child, Signal::TERM);
    assert_eq!(ended(&mut child).code(), Some(75));
    assert!(at.elapsed() < AT_ONCE, "{:?}", at.elapsed());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("interrupted: nothing was changed"), "{rest}");
}

#[test]
fn a_command_that_writes_says_at_the_first_signal_that_it_goes_on_and_ends_at_the_second() {
    // takes connections and never says a word
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = mute.local_addr().unwrap().to_string();
    let (mut child, mut said) = begun(tool().env("KAFKA_BOOTSTRAP_SERVERS", server).args([
        "reset",
        "--group",
        "g",
        "--to-earliest",
        "--execute",
    ]));
    let _connected = mute.accept().unwrap();
    signal(&child, Signal::INT);
    let answer = line(&mut said);
    assert!(answer.contains("interrupt again"), "{answer}");
    let at = Instant::now();
    signal(&child, Signal::INT);
    assert_eq!(ended(&mut child).code(), Some(75));
    assert!(at.elapsed() < AT_ONCE, "{:?}", at.elapsed());
}
