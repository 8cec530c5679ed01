//! docs/metrics.md says what the code says, and Kubernetes gets the rules and dashboards that are tested.

use std::fs;

use monitoring::{document, files, kubernetes};

fn assert_current(name: &str, made: &str) {
    let written = fs::read_to_string(files::root().join(name)).unwrap();
    assert!(
        written == made,
        "{name} is old: cargo run -p monitoring --example metrics"
    );
}

#[test]
fn the_document_of_the_metrics_is_current() {
    assert_current("docs/metrics.md", &document::render());
}

#[test]
fn kubernetes_gets_the_rules_and_dashboards_of_deploy() {
    for (name, made) in kubernetes::written() {
        assert_current(name, &made);
    }
    let values = |path: &str| files::documents(&files::root().join(path));
    let rule = &values("k8s/components/monitoring/rules.yaml")[0];
    let groups: Vec<_> = files::rule_files()
        .iter()
        .flat_map(|path| files::documents(path))
        .flat_map(|file| file["groups"].as_sequence().unwrap().clone())
        .collect();
    assert_eq!(rule["spec"]["groups"].as_sequence(), Some(&groups));
    let map = &values("k8s/components/monitoring/dashboards.yaml")[0];
    for path in files::dashboards() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(map["data"][name].as_str(), Some(text.as_str()), "{name}");
    }
}
