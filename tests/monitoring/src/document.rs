//! docs/metrics.md, from the lists in the code.
//!
//! Invariant: the same lists give the same text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use service::metrics::{Kind, Label, Metric, Unit, Values};

use crate::inventory::exporters;

const HEAD: &str = "# Metrics\n\n\
Generated from the lists in the code by `cargo run -p monitoring --example metrics`; a test compares. Each process shows its own at \
`/metrics` on its admin port. Counters whose labels have known values are 0 from the start. `job` and `instance` are added by whoever \
scrapes. How they are used: the dashboards in `deploy/grafana/dashboards`, the alerts in `deploy/prometheus/rules`, and what to do \
about those in [operations](operations.md).\n\n";

/// The whole document.
#[must_use]
pub fn render() -> String {
    let mut text = String::from(HEAD);
    ports(&mut text);
    text.push_str("\n## All metrics\n\n| metric | kind, unit | labels | from | meaning |\n|---|---|---|---|---|\n");
    for (metric, from) in merged() {
        // writing to a String cannot fail
        let _ = writeln!(text, "{}", row(&metric, &from));
    }
    aliases(&mut text);
    buckets(&mut text);
    text
}

fn ports(text: &mut String) {
    text.push_str("| process | admin port |\n|---|---|\n");
    for exporter in exporters() {
        let _ = writeln!(text, "| {} | {} |", exporter.name, exporter.port);
    }
}

/// One entry a name; where processes know other values of a label, all of them.
fn merged() -> Vec<(Metric, Vec<(&'static str, Metric)>)> {
    let mut all: BTreeMap<&str, Vec<(&'static str, Metric)>> = BTreeMap::new();
    for exporter in exporters() {
        for metric in exporter.metrics {
            all.entry(metric.name)
                .or_default()
                .push((exporter.name, metric));
        }
    }
    all.into_values().map(|from| (from[0].1, from)).collect()
}

fn row(metric: &Metric, from: &[(&'static str, Metric)]) -> String {
    let names: Vec<&str> = from.iter().map(|(name, _)| *name).collect();
    let by = if names.len() == exporters().len() {
        "all".to_owned()
    } else {
        names.join(", ")
    };
    let labels: Vec<String> = (0..metric.labels.len())
        .map(|index| label(index, from))
        .collect();
    let labels = if labels.is_empty() {
        "none".to_owned()
    } else {
        labels.join("; ")
    };
    format!(
        "| `{}` | {}, {} | {labels} | {by} | {} |",
        metric.name,
        kind(metric.kind),
        unit(metric.unit),
        metric.help
    )
}

fn label(index: usize, from: &[(&'static str, Metric)]) -> String {
    let name = from[0].1.labels[index].name;
    let mut told: Vec<String> = Vec::new();
    for (process, metric) in from {
        let values = values(metric.labels[index], process);
        told.extend(
            values
                .into_iter()
                .filter(|value| !told.contains(value))
                .collect::<Vec<_>>(),
        );
    }
    format!("`{name}`: {}", told.join(", "))
}

fn values(label: Label, process: &str) -> Vec<String> {
    match label.values {
        Values::Service => vec![format!("`{process}`")],
        Values::OneOf(values) => values.iter().map(|value| format!("`{value}`")).collect(),
        Values::Any(what) => vec![what.to_owned()],
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "number",
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::State => "state",
    }
}

fn aliases(text: &mut String) {
    text.push_str("\n## Second names\n\nFor dashboards older than ours the same series are shown under a second name, too.\n\n| second name | metric |\n|---|---|\n");
    for (metric, _) in merged() {
        if let Some(alias) = metric.alias {
            let _ = writeln!(text, "| `{alias}` | `{}` |", metric.name);
        }
    }
}

fn buckets(text: &mut String) {
    text.push_str(
        "\n## Buckets\n\nUpper bounds; `+Inf` follows.\n\n| histogram | bounds |\n|---|---|\n",
    );
    for (metric, _) in merged() {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, bounds.join(", "));
        }
    }
}
