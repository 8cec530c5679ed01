//! The environment of every container is loaded by the very loader that the service uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deployment::{Container, containers_of};
use service::App;
use service::config::{COMMON_ENV, EnvKey, Loaded, Loader, ServiceConfig, known_keys};

/// A value that a secret of this name could have.
fn plausible(name: &str) -> &'static str {
    match name {
        "DATABASE_URL" => "postgres://user:password@db.example:5432/engage",
        "REDIS_URL" => "redis://user:password@redis.example:6379",
        "WEBHOOK_SECRET" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        _ => "a-password",
    }
}

/// The environment with files that are there on this machine instead of those of the container.
fn here(container: &Container, dir: &Path) -> BTreeMap<String, String> {
    let mut env = container.env.clone();
    for (name, value) in &mut env {
        if let Some(stem) = name.strip_suffix("_FILE") {
            let path = dir.join(name);
            std::fs::write(&path, plausible(stem)).unwrap();
            *value = path.to_str().unwrap().to_owned();
        }
    }
    env
}

/// The file after `--config`, with its secrets in files of this machine.
fn config_file(container: &Container, dir: &Path) -> Option<PathBuf> {
    let at = container.args.iter().position(|arg| arg == "--config")?;
    let path = &container.args[at + 1];
    let text = container.files.get(path).cloned().flatten();
    let mut text = text.unwrap_or_else(|| panic!("{container}: {path} is not mounted"));
    for secret in container
        .files
        .keys()
        .filter(|file| container.files[*file].is_none())
    {
        let copy = dir.join("endpoint-secret");
        std::fs::write(&copy, plausible("WEBHOOK_SECRET")).unwrap();
        text = text.replace(&format!("\"{secret}\""), &format!("{copy:?}"));
    }
    assert!(
        !text.contains("\"/run/secrets"),
        "{container}: a file that {path} names is not mounted: {text}"
    );
    let copy = dir.join("config.toml");
    std::fs::write(&copy, text).unwrap();
    Some(copy)
}

pub(crate) fn load<A: App>(container: &Container) -> Loaded<ServiceConfig<A::Config>> {
    let dir = tempfile::tempdir().unwrap();
    let file = config_file(container, dir.path());
    let loader = Loader::new(A::ENV)
        .file(file.as_deref())
        .environment(here(container, dir.path()));
    let loaded = loader.load_service::<A::Config>();
    let loaded = loaded.unwrap_or_else(|error| panic!("{container}: {error}"));
    assert_eq!(loaded.warnings, Vec::<String>::new(), "{container}");
    loaded
}

/// Every variable that a service with these keys reads; `true`: also from a file.
fn variables(declared: &[EnvKey], common: bool, keys: &[String]) -> BTreeMap<String, bool> {
    let shared = if common { COMMON_ENV } else { &[] };
    let mut all: BTreeMap<String, bool> = declared
        .iter()
        .chain(shared)
        .map(|key| (key.name.to_owned(), key.secret))
        .collect();
    for key in keys.iter().filter_map(|key| key.strip_prefix("kafka.")) {
        let name = format!("KAFKA_{}", key.to_uppercase());
        let secret = name.ends_with("PASSWORD");
        all.entry(name).or_insert(secret);
    }
    all
}

fn of<A: App>() -> BTreeMap<String, bool> {
    variables(A::ENV, true, &known_keys::<A::Config>())
}

fn of_engagectl() -> BTreeMap<String, bool> {
    variables(
        engagectl::config::ENV,
        false,
        &known_keys::<engagectl::config::Config>(),
    )
}

fn every_service() -> [(&'static str, BTreeMap<String, bool>); 5] {
    [
        ("enricher", of::<enricher::Enricher>()),
        (
            "clickhouse-sink",
            of::<clickhouse_sink::app::ClickHouseSink>(),
        ),
        (
            "redis-aggregator",
            of::<redis_aggregator::RedisAggregator>(),
        ),
        (
            "webhook-forwarder",
            of::<webhook_forwarder::WebhookForwarder>(),
        ),
        ("engagectl", of_engagectl()),
    ]
}

fn is_known(variables: &BTreeMap<String, bool>, name: &str) -> bool {
    let from_file = name
        .strip_suffix("_FILE")
        .and_then(|stem| variables.get(stem));
    variables.contains_key(name) || from_file == Some(&true)
}

#[test]
fn every_variable_of_a_container_is_one_that_some_service_reads() {
    let services = every_service();
    for (service, _) in &services {
        for container in containers_of(service) {
            for name in container.env.keys() {
                let read = services
                    .iter()
                    .any(|(_, variables)| is_known(variables, name));
                assert!(read, "{container}: nothing reads {name}");
            }
        }
    }
}

#[test]
fn what_only_one_container_has_is_read_by_its_own_service() {
    // In Kubernetes one ConfigMap serves all; what stands beside it is meant for one.
    let shared = |container: &Container, name: &str| {
        let others = deployment::containers();
        let same = others.iter().filter(|other| other.place == container.place);
        same.filter(|other| other.env.contains_key(name)).count() > 2
    };
    for (service, variables) in every_service() {
        for container in containers_of(service) {
            let own: BTreeSet<_> = container
                .env
                .keys()
                .filter(|name| !shared(&container, name))
                .collect();
            let strange: Vec<_> = own
                .into_iter()
                .filter(|name| !is_known(&variables, name))
                .collect();
            let strange: Vec<_> = strange
                .into_iter()
                .filter(|name| *name != "CONNECT_URL")
                .collect();
            assert!(
                strange.is_empty(),
                "{container}: {service} does not read {strange:?}"
            );
        }
    }
}

#[test]
fn the_enricher_starts_with_its_environment_and_knows_database_broker_and_connect() {
    for container in containers_of("enricher") {
        let config = load::<enricher::Enricher>(&container).config;
        assert!(
            config.app.database.url.is_some(),
            "{container}: no database"
        );
        assert!(
            config.app.connect.is_some(),
            "{container}: nobody starts a failed connector again"
        );
        assert_elsewhere(&container, &config.app.kafka.bootstrap_servers);
    }
}

#[test]
fn the_clickhouse_sink_starts_with_its_environment_and_knows_server_user_and_password() {
    for container in containers_of("clickhouse-sink") {
        let config = load::<clickhouse_sink::app::ClickHouseSink>(&container).config;
        assert_eq!(config.app.problems(), [], "{container}");
        assert!(
            config.app.clickhouse.password.is_some(),
            "{container}: no password"
        );
        assert_elsewhere(&container, config.app.clickhouse.url.as_str());
        assert_elsewhere(&container, &config.app.kafka.connection.bootstrap_servers);
    }
}

#[test]
fn the_redis_aggregator_starts_with_its_environment_and_knows_server_and_broker() {
    use secrecy::ExposeSecret as _;
    for container in containers_of("redis-aggregator") {
        let config = load::<redis_aggregator::RedisAggregator>(&container).config;
        assert_eq!(config.app.problems(), Vec::<String>::new(), "{container}");
        assert_elsewhere(&container, config.app.redis.url.expose_secret());
        assert_elsewhere(&container, &config.app.kafka.bootstrap_servers);
    }
}

#[test]
fn the_webhook_forwarder_starts_with_its_environment_and_has_an_endpoint_that_is_accepted_and_signs()
 {
    for container in containers_of("webhook-forwarder") {
        let dir = tempfile::tempdir().unwrap();
        let file = config_file(&container, dir.path());
        let loader = Loader::new(webhook_forwarder::WebhookForwarder::ENV);
        let loader = loader
            .file(file.as_deref())
            .environment(here(&container, dir.path()));
        let config = loader
            .load_service::<webhook_forwarder::config::Config>()
            .unwrap()
            .config
            .app;
        let endpoints = webhook_forwarder::endpoints::judge(&config)
            .unwrap_or_else(|problems| panic!("{container}: {problems:?}"));
        for endpoint in endpoints {
            assert!(
                !endpoint.keys.is_empty(),
                "{container}: {} does not sign",
                endpoint.name
            );
        }
        assert_elsewhere(&container, &config.kafka.bootstrap_servers);
        load::<webhook_forwarder::WebhookForwarder>(&container);
    }
}

#[test]
fn init_starts_with_its_environment_and_its_options_are_known() {
    use clap::Parser as _;
    for container in containers_of("engagectl") {
        let line = std::iter::once("engagectl").chain(container.args.iter().map(String::as_str));
        let cli = engagectl::cli::Cli::try_parse_from(line)
            .unwrap_or_else(|error| panic!("{container}: {error}"));
        if container.owner != "init" {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let loader = Loader::new(engagectl::config::ENV)
            .environment(here(&container, dir.path()))
            .set(cli.set);
        let config = loader.load::<engagectl::config::Config>();
        let config = config
            .unwrap_or_else(|error| panic!("{container}: {error}"))
            .config;
        assert!(
            config.database.cdc_password.is_some(),
            "{container}: no password for the role that replicates"
        );
        assert_elsewhere(&container, &config.kafka.bootstrap_servers);
        assert_elsewhere(&container, config.connect.url.as_str());
        assert_elsewhere(&container, config.clickhouse.url.as_str());
    }
}

/// In a container, an address of loopback is a default that nobody has set.
pub(crate) fn assert_elsewhere(container: &Container, address: &str) {
    let local = ["127.0.0.1", "localhost"]
        .iter()
        .any(|host| address.contains(host));
    assert!(!local, "{container}: {address} is the container itself");
}

#[test]
fn every_secret_is_a_file_that_is_mounted_and_never_a_value() {
    let mut files = 0;
    for (service, variables) in every_service() {
        for container in containers_of(service) {
            for (name, value) in &container.env {
                let plain = variables.get(name) == Some(&true) && !value.is_empty();
                assert!(
                    !plain,
                    "{container}: the secret {name} stands in the environment"
                );
                let of_us = name
                    .strip_suffix("_FILE")
                    .is_some_and(|stem| variables.contains_key(stem));
                if of_us {
                    files += 1;
                    let mounted = container.files.get(value) == Some(&None);
                    assert!(
                        mounted,
                        "{container}: {name} = {value}, mounted are {:?}",
                        container.files.keys()
                    );
                }
            }
        }
    }
    assert!(files > 15, "only {files} were looked at");
}
