//! Servers end with their owner, however it ends.

use std::path::Path;

use devstack::{Kind, Launch, Stack, Supervisor};

use crate::{
    reexec::{Role, command, first_words},
    support::{is_free, runs, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_drop_nothing_is_left() {
    let stack = Stack::builder()
        .redis()
        .postgres()
        .clickhouse()
        .start()
        .await
        .unwrap();
    let pids = [
        stack.redis().pid(),
        stack.postgres().pid(),
        stack.clickhouse().pid(),
    ]
    .map(Option::unwrap);
    let ports = [
        stack.redis().port(),
        stack.postgres().port(),
        stack.clickhouse().port(),
        stack.clickhouse().native_port,
    ];
    let dir = stack.dir().to_owned();
    stack.shutdown().await;
    assert_eq!(pids.map(runs), [false; 3]);
    assert_eq!(ports.map(is_free), [true; 4]);
    assert!(!dir.exists(), "{}", dir.display());
}

#[tokio::test]
async fn a_stack_ends_with_a_panicking_owner() {
    let stack = Stack::builder().redis().start().await.unwrap();
    let pid = stack.redis().pid().unwrap();
    let owner = std::thread::spawn(move || {
        let _owned = stack;
        panic!("on purpose");
    });
    assert!(owner.join().is_err());
    assert!(!runs(pid));
}

/// Starts a child that owns these servers, kills it with `-9`, and sees the servers go.
fn owner_dies(role: &Role<'_>, servers: &[Kind], environment: &[(&str, String)]) -> String {
    let mut child = command(role, servers)
        .envs(environment.iter().cloned())
        .spawn()
        .unwrap();
    let said = first_words(&mut child);
    let mut words = said.split(' ');
    assert_eq!(words.next(), Some("ready"), "{said}");
    let dir = words.next().unwrap().to_owned();
    let pids: Vec<u32> = words.map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), servers.len());
    assert!(pids.iter().copied().all(runs));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the servers to end", || !pids.iter().copied().any(runs));
    dir
}

#[test]
fn killing_the_owner_of_a_private_stack_leaves_no_server_and_no_directory() {
    let all = [Kind::Postgres, Kind::Kafka, Kind::Redis, Kind::ClickHouse];
    let dir = owner_dies(&Role::PrivateOwner, &all, &[]);
    wait_for("its directory to go", || !Path::new(&dir).exists());
}

#[test]
fn killing_the_owner_of_a_demo_leaves_its_data_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let port = devstack::free_port().unwrap();
    let environment = [("ENGAGE_PORT_REDIS", port.to_string())];
    owner_dies(&Role::DemoOwner(dir.path()), &[Kind::Redis], &environment);
    assert!(dir.path().join("redis/appendonlydir").is_dir());
    let log = std::fs::read_to_string(dir.path().join("log/redis.log")).unwrap();
    assert!(
        log.contains("User requested shutdown"),
        "SIGTERM, not SIGKILL: {log}"
    );
}

#[test]
fn any_other_process_ends_with_its_supervisor_and_passes_the_gate_with_its_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let supervisor = Supervisor::attached().unwrap();
    let launch = Launch::new("other", "sh", &log)
        .args([
            "-c",
            r#"echo "$1 $GREETING"; exec sleep 1000"#,
            "sh",
            "a b;c",
        ])
        .env("GREETING", "hello");
    let mut process = supervisor.spawn(&launch).unwrap();
    wait_for("its words", || {
        std::fs::read_to_string(&log).unwrap() == "a b;c hello\n"
    });
    assert_eq!(process.ended(), None);
    let pid = process.pid();
    drop((process, supervisor));
    wait_for("it to end", || !runs(pid));
}
