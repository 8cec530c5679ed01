//! The canary is deployed wherever its alerts are, with what it needs and no more.

use std::collections::BTreeSet;

use deployment::{Container, containers, list, name, of_kind, rendered, text, text_of};
use engagectl::canary::Canary;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use service::App;
use service::config::Loader;

use crate::environment::{assert_elsewhere, load};

/// One of every overlay, and one of Compose.
fn canaries() -> Vec<Container> {
    let all = containers().into_iter();
    let canaries: Vec<_> = all
        .filter(|container| container.owner == "canary")
        .collect();
    assert_eq!(canaries.len(), rendered().overlays.len() + 1);
    canaries
}

fn deployment(documents: &[Value]) -> &Value {
    let mut deployments = of_kind(documents, "Deployment");
    deployments.find(|found| name(found) == "canary").unwrap()
}

#[test]
fn every_canary_starts_with_its_environment_and_knows_broker_database_and_stores() {
    for container in canaries() {
        let config = load::<Canary>(&container).config.app;
        assert_elsewhere(&container, &config.kafka.bootstrap_servers);
        assert_elsewhere(&container, config.database.url.expose_secret());
        assert_elsewhere(&container, config.clickhouse.url.as_str());
        assert_elsewhere(&container, config.redis.url.as_str());
        assert!(config.clickhouse.password.is_some(), "{container}");
    }
}

#[test]
fn its_role_is_not_the_owner_of_the_tables() {
    for container in canaries() {
        let file = &container.env["DATABASE_URL_FILE"];
        if container.place == "compose" {
            assert_eq!(file, "/run/secrets/canary_url");
        }
    }
    let secrets = text("deploy/secrets.sh");
    let role = platform::access::postgres::CANARY;
    assert!(secrets.contains(&format!("keep canary_url \"postgres://{role}:")));
    let created = text("k8s/components/stores/postgres-init.sh");
    assert!(created.contains(&format!("CREATE ROLE {role} LOGIN PASSWORD")));
    for overlay in rendered().overlays.keys() {
        let written = text(&format!("k8s/overlays/{overlay}/kustomization.yaml"));
        let (_, after) = written.split_once("name: canary-credentials").unwrap();
        let own = after.split("- name:").next().unwrap();
        assert!(own.contains("DATABASE_URL=secrets/canary_url"), "{overlay}");
    }
}

#[test]
fn its_admin_port_is_its_own_and_is_what_probes_and_prometheus_ask() {
    for container in canaries() {
        let address = container.env.get("ADMIN_ADDR").map(String::as_str);
        assert_eq!(address, Some(&*format!("0.0.0.0:{}", Canary::ADMIN_PORT)));
        let open: Vec<u64> = container.ports.values().copied().collect();
        assert_eq!(open, [u64::from(Canary::ADMIN_PORT)], "{container}");
        let path = |kind: &str| container.probes.get(kind).map(|probe| probe.path.as_str());
        if container.place != "compose" {
            assert_eq!(path("startupProbe"), Some("/livez"), "{container}");
            assert_eq!(path("livenessProbe"), Some("/livez"), "{container}");
            assert_eq!(path("readinessProbe"), Some("/readyz"), "{container}");
        }
    }
    let scraped = text("deploy/prometheus/prometheus-compose.yml");
    assert!(scraped.contains(&format!(
        "names: [canary], type: A, port: {}",
        Canary::ADMIN_PORT
    )));
    for (overlay, documents) in &rendered().overlays {
        let labels = &deployment(documents)["spec"]["template"]["metadata"]["labels"];
        for monitor in of_kind(documents, "PodMonitor") {
            let selected = &monitor["spec"]["selector"]["matchLabels"];
            let mut selected = selected.as_object().unwrap().iter();
            assert!(
                selected.all(|(key, value)| labels[key] == *value),
                "{overlay}"
            );
            let job = text_of(&monitor["spec"]["jobLabel"]);
            assert_eq!(labels[job], "canary", "{overlay}: the alerts' label `job`");
        }
    }
}

#[test]
fn it_is_there_wherever_the_alert_about_its_silence_is() {
    let mut alerted = 0;
    for (overlay, documents) in &rendered().overlays {
        let mut rules = of_kind(documents, "PrometheusRule");
        if rules.any(|rule| rule.to_string().contains("EngageCanarySilent")) {
            alerted += 1;
            assert_eq!(deployment(documents)["spec"]["replicas"], 1, "{overlay}");
        }
    }
    assert_eq!(alerted, 2, "prod and external are watched");
}

#[test]
fn it_has_longer_to_stop_than_it_takes() {
    for container in canaries() {
        let loader = Loader::new(&[]).environment(container.env.clone());
        let drain = loader.common().lifecycle.drain_deadline.as_secs();
        assert!(container.grace_seconds >= drain + 10, "{container}");
    }
}

#[test]
fn it_reaches_the_broker_and_the_three_stores() {
    for (overlay, documents) in &rendered().overlays {
        let policy = of_kind(documents, "NetworkPolicy").find(|found| name(found) == "canary");
        let rules = list(&policy.unwrap()["spec"]["egress"]).iter();
        let ports = rules.flat_map(|rule| list(&rule["ports"]));
        let ports: BTreeSet<u64> = ports.filter_map(|port| port["port"].as_u64()).collect();
        let mut wanted = BTreeSet::from([5432, 6379, 6380, 8123, 8443, 9092, 9093]);
        if overlay == "dev" {
            wanted.insert(5001);
        }
        assert_eq!(ports, wanted, "{overlay}");
    }
    let receivers = of_kind(&rendered().overlays["dev"], "NetworkPolicy");
    let mut receivers = receivers.filter(|policy| name(policy) == "receiver");
    let text = receivers.next().unwrap().to_string();
    assert!(text.contains("\"canary\""), "{text}");
}
