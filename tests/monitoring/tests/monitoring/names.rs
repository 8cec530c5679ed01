//! Dashboards, rules and autoscalers name only what some process exports, and select only by labels that it has.

use std::collections::BTreeSet;

use monitoring::expression::{self, Asked};
use monitoring::{files, inventory};

/// Labels that the scrape adds, or that Prometheus makes itself.
const ADDED: &[&str] = &["job", "instance", "le", "pod", "namespace", "container"];
/// Series that Prometheus makes itself.
const MADE: &[&str] = &["up"];

fn asked() -> Vec<(String, Asked)> {
    let read = |used: files::Used| {
        let expression = used.expression.strip_prefix("label_values(");
        let expression = expression.and_then(|inside| inside.split_once(','));
        let text = expression.map_or(used.expression.as_str(), |(series, _)| series);
        (used.file, expression::read(text))
    };
    files::expressions().into_iter().map(read).collect()
}

#[test]
fn every_series_that_is_asked_for_is_exported_by_some_process() {
    let (known, recorded) = (inventory::series(), files::recorded());
    let asked = asked();
    assert!(asked.len() > 80, "only {} expressions found", asked.len());
    let is_known = |name: &String| {
        known.contains_key(name) || recorded.contains(name) || MADE.contains(&name.as_str())
    };
    let unknown: Vec<String> = asked
        .iter()
        .flat_map(|(file, asked)| asked.series.iter().map(move |name| (file, name)))
        .filter(|(_, name)| !is_known(name))
        .map(|(file, name)| format!("{file}: {name}"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_label_that_is_selected_by_is_one_of_its_series() {
    let known = inventory::series();
    let mut wrong = Vec::new();
    for (file, asked) in asked() {
        let mut labels: BTreeSet<&str> = ADDED.iter().copied().collect();
        for name in &asked.series {
            let of = known.get(name).map(|(metric, _)| metric.labels);
            labels.extend(of.into_iter().flatten().map(|label| label.name));
            if files::recorded().contains(name) {
                labels.insert("sink");
            }
        }
        for (series, label) in &asked.selections {
            let own = known
                .get(series)
                .map_or(&[][..], |(metric, _)| metric.labels);
            if !own.iter().any(|l| l.name == label) && !ADDED.contains(&label.as_str()) {
                wrong.push(format!("{file}: {series} has no label {label}"));
            }
        }
        for label in asked
            .groupings
            .iter()
            .filter(|l| !labels.contains(l.as_str()))
        {
            wrong.push(format!(
                "{file}: nothing in {:?} has a label {label}",
                asked.series
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_metric_of_ours_is_shown_on_a_dashboard_or_watched_by_an_alert() {
    let used: BTreeSet<String> = asked().into_iter().flat_map(|(_, a)| a.series).collect();
    let unused: BTreeSet<&str> = inventory::exporters()
        .iter()
        .flat_map(|exporter| exporter.metrics.iter())
        .map(|metric| metric.name)
        .filter(|name| !used.iter().any(|series| series.starts_with(name)))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn one_name_has_one_kind_and_the_same_labels_wherever_it_is_exported() {
    let exporters = inventory::exporters();
    for exporter in &exporters {
        for metric in &exporter.metrics {
            let others = exporters.iter().flat_map(|other| other.metrics.iter());
            for other in others.filter(|other| other.name == metric.name) {
                let names = |m: &service::metrics::Metric| -> Vec<&str> {
                    m.labels.iter().map(|label| label.name).collect()
                };
                assert_eq!(names(metric), names(other), "{}", metric.name);
                assert_eq!(metric.kind, other.kind, "{}", metric.name);
            }
            let same = exporter.metrics.iter().filter(|m| m.name == metric.name);
            assert_eq!(
                same.count(),
                1,
                "{} twice in {}",
                metric.name,
                exporter.name
            );
        }
    }
}
