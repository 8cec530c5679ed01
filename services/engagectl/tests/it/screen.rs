//! `top` and `lag --watch` on a pseudo-terminal and in a pipe.

use std::net::SocketAddr;
use std::process::Command;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::support::{Running, texts, tool};
use crate::terminal::Terminal;

/// ECMA-48 / xterm: the second screen, and back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

const METRICS: &str = "\
engage_events_consumed_total{topic=\"t\"} 100
engage_consumer_lag{topic=\"t\",partition=\"0\",group=\"g\"} 4711
engage_breaker_state{endpoint=\"crm\"} 2
";

/// An admin port with what services say there.
async fn admin() -> SocketAddr {
    let not_ready =
        r#"{"ok":false,"conditions":[{"name":"redis","ok":false,"reason":"connection refused"}]}"#;
    let app = Router::new()
        .route("/metrics", get(|| async { METRICS }))
        .route(
            "/readyz",
            get(move || async move { (StatusCode::SERVICE_UNAVAILABLE, not_ready) }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

fn top(addr: SocketAddr) -> Command {
    let mut command = tool();
    command
        .args(["top", "--every", "100ms", "--admin"])
        .arg(format!("sink=http://{addr}"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_shows_every_service_and_q_gives_the_terminal_back() {
    let mut terminal = Terminal::start(&mut top(admin().await));
    terminal.until(ENTER);
    terminal.until("4711");
    terminal.until("connection");
    terminal.until("crm");
    assert!(!terminal.is_cooked(), "keys come one by one");
    terminal.type_in("q");
    let status = terminal.ended();
    assert!(status.success(), "{status}");
    assert!(
        terminal.seen.contains(LEAVE) && terminal.seen.contains(SHOW_CURSOR),
        "{:?}",
        terminal.seen
    );
    assert!(terminal.is_cooked());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_ctrl_c_and_a_signal_give_the_terminal_back_too() {
    let addr = admin().await;
    for by_key in [true, false] {
        let mut terminal = Terminal::start(&mut top(addr));
        terminal.until("4711");
        match by_key {
            true => terminal.type_in("\x03"),
            false => kill_process(terminal.pid(), Signal::TERM).unwrap(),
        }
        assert!(terminal.ended().success());
        assert!(
            terminal.seen.contains(LEAVE) && terminal.is_cooked(),
            "by key: {by_key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colors_are_there_unless_no_color_is_set() {
    let addr = admin().await;
    let colored = |value: Option<&str>| {
        let mut terminal = Terminal::start(top(addr).envs(value.map(|value| ("NO_COLOR", value))));
        terminal.until("4711");
        terminal.type_in("q");
        terminal.ended();
        // of a palette: yellow, for what is not ready
        terminal.seen.contains("38;5;3;")
    };
    assert!(colored(None) && colored(Some("")));
    assert!(!colored(Some("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pipe_there_is_a_line_for_each_service_and_nothing_else() {
    let addr = admin().await;
    let mut running = Running::start(&mut top(addr));
    let line = running.line();
    assert!(
        line.contains(" sink rate - ") && line.contains("lag 4711"),
        "{line}"
    );
    assert!(
        line.ends_with("not ready: redis: connection refused"),
        "{line}"
    );
    assert!(
        running
            .line()
            .ends_with("sink: the breaker of endpoint crm is open")
    );
    assert!(
        running.line().contains(" sink rate 0/s "),
        "the second look has a rate"
    );
    running.interrupt();
    assert!(running.ended().success());

    let output = top(addr)
        .args(["-o", "json", "--count", "2"])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(
        output.status.success() && !out.contains('\x1b'),
        "{out}{err}"
    );
    let objects: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[1]["services"][0]["state"], "not_ready");
    assert_eq!(objects[1]["services"][0]["lag"], 4711.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_said_to_be_and_holds_up_no_other() {
    let mut command = top(admin().await);
    command.args(["--admin", "gone=http://127.0.0.1:9", "--count", "1"]);
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    assert!(
        out.contains(" gone rate - ") && out.contains("away: 127.0.0.1:9 cannot be connected to"),
        "{out}"
    );
    assert!(out.contains("lag 4711"), "{out}");
}
