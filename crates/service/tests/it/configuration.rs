//! The layers, their errors, and the commands that show them.

use std::fs;

use tempfile::tempdir;

use crate::process::{Running, output};

#[test]
fn all_errors_of_all_layers_are_told_at_once_with_their_origin() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("sample.toml");
    fs::write(
        &file,
        "mode = \"obediant\"\n[batch]\nrows = 0\nevry = \"1s\"\n[databse]\nurl = \"x\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let environment = [
        ("BATCH_EVERY", "soon"),
        ("LOG_FORMAT", "xml"),
        ("ADMIN_ADDR", "9101"),
        ("DATABASE_URL_FILE", "/nowhere/url"),
    ];
    let (code, log, stderr) = output(
        &[
            "--config",
            file,
            "--set",
            "lifecycle.drain_deadline=never",
            "--set",
            "nothing",
        ],
        &environment,
    );
    assert_eq!(code, 64, "{stderr}");
    let told = [
        "10 problems in the configuration",
        &format!("mode: there is no choice `obediant` (found `obediant` in {file}:1)"),
        "did you mean `obedient`?",
        &format!("batch.rows: integer `0` does not fit (found `0` in {file}:3)"),
        "right: a whole number from 1 up",
        &format!("batch.evry: there is no such key ({file}:4)"),
        "did you mean `batch.every`?",
        &format!("databse: there is no such key ({file}:5)"),
        "did you mean `database`?",
        "batch.every: ",
        "(found `soon` in environment variable BATCH_EVERY)",
        "one of `json`, `pretty`",
        "right: an address and a port as in `127.0.0.1:9101`",
        "cannot read /nowhere/url: ",
        "(found `never` in --set)",
        "next:   sample check",
    ];
    let missing: Vec<_> = told
        .iter()
        .filter(|text| !stderr.contains(**text))
        .collect();
    assert!(missing.is_empty(), "not told: {missing:#?}\n{stderr}");
    assert!(
        stderr.contains("`--set nothing` names no key and value"),
        "{stderr}"
    );
    assert_eq!(
        log.lines()
            .filter(|line| line.contains(r#""level":"ERROR""#))
            .count(),
        1,
        "{log}"
    );
}

#[test]
fn a_later_layer_wins_and_show_names_it() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("sample.toml");
    fs::write(
        &file,
        "[batch]\nrows = 2\nevery = \"3s\"\n[kafka.properties]\nlinger.ms = 7\n",
    )
    .unwrap();
    let environment = [
        ("BATCH_ROWS", "4"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1"),
        ("KAFKA_PROP_QUEUED_MIN_MESSAGES", "9"),
        ("DATABASE_URL", "postgres://engage:hush@db/engage"),
        ("KAFKA_BOOTSTRAP_SERVER", "typo"),
    ];
    let file = file.to_str().unwrap();
    let arguments = [
        "config",
        "show",
        "--config",
        file,
        "--set",
        "kafka.bootstrap_servers=b:2",
    ];
    let (code, stdout, stderr) = output(&arguments, &environment);
    assert_eq!(code, 0, "{stderr}");
    let row = |key: &str| {
        let line = stdout
            .lines()
            .find(|line| line.split(' ').next() == Some(key))
            .unwrap_or_else(|| panic!("no {key}:\n{stdout}"));
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("batch.rows"), "4 environment variable BATCH_ROWS");
    assert_eq!(row("batch.every"), format!("3s {file}:3"));
    assert_eq!(row("kafka.bootstrap_servers"), "b:2 --set");
    assert_eq!(row("kafka.properties.linger.ms"), format!("7 {file}:5"));
    assert_eq!(
        row("kafka.properties.queued.min.messages"),
        "9 environment variable KAFKA_PROP_QUEUED_MIN_MESSAGES"
    );
    assert_eq!(
        row("database.url"),
        "postgres://engage:********@db/engage environment variable DATABASE_URL"
    );
    assert_eq!(row("log.format"), "- default (LOG_FORMAT)");
    assert!(stderr.contains("KAFKA_BOOTSTRAP_SERVER is not known and not used; did you mean KAFKA_BOOTSTRAP_SERVERS?"), "{stderr}");
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("url");
    fs::write(&file, "hush-hush\n").unwrap();
    let mut running = Running::start(&[("DATABASE_URL_FILE", file.to_str().unwrap())]);
    running.signal("TERM");
    running.wait_for("stopping");
    let ended = running.ended();
    assert!(ended.log.contains(r#""url_length":9"#), "{}", ended.log);
    assert!(!ended.log.contains("hush"), "{}", ended.log);

    let both = [
        ("DATABASE_URL", "hush"),
        ("DATABASE_URL_FILE", file.to_str().unwrap()),
    ];
    let (code, _, stderr) = output(&["config", "show"], &both);
    assert_eq!(code, 64);
    assert!(
        stderr.contains("DATABASE_URL and DATABASE_URL_FILE are both set"),
        "{stderr}"
    );
    assert!(!stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_missing_file_and_a_broken_one_are_named() {
    let (code, _, stderr) = output(&["--config", "/nowhere/sample.toml"], &[]);
    assert_eq!(code, 64);
    assert!(
        stderr.contains("cannot read the configuration file /nowhere/sample.toml: No such file"),
        "{stderr}"
    );

    let dir = tempdir().unwrap();
    let file = dir.path().join("broken.toml");
    fs::write(&file, "a = \n").unwrap();
    let (code, _, stderr) = output(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(code, 64);
    assert!(
        stderr.contains("not TOML: ") && stderr.contains("broken.toml:1"),
        "{stderr}"
    );
}

#[test]
fn bad_usage_exits_64_and_help_names_the_environment() {
    assert_eq!(output(&["--no-such-flag"], &[]).0, 64);
    let (code, help, _) = output(&["--help"], &[]);
    assert_eq!(code, 0);
    assert!(
        help.contains("DATABASE_URL") && help.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{help}"
    );
    assert!(output(&["--version"], &[]).1.starts_with("sample 0."));
}

#[test]
fn check_reports_findings_as_lines_and_as_json_with_the_exit_code_of_the_gravest() {
    let (code, table, _) = output(&["check"], &[("SAMPLE_GATE", "/nowhere")]);
    assert_eq!(code, 69, "{table}");
    assert!(
        table.contains("PROBLEM  gate") && table.contains("remedy: create the file"),
        "{table}"
    );

    let (code, json, _) = output(&["check", "-o", "json"], &[("SAMPLE_GATE", "/")]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["ok"].as_bool()), (0, Some(true)));

    let (code, json, _) = output(&["check", "-o", "json"], &[("BATCH_ROWS", "many")]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["exit"].as_u64()), (64, Some(64)));
    assert_eq!(json["findings"][0]["what"], "batch.rows");
}

#[test]
fn the_example_environment_loads_as_it_stands_and_names_every_common_variable() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.env.example")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs: Vec<_> = lines
        .map(|line| {
            line.split_once('=')
                .unwrap_or_else(|| panic!("not NAME=value: {line}"))
        })
        .collect();
    let (code, _, stderr) = output(&["config", "show"], &pairs);
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
    let common = service::config::COMMON_ENV.iter().map(|key| key.name);
    let missing: Vec<_> = common
        .filter(|name| !pairs.iter().any(|(set, _)| set == name))
        .collect();
    assert!(missing.is_empty(), "not in .env.example: {missing:?}");
}
