//! The files of the checkout that name metrics: alert rules, dashboards, autoscalers.
//!
//! Invariant: an expression is found by the key that it stands under, wherever in the file that is.

use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub struct Used {
    /// The file, from the root of the checkout.
    pub file: String,
    /// PromQL.
    pub expression: String,
}

/// An alert rule.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The file, without its ending.
    pub group: String,
    /// Annotation `runbook_url`.
    pub runbook: Option<String>,
}

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every expression of a rule, a panel, a dashboard's variable or an autoscaler.
///
/// # Panics
/// A file that is no YAML.
#[must_use]
pub fn expressions() -> Vec<Used> {
    let mut all = Vec::new();
    for (dir, ending, keys) in [
        ("deploy/prometheus/rules", "yaml", &["expr"][..]),
        ("deploy/grafana/dashboards", "json", &["expr", "query"][..]),
        ("k8s", "yaml", &["expr", "query"][..]),
    ] {
        for path in below(&root().join(dir), ending) {
            for document in documents(&path) {
                collect(&document, keys, &mut |expression| {
                    all.push(Used {
                        file: relative(&path),
                        expression,
                    });
                });
            }
        }
    }
    all
}

/// Names of the series that recording rules make.
///
/// # Panics
/// A file that is no YAML.
#[must_use]
pub fn recorded() -> Vec<String> {
    let mut names = Vec::new();
    for path in rule_files() {
        for document in documents(&path) {
            collect(&document, &["record"], &mut |name| names.push(name));
        }
    }
    names
}

/// Every alert rule.
///
/// # Panics
/// A file that is no YAML.
#[must_use]
pub fn alerts() -> Vec<Alert> {
    let mut alerts = Vec::new();
    for path in rule_files() {
        let group = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        for document in documents(&path) {
            let groups = document["groups"]
                .as_sequence()
                .cloned()
                .unwrap_or_default();
            for rule in groups
                .iter()
                .filter_map(|g| g["rules"].as_sequence())
                .flatten()
            {
                if let Some(name) = rule["alert"].as_str() {
                    let runbook = rule["annotations"]["runbook_url"].as_str();
                    alerts.push(Alert {
                        name: name.to_owned(),
                        group: group.clone(),
                        runbook: runbook.map(str::to_owned),
                    });
                }
            }
        }
    }
    alerts
}

/// The files with rules.
#[must_use]
pub fn rule_files() -> Vec<PathBuf> {
    below(&root().join("deploy/prometheus/rules"), "yaml")
}

/// The dashboards.
#[must_use]
pub fn dashboards() -> Vec<PathBuf> {
    below(&root().join("deploy/grafana/dashboards"), "json")
}

/// The files with unit tests of rules.
#[must_use]
pub fn rule_tests() -> Vec<PathBuf> {
    below(&root().join("deploy/prometheus/tests"), "yaml")
}

/// The documents of a file; YAML, of which JSON is a part.
///
/// # Panics
/// It is none.
#[must_use]
pub fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the file was listed");
    let parts = serde_yaml_ng::Deserializer::from_str(&text);
    parts
        .map(|part| {
            serde::Deserialize::deserialize(part)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Files with this ending, in any folder below.
fn below(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn collect(value: &Value, keys: &[&str], found: &mut impl FnMut(String)) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                match (key.as_str(), value.as_str()) {
                    (Some(key), Some(text)) if keys.contains(&key) => found(text.to_owned()),
                    _ => collect(value, keys, found),
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, keys, found)),
        _ => {}
    }
}
