//! Health, metrics, the health check, and traces at a collector.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use tempfile::tempdir;

use crate::process::{Running, output};

#[test]
fn readyz_follows_its_conditions_and_healthcheck_exits_by_it() {
    let dir = tempdir().unwrap();
    let gate = dir.path().join("gate");
    let running = Running::start(&[("SAMPLE_GATE", gate.to_str().unwrap())]);
    let addr = running.admin.to_string();
    let healthcheck = |arguments: &[&str]| {
        output(
            &[&["healthcheck"], arguments].concat(),
            &[("ADMIN_ADDR", &addr)],
        )
    };

    let (status, body) = running.get("/readyz");
    assert_eq!(status, 503);
    assert!(
        body.contains(r#""name":"gate","ok":false,"reason":"#),
        "{body}"
    );
    let (code, said, _) = healthcheck(&[]);
    assert_eq!(
        (code, said),
        (1, format!("gate: {} does not exist\n", gate.display()))
    );
    assert_eq!(healthcheck(&["--live"]).0, 0);

    fs::write(&gate, "").unwrap();
    assert_eq!(running.get("/readyz").0, 200);
    assert_eq!(healthcheck(&[]).0, 0);

    fs::remove_file(&gate).unwrap();
    assert_eq!(running.get("/readyz").0, 503);
}

#[test]
fn healthcheck_exits_1_when_nobody_listens() {
    let (code, said, _) = output(&["healthcheck"], &[("ADMIN_ADDR", "127.0.0.1:1")]);
    assert_eq!(code, 1);
    assert!(said.starts_with("no answer from "), "{said}");
}

#[test]
fn metrics_have_buckets_build_memory_and_the_aliases() {
    let running = Running::start(&[]);
    let (status, text) = running.get("/metrics");
    assert_eq!(status, 200);
    let shown = [
        "engage_freshness_seconds_bucket{sink=\"sample\",le=\"0.05\"} 1",
        "engage_freshness_seconds_bucket{sink=\"sample\",le=\"0.025\"} 0",
        "processing_latency_seconds_bucket{sink=\"sample\",le=\"0.05\"} 1",
        "engage_sink_errors_total{sink=\"sample\",kind=\"outage\"} 1",
        "sink_errors_total{sink=\"sample\",kind=\"outage\"} 1",
        "engage_events_consumed_total{topic=\"topic\"} 3",
        "processed_events_total{topic=\"topic\"} 3",
        "engage_sink_errors_total{sink=\"sample\",kind=\"bad_row\"} 0",
        "engage_ready{condition=\"running\"} 1",
        "# HELP engage_freshness_seconds Commit in Postgres to visible in the sink",
        "process_start_time_seconds ",
        "engage_build_info{version=\"",
        "process_resident_memory_bytes ",
    ];
    let lines: Vec<_> = text.lines().collect();
    let missing: Vec<_> = shown
        .iter()
        .filter(|start| !lines.iter().any(|line| line.starts_with(**start)))
        .collect();
    assert!(missing.is_empty(), "missing {missing:#?} in\n{text}");
}

#[test]
fn the_last_span_reaches_the_collector_before_the_process_ends() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || receive(&collector));
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_SERVICE_NAME", "my-sample"),
    ];
    let running = Running::start(&environment);
    running.signal("TERM");
    let ended = running.ended();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (request, body) = received.join().unwrap();
    assert_eq!(request, "POST /v1/traces HTTP/1.1");
    let holds = |text: &str| {
        body.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(
        holds("my-sample") && holds("begin"),
        "{}",
        String::from_utf8_lossy(&body)
    );
    let began = ended
        .log
        .lines()
        .find(|line| line.contains("\"began\""))
        .unwrap();
    assert!(began.contains("\"trace_id\":\""), "{began}");
}

/// One request, answered with 200: its first line and its body.
fn receive(collector: &TcpListener) -> (String, Vec<u8>) {
    let (stream, _) = collector.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
        if lines.len() == 1 {
            lines[0] = line.trim().to_owned();
        }
    }
    let length = lines
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    (lines.swap_remove(0), body)
}
