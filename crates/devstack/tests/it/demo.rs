//! A demo directory: documented ports, data that stays, servers that survive the command that started them.

use std::{net::TcpListener, path::Path};

use devstack::{Kind, Launch, Stack, Supervisor, free_port};

use crate::{
    reexec::{Role, command, first_words},
    support::{is_free, redis, runs},
};

/// What a detached start of Redis on this port says.
fn up(dir: &Path, port: u16) -> String {
    let mut child = command(&Role::Detacher(dir), &[Kind::Redis])
        .env("ENGAGE_PORT_REDIS", port.to_string())
        .spawn()
        .unwrap();
    let said = first_words(&mut child);
    child.wait().unwrap();
    said
}

fn redis_of(dir: &Path) -> Option<u32> {
    Stack::status(dir)
        .into_iter()
        .find(|server| server.name == "redis")
        .unwrap()
        .pid
}

#[test]
fn detached_servers_survive_are_found_again_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let first = up(dir.path(), port);
    let pid = redis_of(dir.path()).unwrap();
    assert!(first.ends_with(&format!(" {pid}")), "{first}");
    assert_eq!(redis(port, "SET a 1").unwrap(), "+OK\r\n");
    assert_eq!(up(dir.path(), port), first, "a second start uses what runs");

    let service = Launch::new("other", "sleep", dir.path().join("log/other.log")).arg("1000");
    let supervisor = Supervisor::detached().with_run_files(&dir.path().join("run"));
    let other = supervisor.spawn(&service).unwrap().pid();
    assert_eq!(Stack::stop_all(dir.path()).unwrap(), ["other", "redis"]);
    assert!(!runs(pid) && !runs(other) && is_free(port));
    assert_eq!(redis_of(dir.path()), None);
    assert_eq!(Stack::stop_all(dir.path()).unwrap(), Vec::<String>::new());

    up(dir.path(), port);
    assert!(
        redis(port, "GET a").unwrap().contains('1'),
        "the data stays"
    );
    Stack::stop_all(dir.path()).unwrap();
}

#[test]
fn a_taken_port_is_named_with_its_server_and_its_variable() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    assert_eq!(
        up(dir.path(), port),
        format!(
            "Redis cannot start: port {port} is already taken; `ss -ltnp 'sport = :{port}'` shows by whom; \
             stop that process or set ENGAGE_PORT_REDIS to a free port"
        )
    );
}

#[test]
fn a_stack_does_not_stop_what_another_command_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    up(dir.path(), port);
    let pid = redis_of(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let adopted = runtime
        .block_on(Stack::builder().redis().demo(dir.path()).start())
        .unwrap();
    assert_eq!(
        (adopted.redis().pid(), adopted.redis().port()),
        (Some(pid), port)
    );
    drop(adopted);
    assert!(runs(pid));
    Stack::stop_all(dir.path()).unwrap();
    assert!(!runs(pid));
}
