//! Signals, drains, panics, failures, and the exit code of each.

use crate::process::{Running, output};

#[test]
fn sigterm_drains_and_exits_0() {
    let running = Running::start(&[]);
    running.signal("TERM");
    let ended = running.ended();
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert!(ended.log.contains("\"stopped cleanly\""), "{}", ended.log);
    assert_eq!(ended.stderr, "");
}

#[test]
fn sigint_stops_too() {
    let running = Running::start(&[]);
    running.signal("INT");
    assert_eq!(running.ended().code, 0);
}

#[test]
fn during_the_drain_it_is_alive_but_not_ready() {
    let mut running = Running::start(&[("SAMPLE_MODE", "slow"), ("SAMPLE_GATE", "/")]);
    assert_eq!(running.get("/readyz").0, 200);
    running.signal("TERM");
    running.wait_for("stopping");
    let (status, body) = running.get("/readyz");
    assert_eq!(status, 503);
    assert!(
        body.contains(r#"{"name":"running","ok":false,"reason":"stopping"}"#),
        "{body}"
    );
    assert_eq!(running.get("/livez").0, 200);
}

#[test]
fn a_second_sigterm_forces_the_stop() {
    let mut running = Running::start(&[("SAMPLE_MODE", "slow")]);
    running.signal("TERM");
    running.wait_for("stopping: finishing");
    running.signal("TERM");
    let ended = running.ended();
    assert_eq!(ended.code, 75);
    assert!(
        ended
            .stderr
            .contains("sample stopped: stopped by force after a second signal (SIGTERM)"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("work begun was dropped"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_drain_deadline_forces_the_stop_even_of_work_that_never_ends() {
    let running = Running::start(&[("SAMPLE_MODE", "deaf"), ("DRAIN_DEADLINE", "50ms")]);
    running.signal("TERM");
    let ended = running.ended();
    assert_eq!(ended.code, 75);
    assert!(
        ended.stderr.contains("the drain deadline of 50ms"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("work begun did not end and was abandoned"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_panic_in_a_task_is_an_internal_failure_under_the_name_of_the_task() {
    let ended = Running::start(&[("SAMPLE_MODE", "panic-in-task")]).ended();
    assert_eq!(ended.code, 70);
    assert!(
        ended
            .stderr
            .contains("sample stopped: loop panicked\n  cause:  as asked\n"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.log.contains("examples/sample.rs:"),
        "the place of the panic is logged: {}",
        ended.log
    );
}

#[test]
fn a_panic_in_a_thread_that_nobody_watches_stops_the_process_too() {
    let ended = Running::start(&[("SAMPLE_MODE", "panic-in-thread")]).ended();
    assert_eq!(ended.code, 70);
    assert!(
        ended.stderr.contains("panicked\n  cause:  as asked\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_failure_is_one_block_on_stderr_and_one_error_line_in_the_log() {
    let ended = Running::start(&[("SAMPLE_MODE", "broken")]).ended();
    assert_eq!(ended.code, 78);
    assert_eq!(
        ended.stderr,
        "\nsample stopped: the sample is broken\n  cause:  a test\n  next:   engagectl check\n  exit:   78\n"
    );
    let errors: Vec<_> = ended
        .log
        .lines()
        .filter(|line| line.contains(r#""level":"ERROR""#))
        .collect();
    assert_eq!(errors.len(), 1, "{}", ended.log);
    assert!(
        errors[0].contains(r#""error":"the sample is broken""#)
            && errors[0].contains(r#""exit":78"#),
        "{}",
        errors[0]
    );
}

#[test]
fn a_taken_admin_port_is_a_configuration_error_that_names_it() {
    let running = Running::start(&[]);
    let addr = running.admin.to_string();
    let (code, _, stderr) = output(&[], &[("ADMIN_ADDR", &addr)]);
    assert_eq!(code, 64);
    assert!(
        stderr.contains(&format!("cannot listen on the admin address {addr}")),
        "{stderr}"
    );
    assert!(
        stderr.contains("ADMIN_ADDR") && stderr.contains("next:   ss -ltnp"),
        "{stderr}"
    );
}
