//! docker-compose.yml: loopback only, the documented ports, pinned images, health, order of starting.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser as _;
use deployment::{SERVICES, list, rendered, text_of, texts};
use engagectl::cli::{Cli, Command, HealthcheckArgs};
use serde_json::{Map, Value};

fn services() -> &'static Map<String, Value> {
    rendered().compose["services"].as_object().unwrap()
}

#[test]
fn every_published_port_is_on_loopback_and_is_that_of_the_demo() {
    let documented = BTreeMap::from([
        ("postgres", vec![5432]),
        ("kafka", vec![9092]),
        ("redis", vec![6379]),
        ("connect", vec![8083]),
        ("clickhouse", vec![8123]),
        ("receiver", vec![5001]),
        ("jaeger", vec![4317, 4318, 16686]),
        ("prometheus", vec![9090]),
        ("grafana", vec![3000]),
        ("enricher", vec![9101]),
        ("clickhouse-sink", vec![9102]),
        ("redis-aggregator", vec![9103]),
        ("webhook-forwarder", vec![9104]),
        ("canary", vec![9107]),
    ]);
    let mut found = BTreeMap::new();
    for (service, definition) in services() {
        let mut ports = Vec::new();
        for port in list(&definition["ports"]) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{service}: {port}");
            assert_eq!(
                text_of(&port["published"]),
                port["target"].to_string(),
                "{service}"
            );
            ports.push(port["target"].as_u64().unwrap());
        }
        ports.sort_unstable();
        if !ports.is_empty() {
            found.insert(service.as_str(), ports);
        }
        assert!(
            definition["network_mode"] != "host",
            "{service} is on the machine's own network"
        );
    }
    assert_eq!(found, documented);
}

#[test]
fn a_service_starts_after_init_and_init_after_every_server_is_healthy() {
    let after = |service: &str, condition: &str| -> BTreeSet<&str> {
        let depends = services()[service]["depends_on"]
            .as_object()
            .into_iter()
            .flatten();
        depends
            .filter(|(_, how)| how["condition"] == condition)
            .map(|(name, _)| name.as_str())
            .collect()
    };
    for service in SERVICES.into_iter().chain(["canary"]) {
        assert!(
            after(service, "service_completed_successfully").contains("init"),
            "{service}"
        );
    }
    let servers = BTreeSet::from(["postgres", "kafka", "connect", "clickhouse", "redis"]);
    assert_eq!(after("init", "service_healthy"), servers);
    for server in servers {
        assert!(
            services()[server]["healthcheck"]["test"].is_array(),
            "{server}"
        );
    }
}

/// Those that go on until they are stopped; the others run once, or when they are asked for.
fn long_running() -> impl Iterator<Item = (&'static str, &'static Value)> {
    services()
        .iter()
        .filter(|(_, definition)| list(&definition["profiles"]).is_empty())
        .filter(|(_, definition)| definition["restart"] == "unless-stopped")
        .map(|(service, definition)| (service.as_str(), definition))
}

#[test]
fn whatever_goes_on_running_says_whether_it_is_well() {
    let mut ours = 0;
    for (service, definition) in long_running() {
        let check = &definition["healthcheck"];
        assert!(check["disable"] != true, "{service}");
        // its image asks: `docker::the_image_asks_the_service_for_its_health_and_runs_as_nobody`
        if definition["build"]["target"] == "service" && check.is_null() {
            ours += 1;
            continue;
        }
        let test = texts(&check["test"]);
        assert!(test.len() > 1 && test[0] != "NONE", "{service}: {test:?}");
    }
    assert_eq!(ours, SERVICES.len());
    let once: BTreeSet<_> = services()
        .keys()
        .map(String::as_str)
        .filter(|service| long_running().all(|(other, _)| other != *service))
        .collect();
    assert_eq!(once, BTreeSet::from(["secrets", "init", "load", "verify"]));
}

#[test]
fn the_receiver_and_the_canary_are_asked_where_they_listen() {
    let asked = |service: &str| -> HealthcheckArgs {
        let test = texts(&services()[service]["healthcheck"]["test"]);
        assert_eq!(test[..2], ["CMD", "/usr/local/bin/engage"], "{service}");
        match Cli::try_parse_from(&test[1..]).unwrap().command {
            Command::Healthcheck(args) => args,
            other => panic!("{service}: {other:?}"),
        }
    };
    for (service, path) in [("receiver", "/health"), ("canary", "/readyz")] {
        let args = asked(service);
        let target = &services()[service]["ports"][0]["target"];
        assert_eq!(*target, args.addr.port(), "{service}");
        assert_eq!(args.path, path, "{service}");
    }
}

#[test]
fn our_containers_have_a_read_only_root_and_no_rights() {
    for (service, definition) in services() {
        let ours = text_of(&definition["image"]).starts_with("engage/") && service != "connect";
        if ours {
            assert_eq!(definition["read_only"], true, "{service}");
            assert_eq!(definition["cap_drop"][0], "ALL", "{service}");
            assert_eq!(
                definition["security_opt"][0], "no-new-privileges:true",
                "{service}"
            );
        }
    }
}

#[test]
fn no_password_stands_in_the_file() {
    let text = deployment::text("docker-compose.yml");
    for line in text.lines() {
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        let secret = ["PASSWORD", "SECRET", "TOKEN"]
            .iter()
            .any(|word| key.contains(word));
        assert!(!secret || value.starts_with("/run/secrets/"), "{line}");
    }
    assert!(
        !text.contains("POSTGRES_HOST_AUTH_METHOD"),
        "a database without passwords"
    );
}

#[test]
fn images_are_built_from_the_dockerfile_with_the_name_of_the_binary() {
    for service in SERVICES {
        let build = &services()[service]["build"];
        assert_eq!(build["args"]["BIN"], service);
        assert_eq!(build["target"], "service", "{service}");
        assert_eq!(build["dockerfile"], "deploy/docker/Dockerfile", "{service}");
    }
    assert_eq!(services()["init"]["build"]["target"], "tool");
    assert_eq!(services()["connect"]["build"]["target"], "connect");
}

#[test]
fn connect_works_as_the_one_that_everything_is_tested_with() {
    let tested = deployment::text("crates/devstack/templates/connect.properties");
    let property = |name: &str| {
        let line = tested
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not in the template"))
            .to_owned()
    };
    let dev = deployment::containers();
    for container in dev.iter().filter(|container| container.owner == "connect") {
        let env = |name: &str| container.env.get(name).cloned().unwrap_or_default();
        for (variable, name) in [
            ("OFFSET_FLUSH_INTERVAL_MS", "offset.flush.interval.ms"),
            (
                "CONNECT_CONNECTOR_CLIENT_CONFIG_OVERRIDE_POLICY",
                "connector.client.config.override.policy",
            ),
            (
                "CONNECT_PRODUCER_MAX_REQUEST_SIZE",
                "producer.max.request.size",
            ),
            (
                "CONNECT_SCHEDULED_REBALANCE_MAX_DELAY_MS",
                "scheduled.rebalance.max.delay.ms",
            ),
            (
                "CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE",
                "key.converter.schemas.enable",
            ),
            ("CONNECT_TOPIC_CREATION_ENABLE", "topic.creation.enable"),
        ] {
            assert_eq!(env(variable), property(name), "{container}: {variable}");
        }
    }
}
