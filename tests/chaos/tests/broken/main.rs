//! Tests of the test: services that break a rule on purpose, under the faults that the rule is for. The run must find it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use ::faults::Rule;
use chaos::faults::{Class, all};
use chaos::run::{Outcome, RunOptions, run};
use chaos::{Patience, RunDir};
use engagectl::pipeline::SERVICES;
use tokio_util::sync::CancellationToken;
use verify::{Sink, SinkReport};

/// A run of some classes with a rule broken; its directory stays until what it found was looked at.
async fn under(rule: Rule, seed: u64, seconds: u64, classes: &[&str]) -> (Outcome, RunDir) {
    let dir = RunDir::new(&format!("broken-{}", rule.name()));
    let test = std::env::current_exe().unwrap();
    let of = |class: &&'static Class| classes.contains(&class.name);
    let options = RunOptions {
        seed,
        duration: Duration::from_secs(seconds),
        every: chaos::schedule::CLOSEST,
        classes: all().filter(of).collect(),
        point_rounds: 0,
        recovery_rounds: 0,
        outage: None,
        rate: 150.0,
        bursts: None,
        services: SERVICES.to_vec(),
        replicas: 2,
        full_compiler: false,
        longest_freeze: Duration::from_secs(10),
        patience: Patience {
            refusal: Duration::from_secs(40),
            ready: Duration::from_secs(40),
            drain: Duration::from_secs(40),
        },
        broken: Some(rule),
        enough: CancellationToken::new(),
        dir: dir.path().to_owned(),
        bin: test.parent().and_then(Path::parent).unwrap().to_owned(),
        again: format!("cargo test -p chaos --test broken {}", rule.name()),
    };
    assert_eq!(options.classes.len(), classes.len(), "{classes:?}");
    let outcome = Box::pin(run(&options)).await.unwrap();
    assert!(!outcome.is_good(), "nothing was found:\n{outcome}");
    (outcome, dir)
}

fn sink(outcome: &Outcome, name: Sink) -> &SinkReport {
    let mut sinks = outcome.report.sinks.iter();
    sinks.find(|report| report.sink == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_lineage_check_what_debezium_sends_again_counts_twice() {
    let (outcome, _dir) = under(Rule::LineageCheck, 1, 10, &["connect.rollback"]).await;
    assert!(sink(&outcome, Sink::Enriched).surplus > 0, "{outcome}");
    assert!(sink(&outcome, Sink::Clickhouse).violations > 0, "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_effect_first_a_kill_loses_a_batch() {
    let classes = ["clickhouse.down", "process.kill"];
    let (outcome, _dir) = under(Rule::EffectFirst, 1, 40, &classes).await;
    assert!(sink(&outcome, Sink::Clickhouse).missing > 0, "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_tail_of_the_output_a_foreign_offset_of_the_enricher_is_a_hole() {
    let (outcome, _dir) = under(Rule::ResumeFromTail, 1, 0, &["offsets.forwarded"]).await;
    assert!(sink(&outcome, Sink::Enriched).missing > 0, "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_proof_of_a_commit_a_foreign_offset_of_a_reader_is_not_refused() {
    let (outcome, _dir) = under(Rule::ResumeProof, 1, 0, &["offsets.forwarded"]).await;
    let mut failures = outcome.failures.iter();
    assert!(
        failures.any(|failure| failure.contains("names its refusal")),
        "{outcome}"
    );
}
