//! A machine that lacks a part: the error names the part, the server that needs it, and what to run.

use std::os::unix::fs::symlink;

use devstack::Kind;

use crate::reexec::{Role, command, first_words};

/// What starting `kind` says where only a shell is on PATH and the cache is empty.
fn said_without_anything(kind: Kind) -> String {
    let empty = tempfile::tempdir().unwrap();
    for tool in ["sh", "setsid", "rm", "sleep"] {
        symlink(format!("/usr/bin/{tool}"), empty.path().join(tool)).unwrap();
    }
    let mut child = command(&Role::PrivateOwner, &[kind])
        .env("PATH", empty.path())
        .env("ENGAGE_CACHE", empty.path().join("cache"))
        .env_remove("JAVA_HOME")
        .spawn()
        .unwrap();
    let said = first_words(&mut child);
    child.wait().unwrap();
    said
}

#[test]
fn a_missing_part_is_named_with_the_command_that_brings_it() {
    let redis = said_without_anything(Kind::Redis);
    assert_eq!(
        redis,
        "Redis cannot start: redis-server not found (looked in PATH); run deploy/provision/provision.sh"
    );
    let kafka = said_without_anything(Kind::Kafka);
    assert!(
        kafka.starts_with("Kafka cannot start: java not found (looked in JAVA_HOME and PATH)"),
        "{kafka}"
    );
    let clickhouse = said_without_anything(Kind::ClickHouse);
    assert!(
        clickhouse.starts_with("ClickHouse cannot start: clickhouse or libchdb.so not found"),
        "{clickhouse}"
    );
    assert!(
        clickhouse.contains("cache/clickhouse/libchdb.so"),
        "{clickhouse}"
    );
}
