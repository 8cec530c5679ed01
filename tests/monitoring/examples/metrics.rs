//! Writes what is made from other files: docs/metrics.md, and the alert rules and dashboards of `k8s/`.

use std::process::ExitCode;

use monitoring::{document, files, kubernetes};

fn main() -> ExitCode {
    let document = ("docs/metrics.md", document::render());
    for (name, text) in [document].into_iter().chain(kubernetes::written()) {
        let path = files::root().join(name);
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
