//! The alert rules and the dashboards as Kubernetes takes them: kustomize reads nothing outside of `k8s/`, so they stand there a
//! second time.
//!
//! Invariant: nothing is said here that the files of `deploy/` do not say; text is indented, never changed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::files;

/// The files and what stands in them, from the root of the checkout.
///
/// # Panics
/// A file of `deploy/` that cannot be read.
#[must_use]
pub fn written() -> [(&'static str, String); 2] {
    [
        ("k8s/components/monitoring/rules.yaml", rules()),
        ("k8s/components/monitoring/dashboards.yaml", dashboards()),
    ]
}

fn rules() -> String {
    let mut text = "# deploy/prometheus/rules, by: cargo run -p monitoring --example metrics\n\
        apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: engage\nspec:\n  groups:\n"
        .to_owned();
    for path in files::rule_files() {
        let whole = read(&path);
        let (_, groups) = whole
            .split_once("groups:\n")
            .unwrap_or_else(|| panic!("{}: no groups", path.display()));
        indented(&mut text, "  ", groups);
    }
    text
}

fn dashboards() -> String {
    let mut text = "# deploy/grafana/dashboards, by: cargo run -p monitoring --example metrics\n\
        # Grafana's sidecar takes ConfigMaps with this label.\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: engage-dashboards\n  labels: { grafana_dashboard: \"1\" }\ndata:\n"
        .to_owned();
    for path in files::dashboards() {
        let name = path.file_name().unwrap_or_default().display();
        let _ = writeln!(text, "  {name}: |");
        indented(&mut text, "    ", &read(&path));
    }
    text
}

fn indented(text: &mut String, by: &str, lines: &str) {
    for line in lines.lines() {
        let by = if line.is_empty() { "" } else { by };
        let _ = writeln!(text, "{by}{line}");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
