//! The checked-in code is what `proto/` generates.
//!
//! `UPDATE_GENERATED=1 cargo test -p engagement-proto` rewrites it after a change of the schema.

use std::path::{Path, PathBuf};

const FILE: &str = "engagement.v1.rs";

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let set = protox::compile(["engagement/v1/event.proto"], [&root]).expect("the schema compiles");
    prost_build::Config::new()
        .out_dir(into)
        .compile_fds(set)
        .expect("code is generated");
}

#[test]
fn checked_in_code_is_what_the_schema_generates() {
    let checked_in: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        generate(&checked_in);
    }
    let fresh = tempfile::tempdir().expect("a temporary directory");
    generate(fresh.path());
    let want = std::fs::read_to_string(fresh.path().join(FILE)).expect("generated file");
    let have = std::fs::read_to_string(checked_in.join(FILE)).unwrap_or_default();
    assert!(
        want == have,
        "src/generated/{FILE} differs from proto/: run UPDATE_GENERATED=1 cargo test -p engagement-proto"
    );
}
