//! `doctor` against real servers: a healthy stack, and mistakes made on purpose, each of which must be named with its remedy.

mod looks;
mod mistakes;
mod world;

use std::time::Duration;

use serde_json::Value;

use crate::support::{Running, WAIT, texts, tool};
use crate::terminal::Terminal;
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_stack_has_no_error_and_each_mistake_is_named_with_its_remedy() {
    let world = World::start().await;
    world.is_well("at the beginning");
    looks::are_the_same_on_a_terminal_and_in_a_pipe(&world);
    mistakes::in_postgres(&world).await;
    mistakes::in_clickhouse(&world).await;
    mistakes::in_redis(&world).await;
    mistakes::in_topics(&world).await;
    mistakes::of_targets(&world);
    mistakes::servers_away(&world);
    mistakes::of_the_connector(&world).await;
    world.is_well("once everything is repaired");

    mistakes::a_lost_slot(&world).await;
    mistakes::a_slot_that_is_gone(&world).await;
    mistakes::a_wrong_wal_level(&world).await;
    world.shutdown().await;
}

/// Everything that a tool without servers can find.
fn nothing_there(words: &[&str]) -> std::process::Command {
    let mut command = tool();
    command
        .env("DATABASE_URL", "postgres://u:hush@127.0.0.1:9/x")
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
        .env("CONNECT_URL", "http://127.0.0.1:9")
        .env("CLICKHOUSE_URL", "http://127.0.0.1:9")
        .env("REDIS_URL", "redis://:hush@127.0.0.1:9")
        .args(words);
    command
}

#[test]
fn five_servers_away_are_five_findings_and_69_in_a_pipe_and_on_a_terminal() {
    let output = nothing_there(&["-o", "json", "doctor"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(69), "{out}{err}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let findings = value["findings"].as_array().unwrap();
    for server in ["postgres", "kafka", "connect", "clickhouse", "redis"] {
        let of_server = |one: &&Value| one["where"] == server && one["severity"] == "error";
        let count = findings.iter().filter(of_server).count();
        assert_eq!(count, 1, "{server}: {out}");
    }
    assert!(!out.contains("hush") && !err.contains("hush"), "{out}{err}");

    let mut terminal = Terminal::start(&mut nothing_there(&["doctor"]));
    assert_eq!(terminal.ended().code(), Some(69));
    let seen = terminal.seen.replace("\r\n", "\n");
    assert!(seen.contains("5 looked at, 5 errors"), "{seen}");
    assert!(seen.contains("next:"), "{seen}");
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/x", silent.local_addr().unwrap());
    let mut command = nothing_there(&["doctor", "--deadline", "3s"]);
    let begun = std::time::Instant::now();
    let output = command.env("DATABASE_URL", url).output().unwrap();
    let (out, _) = texts(&output);
    assert!(
        out.contains("has not answered everything within 3 s"),
        "{out}"
    );
    assert!(out.contains("redis"), "the others are there: {out}");
    assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
}

#[test]
fn a_watch_over_servers_that_are_away_says_so_once_and_goes_on() {
    let words = ["doctor", "--watch", "--every", "100ms"];
    let mut running = Running::start(&mut nothing_there(&words));
    let first = [running.line(), running.line()].concat();
    assert!(first.contains("postgres: does not answer"), "{first}");
    assert!(first.contains("connect: does not answer"), "{first}");
    let more = running.line_within(Duration::from_secs(2));
    assert_eq!(more, None, "nothing has changed");
    running.interrupt();
    assert_eq!(running.ended().code(), Some(0));
}

#[test]
fn wrong_words_are_refused_with_what_would_be_right() {
    for (words, part) in [
        (&["doctor", "--retained", "half"][..], "50%"),
        (&["doctor", "--endpoints", "/nowhere"], "webhook-forwarder"),
    ] {
        let output = nothing_there(words).output().unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(64), "{err}");
        assert!(err.contains(part), "{err}");
    }
}
