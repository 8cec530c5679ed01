//! Logs: JSON lines that say where a record stands and what became of the service, and hold neither a user nor a secret.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use devstack::{free_port, program_beside_test};
use e2e::{Content, Event, World};
use engagectl::pipeline::SERVICES;
use serde_json::Value;
use uuid::Uuid;

use crate::pipeline::{PATIENCE, eventually, pipeline};

/// Stands in everything that is nobody's business.
const PRIVATE: &str = "pr1vat3";

fn lines(world: &World, service: &str) -> Vec<String> {
    let path = world
        .stack()
        .dir()
        .join(format!("services/logs/{service}.log"));
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A line of the block that a process which ends writes on standard error, beside its line in the log on standard output: here both
/// are one file, and another test may have made a service end with the word to start it again.
fn is_for_people(line: &str, service: &str) -> bool {
    line.is_empty() || line.starts_with("  ") || line.starts_with(&format!("{service} stopped: "))
}

/// An event with a user, and one that nobody can read, both with private data; the user's id.
async fn private_events(world: &World) -> String {
    let user = Uuid::now_v7().to_string();
    let content = world.insert_content(Content::podcast(300)).await;
    let sql = "INSERT INTO engagement_events (content_id, user_id, event_type, duration_ms, device, raw_payload) \
               VALUES ($1::uuid, $2::uuid, 'play', 1000, $3, jsonb_build_object('who', $3))";
    world.sql(sql, &[&content, &user, PRIVATE]).await;
    let key = format!("{{\"content_id\":\"{content}\"}}");
    let poison = format!("\"{user} {PRIVATE}\"");
    let change = format!(
        "{{\"op\":\"c\",\"after\":{{\"id\":1,\"content_id\":\"{content}\",\"user_id\":\"{user}\",\"event_ts\":\"{PRIVATE}\"}},\
         \"source\":{{\"lsn\":1,\"ts_ms\":1}}}}"
    );
    // into a partition that the enricher knows as its own: in an empty one it would rightly refuse to begin behind this
    let event = world.insert_event(Event::play(&content, 1000)).await;
    world.clickhouse_row(&event).await;
    let enriched = world.addresses().platform_settings().topics.enriched;
    for (topic, key, value) in [
        ("cdc.public.engagement_events", &key, &poison),
        ("cdc.public.engagement_events", &key, &change),
        (enriched.as_str(), &key, &poison),
    ] {
        world.produce(topic, key, value.as_bytes()).await;
    }
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_json_name_the_record_and_hold_no_user_and_no_secret() {
    let (world, _turn) = pipeline().await;
    let user = private_events(world).await;
    let is_letter = |line: &Value| line["message"] == "record dead-lettered";
    for service in SERVICES {
        let letters = eventually(
            &format!("a dead letter in the log of {service}"),
            PATIENCE,
            async || {
                let parsed = lines(world, service);
                let parsed = parsed
                    .iter()
                    .filter(|line| !is_for_people(line, service))
                    .map(|line| serde_json::from_str::<Value>(line));
                let all: Vec<Value> = parsed
                    .collect::<Result<_, _>>()
                    .map_err(|e| e.to_string())?;
                for line in &all {
                    for key in ["timestamp", "level", "service", "target", "message"] {
                        assert!(line[key].is_string(), "{service}: no {key} in {line}");
                    }
                }
                let letters: Vec<Value> = all.into_iter().filter(is_letter).collect();
                if letters.is_empty() {
                    Err("none".into())
                } else {
                    Ok(letters)
                }
            },
        )
        .await;
        for letter in &letters {
            assert!(
                letter["topic"].is_string()
                    && letter["partition"].is_i64()
                    && letter["offset"].is_i64()
                    && letter["kind"].is_string(),
                "{letter}"
            );
        }
        let told = lines(world, service);
        for secret in [&user, PRIVATE, "ZW5nYWdlLWRlbW8tc2VjcmV0", "engage:engage@"] {
            let found: Vec<&String> = told.iter().filter(|line| line.contains(secret)).collect();
            assert!(found.is_empty(), "{service} tells {secret}: {found:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_in_the_life_of_a_service_is_one_line() {
    let (world, _turn) = pipeline().await;
    for service in SERVICES {
        let steps: Vec<String> = lines(world, service)
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["level"] == "INFO")
            .filter_map(|line| line["message"].as_str().map(str::to_owned))
            .collect();
        let count = |step: &str| steps.iter().filter(|s| *s == step).count();
        assert!(count("started") >= 1, "{service}: {steps:?}");
        // another test may have started it again
        assert!(
            count("partitions assigned") >= count("started"),
            "{service}: {steps:?}"
        );
        assert!(count("ready") >= 1, "{service}: {steps:?}");
    }
}

/// What is secret, by variable, for a service that reaches nothing.
fn secrets() -> BTreeMap<&'static str, String> {
    let with = |text: &str| text.replace("MARK", PRIVATE);
    [
        ("KAFKA_SASL_PASSWORD", "MARK"),
        ("DATABASE_URL", "postgres://u:MARK@127.0.0.1:1/x"),
        ("REDIS_URL", "redis://u:MARK@127.0.0.1:1"),
        ("CLICKHOUSE_PASSWORD", "MARK"),
        ("WEBHOOK_SECRET", "whsec_cHIxdmF0M3ByMXZhdDNwcjF2YXQzcHIx"),
        ("WEBHOOK_BEARER_TOKEN", "MARK"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20MARK"),
    ]
    .map(|(name, value)| (name, with(value)))
    .into()
}

#[test]
fn a_service_that_reaches_nothing_tells_no_secret_even_in_detail() {
    let running: Vec<_> = SERVICES
        .iter()
        .map(|service| {
            let log = std::env::temp_dir().join(format!("{service}-{}.log", Uuid::now_v7()));
            let (out, err) = (
                File::create(&log).unwrap(),
                File::options().append(true).open(&log),
            );
            let child = Command::new(program_beside_test(service))
                .env_clear()
                .envs(secrets())
                .env("RUST_LOG", "debug")
                .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
                .env("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext")
                .env("KAFKA_SASL_MECHANISM", "PLAIN")
                .env("KAFKA_SASL_USERNAME", "u")
                .env("CLICKHOUSE_URL", "http://127.0.0.1:1")
                .env("WEBHOOK_URL", "https://hooks.example.com/pr1vat3/path")
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
                .env("ADMIN_ADDR", format!("127.0.0.1:{}", free_port().unwrap()))
                .stdout(out)
                .stderr(err.unwrap())
                .spawn()
                .unwrap();
            (service, child, log)
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(8);
    for (service, mut child, log) in running {
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        child.wait().unwrap();
        let told = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        assert!(
            told.contains("\"started\""),
            "{service} has not begun: {told}"
        );
        for secret in [PRIVATE, "cHIxdmF0M3ByMXZhdDNwcjF2YXQzcHIx"] {
            assert!(!told.contains(secret), "{service} tells {secret}: {told}");
        }
    }
}
