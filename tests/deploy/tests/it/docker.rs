//! The Dockerfiles against the workspace.

use deployment::{SERVICES, text};

fn dockerfile() -> String {
    text("deploy/docker/Dockerfile")
}

#[test]
fn every_binary_is_compiled_and_put_where_the_last_stage_takes_it_from() {
    let text = dockerfile();
    for binary in SERVICES.iter().chain(&["engagectl"]) {
        // once for the dependencies, once for the programs
        assert_eq!(
            text.matches(&format!("--package {binary}")).count(),
            2,
            "{binary}"
        );
        let copied = text
            .lines()
            .find(|line| line.contains("for bin in"))
            .unwrap();
        assert!(
            copied
                .split_whitespace()
                .any(|word| word.trim_end_matches(';') == *binary),
            "{binary}"
        );
    }
    assert!(!text.contains("--features"), "an image has no fault points");
}

#[test]
fn the_compiler_is_that_of_the_toolchain_file() {
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain
        .split("channel = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        dockerfile().contains(&format!("RUST_IMAGE=rust:{channel}-slim")),
        "{channel}"
    );
}

#[test]
fn the_image_asks_the_service_for_its_health_and_runs_as_nobody() {
    let text = dockerfile();
    let service = text.split("AS service").nth(1).unwrap();
    let health = service
        .lines()
        .find(|line| line.starts_with("HEALTHCHECK"))
        .unwrap();
    assert!(
        health.ends_with("[\"/usr/local/bin/engage\", \"healthcheck\"]"),
        "{health}"
    );
    assert!(service.contains("ENTRYPOINT [\"/usr/local/bin/engage\"]"));
    let runtime = text.split("AS runtime").nth(1).unwrap();
    assert!(runtime.contains("\nUSER 65532:65532\n"));
    let user = "runAsUser: 65532";
    for service in SERVICES {
        assert!(
            deployment::text(&format!("k8s/base/{service}.yaml")).contains(user),
            "{service}"
        );
    }
}

#[test]
fn what_the_build_needs_is_not_ignored_and_secrets_are() {
    let ignored = text(".dockerignore");
    assert_eq!(
        ignored.lines().find(|line| !line.starts_with('#')),
        Some("*"),
        "everything, but for what follows"
    );
    for needed in [
        "crates",
        "services",
        "tests",
        "benches",
        "fuzz",
        "Cargo.lock",
        "deploy/clickhouse",
        "deploy/debezium",
        "deploy/postgres",
    ] {
        assert!(
            ignored.lines().any(|line| line == format!("!{needed}")),
            "{needed}"
        );
    }
    assert!(text(".gitignore").contains("/k8s/overlays/*/secrets"));
}

#[test]
fn the_version_of_images_is_that_of_the_workspace() {
    assert!(dockerfile().contains(&format!("ARG VERSION={}\n", service::VERSION)));
}
