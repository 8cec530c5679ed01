//! `docker-compose.yml` and every overlay of `k8s/`, as they are rendered: what would really be deployed.
//!
//! Invariant: tests look at rendered output only, never at the sources that it is made from.
#![expect(clippy::unwrap_used, reason = "a test harness fails by panicking")]

mod container;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

pub use container::{Container, Probe};

/// The services of the pipeline, by the names of their binaries.
pub const SERVICES: [&str; 4] = [
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
];

/// The overlays of `k8s/` and the Compose file.
#[derive(Debug)]
pub struct Rendered {
    /// Resources by overlay.
    pub overlays: BTreeMap<String, Vec<Value>>,
    /// The Compose file with all profiles.
    pub compose: Value,
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything, rendered once per process by `deploy/validate/render.sh`.
///
/// # Panics
/// Where it does not render; the reason is what the script said.
#[must_use]
pub fn rendered() -> &'static Rendered {
    static RENDERED: OnceLock<Rendered> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let script = root().join("deploy/validate/render.sh");
        let output = Command::new(script).arg(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "render.sh failed: {said}");
        read(dir.path())
    })
}

fn read(dir: &Path) -> Rendered {
    let mut overlays = BTreeMap::new();
    let mut compose = None;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "compose" {
            compose = Some(value);
        } else {
            overlays.insert(name, value.as_array().unwrap().clone());
        }
    }
    assert!(overlays.len() >= 3, "only {:?} are there", overlays.keys());
    Rendered {
        overlays,
        compose: compose.unwrap(),
    }
}

/// The resources of a kind.
pub fn of_kind<'a>(documents: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |doc| doc["kind"] == kind)
}

/// `metadata.name`.
#[must_use]
pub fn name(document: &Value) -> &str {
    text_of(&document["metadata"]["name"])
}

/// A string, or nothing.
#[must_use]
pub fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list; none where there is no list.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The strings of a list.
#[must_use]
pub fn texts(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|element| text_of(element).to_owned())
        .collect()
}

/// Every container of every overlay and of the Compose file.
#[must_use]
pub fn containers() -> Vec<Container> {
    let rendered = rendered();
    let of_overlays = rendered
        .overlays
        .iter()
        .flat_map(|(overlay, documents)| container::of_overlay(overlay, documents));
    of_overlays
        .chain(container::of_compose(&rendered.compose))
        .collect()
}

/// The containers of a service, one per overlay and one of the Compose file.
///
/// # Panics
/// Where somewhere it has none.
#[must_use]
pub fn containers_of(service: &str) -> Vec<Container> {
    let found: Vec<_> = containers()
        .into_iter()
        .filter(|container| container.image_name() == format!("engage/{service}"))
        .collect();
    let deployments = rendered().overlays.len() + 1;
    let places: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.len() >= deployments,
        "{service} is deployed only as {places:?}"
    );
    found
}

/// The names of the files that `deploy/secrets.sh` makes.
///
/// # Panics
/// Where it makes none.
#[must_use]
pub fn secrets() -> Vec<String> {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    let made = SECRETS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let script = root().join("deploy/secrets.sh");
        let status = Command::new(script).arg(dir.path()).status().unwrap();
        assert!(status.success(), "deploy/secrets.sh failed");
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .collect()
    });
    made.clone()
}
