//! Images, ports, probes and times of the services.

use std::time::Duration;

use deployment::{
    SERVICES, containers, containers_of, list, name, of_kind, rendered, text, text_of,
};
use service::App;
use service::config::Loader;

fn admin_ports() -> [(&'static str, u16); 4] {
    [
        (enricher::Enricher::NAME, enricher::Enricher::ADMIN_PORT),
        (
            clickhouse_sink::app::ClickHouseSink::NAME,
            clickhouse_sink::app::ClickHouseSink::ADMIN_PORT,
        ),
        (
            redis_aggregator::RedisAggregator::NAME,
            redis_aggregator::RedisAggregator::ADMIN_PORT,
        ),
        (
            webhook_forwarder::WebhookForwarder::NAME,
            webhook_forwarder::WebhookForwarder::ADMIN_PORT,
        ),
    ]
}

#[test]
fn the_services_are_those_of_the_repository() {
    let mut found: Vec<_> = admin_ports().map(|(name, _)| name).to_vec();
    found.sort_unstable();
    let mut listed = SERVICES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
    for service in SERVICES {
        assert!(!text(&format!("services/{service}/Cargo.toml")).is_empty());
    }
}

#[test]
fn the_admin_port_is_the_services_own_and_open_to_the_outside_of_the_container() {
    for (service, port) in admin_ports() {
        for container in containers_of(service) {
            let address = container.env.get("ADMIN_ADDR").map(String::as_str);
            assert_eq!(address, Some(&*format!("0.0.0.0:{port}")), "{container}");
            assert!(
                container
                    .ports
                    .values()
                    .any(|open| *open == u64::from(port)),
                "{container}: {:?}",
                container.ports
            );
        }
    }
}

#[test]
fn probes_ask_for_paths_that_the_admin_port_serves() {
    let admin = text("crates/service/src/admin.rs");
    let mut asked = 0;
    for service in SERVICES {
        let pods = containers_of(service);
        for container in pods.iter().filter(|container| container.place != "compose") {
            let path = |kind: &str| {
                container
                    .probes
                    .get(kind)
                    .map_or("", |probe| probe.path.as_str())
            };
            assert_eq!(
                path("startupProbe"),
                "/livez",
                "{container}: a catalog that is read takes its time"
            );
            assert_eq!(
                path("livenessProbe"),
                "/livez",
                "{container}: a store that is away is no reason to restart"
            );
            assert_eq!(path("readinessProbe"), "/readyz", "{container}");
            for probe in container.probes.values() {
                let route = format!(".route(\"{}\"", probe.path);
                assert!(
                    admin.contains(&route),
                    "{container}: {} is not served",
                    probe.path
                );
                assert_eq!(
                    container.ports.keys().next(),
                    Some(&probe.port),
                    "{container}"
                );
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 3 * SERVICES.len() * rendered().overlays.len());
}

#[test]
fn every_container_has_longer_to_stop_than_its_service_takes() {
    for service in SERVICES {
        for container in containers_of(service) {
            let loader = Loader::new(&[]).environment(container.env.clone());
            let drain = loader.common().lifecycle.drain_deadline;
            let grace = Duration::from_secs(container.grace_seconds);
            // two seconds to drop what was not finished, and some for spans and the last commit
            assert!(
                grace >= drain + Duration::from_secs(10),
                "{container}: {grace:?} for a drain of {drain:?}"
            );
        }
    }
}

#[test]
fn images_carry_the_version_of_the_workspace_and_no_tag_moves() {
    for container in containers() {
        let ours = container.image.starts_with("engage/");
        if ours {
            assert_eq!(
                container.tag(),
                service::VERSION,
                "{container}: {}",
                container.image
            );
        }
        let pinned =
            container.tag().chars().any(|c| c.is_ascii_digit()) && container.tag().contains('.');
        assert!(pinned, "{container}: {} is not pinned", container.image);
    }
    for documents in rendered().overlays.values() {
        for connect in of_kind(documents, "KafkaConnect") {
            let wanted = format!("engage/connect-strimzi:{}", service::VERSION);
            assert_eq!(text_of(&connect["spec"]["image"]), wanted);
        }
    }
}

#[test]
fn pods_are_restricted_and_have_no_token() {
    let mut pods = 0;
    for (overlay, documents) in &rendered().overlays {
        for kind in ["Deployment", "StatefulSet", "Job"] {
            for workload in of_kind(documents, kind) {
                let at = format!("{overlay}/{}", name(workload));
                let pod = &workload["spec"]["template"]["spec"];
                assert_eq!(pod["automountServiceAccountToken"], false, "{at}");
                assert_eq!(pod["enableServiceLinks"], false, "{at}");
                assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{at}");
                assert_eq!(
                    pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                    "{at}"
                );
                for container in list(&pod["containers"]) {
                    let security = &container["securityContext"];
                    assert_eq!(security["allowPrivilegeEscalation"], false, "{at}");
                    assert_eq!(security["capabilities"]["drop"][0], "ALL", "{at}");
                    let ours = text_of(&container["image"]).starts_with("engage/")
                        && !at.ends_with("/connect");
                    assert!(!ours || security["readOnlyRootFilesystem"] == true, "{at}");
                    assert!(
                        container["resources"]["limits"]["memory"].is_string(),
                        "{at}"
                    );
                    assert!(
                        container["resources"]["requests"]["cpu"].is_string(),
                        "{at}"
                    );
                    pods += 1;
                }
            }
        }
        let enforced = of_kind(documents, "Namespace").all(|namespace| {
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        });
        assert!(
            enforced && of_kind(documents, "Namespace").count() == 1,
            "{overlay}"
        );
    }
    assert!(pods >= 15, "only {pods}");
}

#[test]
fn every_service_has_a_budget_for_disruptions_and_is_spread_over_nodes_and_zones() {
    for (overlay, documents) in &rendered().overlays {
        for service in SERVICES {
            let deployment = of_kind(documents, "Deployment")
                .find(|d| name(d) == service)
                .unwrap();
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let mut keys: Vec<_> =
                list(&deployment["spec"]["template"]["spec"]["topologySpreadConstraints"])
                    .iter()
                    .map(|constraint| text_of(&constraint["topologyKey"]))
                    .collect();
            keys.sort_unstable();
            assert_eq!(
                keys,
                ["kubernetes.io/hostname", "topology.kubernetes.io/zone"],
                "{overlay}/{service}"
            );
            let budget = of_kind(documents, "PodDisruptionBudget")
                .find(|b| name(b) == service)
                .unwrap();
            let selected = budget["spec"]["selector"]["matchLabels"]
                .as_object()
                .unwrap();
            assert!(
                selected.iter().all(|(key, value)| labels[key] == *value),
                "{overlay}/{service}"
            );
            assert_eq!(budget["spec"]["maxUnavailable"], 1, "{overlay}/{service}");
        }
    }
}

#[test]
fn no_service_is_a_static_member_of_its_group_because_pods_of_a_deployment_have_no_lasting_name() {
    for service in SERVICES {
        for container in containers_of(service) {
            let fixed = container
                .env
                .keys()
                .find(|name| name.contains("GROUP_INSTANCE"));
            assert_eq!(fixed, None, "{container}");
        }
    }
}

#[test]
fn the_pod_monitor_asks_the_port_and_path_that_the_services_have() {
    let admin = text("crates/service/src/admin.rs");
    let mut monitors = 0;
    for (overlay, documents) in &rendered().overlays {
        for monitor in of_kind(documents, "PodMonitor") {
            monitors += 1;
            let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
            assert_eq!(endpoint["port"], "admin", "{overlay}");
            assert!(
                admin.contains(&format!(".route(\"{}\"", text_of(&endpoint["path"]))),
                "{overlay}"
            );
            let selected = monitor["spec"]["selector"]["matchLabels"]
                .as_object()
                .unwrap();
            for service in SERVICES {
                let deployment = of_kind(documents, "Deployment")
                    .find(|d| name(d) == service)
                    .unwrap();
                let labels = &deployment["spec"]["template"]["metadata"]["labels"];
                let job = text_of(&monitor["spec"]["jobLabel"]);
                assert_eq!(labels[job], service, "{overlay}: the alerts' label `job`");
                assert!(
                    selected.iter().all(|(key, value)| labels[key] == *value),
                    "{overlay}/{service}"
                );
            }
        }
    }
    assert_eq!(monitors, 2, "prod and external are watched");
}
