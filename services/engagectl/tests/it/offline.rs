//! What needs no server: help, completions, the configuration, and what is said about wrong words.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::{texts, tool};
use crate::terminal::Terminal;

#[test]
fn completions_are_a_script_that_the_shell_takes() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tool().args(["completions", shell]).output().unwrap();
        let (script, err) = texts(&output);
        assert!(
            output.status.success() && script.len() > 1000,
            "{shell}: {err}"
        );
        // where the shell is not there, it cannot be asked
        let Ok(mut checking) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() else {
            continue;
        };
        checking
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(
            checking.wait().unwrap().success(),
            "{shell} refuses the script"
        );
    }
}

#[test]
fn bash_completes_commands_and_their_values() {
    let (script, _) = texts(&tool().args(["completions", "bash"]).output().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    let complete = |words: &[&str]| {
        let typed = format!(
            "COMP_WORDS=({}); COMP_CWORD={};",
            words.join(" "),
            words.len() - 1
        );
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let tool = words[0];
        let ask =
            format!("_{tool} {tool} '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"");
        std::fs::write(&file, format!("{script}\n{typed}\n{ask}\n")).unwrap();
        texts(&Command::new("bash").arg(&file).output().unwrap()).0
    };
    assert_eq!(complete(&["engagectl", "ta"]).trim(), "tail");
    assert_eq!(complete(&["engagectl", "tail", "enr"]).trim(), "enriched");
}

#[test]
fn the_configuration_is_shown_with_origins_and_without_secrets_in_a_pipe_and_on_a_terminal() {
    let show = || {
        let mut command = tool();
        command
            .env("DATABASE_URL", "postgres://u:hush@db.example/x")
            .args(["config", "show"]);
        command
    };
    let output = show().output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    let line = out
        .lines()
        .find(|line| line.starts_with("database.url "))
        .unwrap();
    assert!(
        line.contains("postgres://u:********@db.example/x"),
        "{line}"
    );
    assert!(
        line.ends_with("environment variable DATABASE_URL"),
        "{line}"
    );
    let mut terminal = Terminal::start(&mut show());
    assert!(terminal.ended().success());
    assert!(!terminal.seen.contains("hush") && !out.contains("hush"));
    assert_eq!(terminal.seen.replace("\r\n", "\n"), out);
}

#[test]
fn wrong_words_end_with_64_and_say_what_would_be_right() {
    for (words, parts) in [
        (
            &["tail", "enriched", "--where", "percent >> 1"][..],
            &["at character 10", "engagement_percent > 50"][..],
        ),
        (
            &["tail", "enriched", "--where", "percent > 1"],
            &[
                "no record has",
                "engagement_percent",
                "engagectl tail --help",
            ],
        ),
        (&["tail", "enriched", "--since", "soon"], &["-2h"]),
        (&["verify", "--from", "-30s"], &["reversed", "--to now"]),
        (&["tail", "enrichd"], &["enriched"]),
        (&["tail", "dlq", "--service", "sink"], &["clickhouse-sink"]),
        (
            &["top", "--admin", "http://x"],
            &["enricher=http://127.0.0.1:9101"],
        ),
        (&["lag", "--max-behind", "fast"], &["--max-behind"]),
        (&["completions", "csh"], &["bash"]),
    ] {
        let output = tool().args(words).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {out}{err}");
        for part in parts {
            assert!(
                err.contains(part),
                "{words:?}: {part:?} is missing in\n{err}"
            );
        }
        assert!(out.is_empty(), "{out}");
    }
}

#[test]
fn with_json_every_error_is_the_last_line_on_standard_error() {
    for (words, code) in [
        (&["verify", "-o", "json", "--sinks", "kafka"][..], 64),
        (&["-ojson", "verfy"], 64),
        (&["--output=json", "verify", "--from", "-30s"], 64),
        (&["-o", "json", "lag"], 69),
    ] {
        let output = tool()
            .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
            .args(words)
            .output()
            .unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {err}");
        let last = err.lines().last().unwrap();
        let value: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(value["exit"], code, "{words:?}: {err}");
        assert!(value["error"].is_string() && out.is_empty(), "{err}{out}");
    }
    let (out, _) = texts(&tool().args(["-o", "json", "--help"]).output().unwrap());
    assert!(out.contains("Usage: engagectl"), "{out}");
}

#[test]
fn the_status_of_what_never_ran_names_every_process_and_is_69() {
    let dir = tempfile::tempdir().unwrap();
    let output = tool()
        .current_dir(&dir)
        .args(["-o", "json", "status"])
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(69), "{out}{err}");
    let states: serde_json::Value = serde_json::from_str(&out).unwrap();
    for name in ["enricher", "webhook-forwarder", "receiver"] {
        assert_eq!(states[name], "not running", "{out}");
    }
    assert!(states["generator"].is_null(), "{out}");
}

#[test]
fn a_broker_that_is_not_there_is_69_with_the_next_command() {
    for words in [&["tail", "enriched"][..], &["lag"]] {
        let output = tool()
            .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
            .args(words)
            .output()
            .unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(69), "{words:?}: {err}");
        assert!(
            err.contains("KAFKA_BOOTSTRAP_SERVERS") && err.contains("engagectl check"),
            "{err}"
        );
    }
}

#[test]
fn healthcheck_exits_by_the_answer_of_what_listens_and_1_where_nobody_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let answers = ["200 OK", "503 Service Unavailable"];
    let asked = std::thread::spawn(move || {
        let ask = |answer: &str| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let question: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            write!(stream, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
            question.into_iter().next().unwrap()
        };
        answers.map(ask)
    });
    let check = |words: &[&str]| {
        let mut command = tool();
        let output = command.arg("healthcheck").args(words).output().unwrap();
        (output.status.code().unwrap(), texts(&output).0)
    };
    let well = check(&["--addr", &addr, "--path", "/health"]);
    assert_eq!(well, (0, "ok\n".to_owned()));
    let (code, said) = check(&["--addr", &addr, "-o", "json"]);
    assert!(code == 1 && said.contains("\"ok\": false"), "{code} {said}");
    let [first, second] = asked.join().unwrap();
    assert!(first.starts_with("GET /health "), "{first}");
    assert!(second.starts_with("GET /readyz "), "{second}");
    let (code, said) = check(&["--addr", "127.0.0.1:1"]);
    assert!(code == 1 && said.contains("no answer"), "{code} {said}");
}
