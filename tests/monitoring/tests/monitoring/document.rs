//! docs/metrics.md says what the code says.

use std::fs;

use monitoring::{document, files};

#[test]
fn the_document_of_the_metrics_is_current() {
    let written = fs::read_to_string(files::root().join("docs/metrics.md")).unwrap();
    assert!(
        written == document::render(),
        "docs/metrics.md is old: cargo run -p monitoring --example metrics"
    );
}
