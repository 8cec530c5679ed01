//! Writes docs/metrics.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    let path = monitoring::files::root().join("docs/metrics.md");
    match std::fs::write(&path, monitoring::document::render()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
