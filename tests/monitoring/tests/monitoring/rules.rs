//! Prometheus' own tool checks the configuration and the rules, and runs their unit tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use monitoring::files;

fn promtool(arguments: &[&str], paths: &[&Path]) -> String {
    let run = Command::new("promtool")
        .args(arguments)
        .args(paths)
        .output();
    let output = run.unwrap_or_else(|error| {
        panic!("promtool: {error}; it comes with deploy/provision/provision.sh --dev")
    });
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

#[test]
fn the_configuration_of_prometheus_and_its_rules_are_valid() {
    for name in ["prometheus.yml", "prometheus-compose.yml"] {
        let path = files::root().join("deploy/prometheus").join(name);
        let said = promtool(&["check", "config"], &[&path]);
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn every_alert_fires_when_it_should_and_stays_calm_otherwise() {
    let tests = files::rule_tests();
    let paths: Vec<&Path> = tests.iter().map(AsRef::as_ref).collect();
    promtool(&["test", "rules"], &paths);

    let mut named = BTreeSet::new();
    for path in &tests {
        for document in files::documents(path) {
            let cases = document["tests"].as_sequence().unwrap().clone();
            for case in cases
                .iter()
                .flat_map(|case| case["alert_rule_test"].as_sequence())
                .flatten()
            {
                let fires = case["exp_alerts"]
                    .as_sequence()
                    .is_some_and(|a| !a.is_empty());
                named.insert((case["alertname"].as_str().unwrap().to_owned(), fires));
            }
        }
    }
    for alert in files::alerts() {
        for fires in [true, false] {
            assert!(
                named.contains(&(alert.name.clone(), fires)),
                "{} has no test in which it {}",
                alert.name,
                if fires { "fires" } else { "stays calm" }
            );
        }
    }
}
