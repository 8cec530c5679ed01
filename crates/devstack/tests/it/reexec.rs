//! This test binary once more, as another process: for what needs an environment or a death of its own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use devstack::{Builder, Kind, Needs, Stack};

const ROLE: &str = "DEVSTACK_TEST_ROLE";
const SERVERS: &str = "DEVSTACK_TEST_SERVERS";
const DIR: &str = "DEVSTACK_TEST_DIR";
/// Starts a line that the child says on purpose; the test harness prints others.
const SAYS: &str = "child: ";

/// What the child shall be.
pub(crate) enum Role<'a> {
    /// Holds a private stack until it is killed.
    PrivateOwner,
    /// Holds a demo stack until it is killed.
    DemoOwner(&'a Path),
    /// Starts a detached demo stack and ends.
    Detacher(&'a Path),
}

/// The child's command, to which a test may add environment.
pub(crate) fn command(role: &Role<'_>, servers: &[Kind]) -> Command {
    let names: Vec<&str> = servers.iter().map(|kind| kind.name()).collect();
    let (role, dir) = match role {
        Role::PrivateOwner => ("private", Path::new("")),
        Role::DemoOwner(dir) => ("demo", *dir),
        Role::Detacher(dir) => ("detacher", *dir),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "reexec::child", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(SERVERS, names.join(","))
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// What the child says: `ready DIR PID PID ..`, or the error.
pub(crate) fn first_words(child: &mut Child) -> String {
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    let said = lines
        .by_ref()
        .find_map(|line| line.split_once(SAYS).map(|(_, rest)| rest.to_owned()));
    said.expect("the child ended without a word")
        .replace('\u{1}', "\n")
}

#[tokio::test]
#[ignore = "the child of other tests, does nothing by itself"]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = std::env::var(DIR).unwrap();
    let builder = Stack::builder().needs(needs(&std::env::var(SERVERS).unwrap()));
    let builder: Builder = match role.as_str() {
        "private" => builder,
        "demo" => builder.demo(dir),
        _ => builder.demo(dir).detached(),
    };
    match builder.start().await {
        Err(error) => println!("{SAYS}{}", error.to_string().replace('\n', "\u{1}")),
        Ok(stack) => {
            println!("{SAYS}ready {} {}", stack.dir().display(), pids(&stack));
            if role != "detacher" {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn needs(names: &str) -> Needs {
    names
        .split(',')
        .fold(Needs::none(), |needs, name| match name {
            "postgres" => needs.postgres(),
            "kafka" => needs.kafka(),
            "connect" => needs.connect(),
            "redis" => needs.redis(),
            "clickhouse" => needs.clickhouse(),
            other => panic!("no server {other}"),
        })
}

fn pids(stack: &Stack) -> String {
    let servers = std::env::var(SERVERS).unwrap();
    let pids = servers.split(',').map(|name| match name {
        "postgres" => stack.postgres().pid(),
        "kafka" => stack.kafka().pid(),
        "connect" => stack.connect().pid(),
        "redis" => stack.redis().pid(),
        _ => stack.clickhouse().pid(),
    });
    pids.map(|pid| pid.unwrap().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}
