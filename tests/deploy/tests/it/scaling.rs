//! Autoscalers: never above the partition count, by metrics that are exported, by groups that exist.

use std::collections::BTreeSet;

use deployment::{SERVICES, containers_of, list, name, of_kind, rendered, text, text_of};
use platform::TopicSettings;
use serde_json::Value;
use webhook_forwarder::position::BACKFILLS;

use crate::evaluate::{Series, assert_answers, behind, breaker, stopped};

fn triggers<'a>(scaled: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list(&scaled["spec"]["triggers"])
        .iter()
        .filter(move |trigger| trigger["type"] == kind)
}

fn scaled_objects() -> Vec<(&'static str, &'static Value)> {
    let overlays = rendered().overlays.iter();
    overlays
        .flat_map(|(overlay, documents)| {
            of_kind(documents, "ScaledObject").map(move |scaled| (overlay.as_str(), scaled))
        })
        .collect()
}

#[test]
fn every_service_has_one_autoscaler_in_prod_and_in_external_that_stops_at_the_partition_count() {
    let partitions = TopicSettings::default().partitions;
    for (overlay, kind, most, least) in [
        ("prod", "ScaledObject", "maxReplicaCount", "minReplicaCount"),
        (
            "external",
            "HorizontalPodAutoscaler",
            "maxReplicas",
            "minReplicas",
        ),
    ] {
        let scalers: Vec<_> = of_kind(&rendered().overlays[overlay], kind).collect();
        let targets: BTreeSet<_> = scalers
            .iter()
            .map(|s| text_of(&s["spec"]["scaleTargetRef"]["name"]))
            .collect();
        assert_eq!(targets, BTreeSet::from(SERVICES), "{overlay}");
        assert_eq!(scalers.len(), SERVICES.len(), "{overlay}");
        for scaler in scalers {
            let at = format!("{overlay}/{}", name(scaler));
            assert_eq!(scaler["spec"][most], partitions, "{at}");
            assert!(scaler["spec"][least].as_u64().unwrap() >= 2, "{at}");
        }
    }
}

#[test]
fn where_an_autoscaler_decides_the_manifest_says_no_number_of_replicas() {
    for overlay in ["prod", "external"] {
        for service in SERVICES {
            let deployment =
                of_kind(&rendered().overlays[overlay], "Deployment").find(|d| name(d) == service);
            assert!(
                deployment.unwrap()["spec"]["replicas"].is_null(),
                "{overlay}/{service}: each apply would reset it"
            );
        }
    }
}

#[test]
fn scaling_down_is_slow() {
    let hpas = of_kind(&rendered().overlays["external"], "HorizontalPodAutoscaler")
        .map(|hpa| &hpa["spec"]["behavior"]);
    let scaled = scaled_objects();
    let scaled = scaled
        .iter()
        .map(|(_, s)| &s["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]);
    let behaviours: Vec<_> = hpas.chain(scaled).collect();
    assert_eq!(behaviours.len(), 2 * SERVICES.len());
    for behaviour in behaviours {
        let down = &behaviour["scaleDown"];
        assert!(
            down["stabilizationWindowSeconds"].as_u64().unwrap() >= 300,
            "{down}"
        );
        assert_eq!(down["policies"][0]["type"], "Pods", "{down}");
        assert_eq!(down["policies"][0]["value"], 1, "{down}");
    }
}

/// The metrics that services export and scalers may use, with their labels (`namespace` is the scraper's).
fn exported() -> [(&'static str, &'static [&'static str]); 3] {
    [
        (
            stream::metrics::BEHIND_SECONDS,
            &["namespace", "topic", "partition", "group"],
        ),
        (
            stream::metrics::LANE_STOPPED,
            &["namespace", "topic", "partition", "group"],
        ),
        (
            webhook_forwarder::metrics::BREAKER,
            &["namespace", "endpoint"],
        ),
    ]
}

/// `name{label="value", ..}` in a query: the names, with the labels that they are selected by.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices('{') {
        let before = &query[..at];
        let start = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map_or(0, |i| i + 1);
        let inside = query[at + 1..].split('}').next().unwrap_or_default();
        let labels = inside.split(',').filter_map(|part| part.split('=').next());
        found.push((
            before[start..].to_owned(),
            labels.map(|label| label.trim().to_owned()).collect(),
        ));
    }
    found
}

#[test]
fn queries_use_metrics_and_labels_that_are_exported() {
    let mut looked_at = 0;
    for (overlay, scaled) in scaled_objects() {
        for trigger in triggers(scaled, "prometheus") {
            let query = text_of(&trigger["metadata"]["query"]);
            let selectors = selectors(query);
            assert!(
                selectors
                    .iter()
                    .any(|(metric, _)| metric == stream::metrics::BEHIND_SECONDS),
                "{query}"
            );
            let named = query.matches("engage_").count();
            assert_eq!(
                named,
                selectors.len(),
                "a metric without a selector in {query}"
            );
            for (metric, labels) in selectors {
                let known = exported().into_iter().find(|(name, _)| *name == metric);
                let (_, known) =
                    known.unwrap_or_else(|| panic!("{overlay}: nobody exports {metric}"));
                for label in labels {
                    assert!(
                        known.contains(&label.as_str()),
                        "{overlay}: {metric} has no label {label}"
                    );
                }
                looked_at += 1;
            }
            let namespace = format!(
                "namespace=\"{}\"",
                text_of(&scaled["metadata"]["namespace"])
            );
            assert_eq!(query.matches(&namespace).count(), named, "{query}");
        }
    }
    assert!(looked_at >= 2 * SERVICES.len(), "only {looked_at}");
}

fn query_of(service: &str) -> &'static str {
    let scaled = scaled_objects().into_iter();
    let (_, scaled) = scaled
        .map(|found| (name(found.1), found.1))
        .find(|found| found.0 == service)
        .unwrap();
    text_of(&triggers(scaled, "prometheus").next().unwrap()["metadata"]["query"])
}

#[test]
fn an_endpoint_whose_breaker_is_open_is_left_out_with_its_backfills() {
    let (crm, erp) = ("webhook-forwarder.crm", "webhook-forwarder.erp");
    let backfills = format!("{crm}{BACKFILLS}");
    let all = |state| {
        vec![
            behind(crm, 0, 40),
            behind(&backfills, 0, 90),
            behind(erp, 0, 7),
            breaker("crm", state),
            breaker("erp", 0),
        ]
    };
    let mut waiting = all(0);
    waiting.push(stopped(&backfills, 0));
    let namesake = vec![
        behind("webhook-forwarder.backfill", 0, 90),
        behind(erp, 0, 7),
        breaker("backfill", 2),
        breaker("erp", 0),
    ];
    let alone = vec![behind(crm, 0, 40), breaker("crm", 2)];
    assert_answers(
        query_of("webhook-forwarder"),
        &[
            (
                "closed: the live stream and its backfills count",
                all(0),
                Some(90),
            ),
            ("open: neither does", all(2), Some(7)),
            ("a lane that waits for a person", waiting, Some(40)),
            ("an endpoint of the name backfill", namesake, Some(7)),
            ("nothing is left", alone, Some(0)),
            ("no data", vec![breaker("crm", 0)], None),
        ],
    );
}

#[test]
fn a_lane_that_waits_for_a_person_is_left_out_and_no_data_is_no_answer() {
    for service in ["enricher", "clickhouse-sink", "redis-aggregator"] {
        let waiting = [behind(service, 0, 40), stopped(service, 0)];
        let with = |more: Series| [&waiting[..], &[more]].concat();
        let other = "somebody-else";
        assert_answers(
            query_of(service),
            &[
                ("one of two", with(behind(service, 1, 7)), Some(7)),
                ("nothing is left", with(behind(other, 1, 7)), Some(0)),
                ("no data", vec![behind(other, 0, 40)], None),
            ],
        );
    }
}

#[test]
fn the_labels_of_seconds_behind_are_those_that_the_code_documents() {
    let source = text("crates/stream/src/metrics.rs");
    for metric in [
        stream::metrics::BEHIND_SECONDS,
        stream::metrics::LANE_STOPPED,
    ] {
        let before = source.split(&format!("\"{metric}\"")).next().unwrap();
        let documented: String = before.lines().rev().take(6).collect();
        for label in ["topic", "partition", "group"] {
            assert!(
                documented.contains(label),
                "{metric} is not documented with {label}: {documented}"
            );
        }
    }
}

#[test]
fn no_data_is_not_taken_for_caught_up() {
    for (_, scaled) in scaled_objects() {
        let prometheus: Vec<_> = triggers(scaled, "prometheus").collect();
        assert_eq!(prometheus.len(), 1, "{}", name(scaled));
        assert_eq!(prometheus[0]["metadata"]["ignoreNullValues"], "false");
        assert_eq!(
            prometheus[0]["metricType"], "Value",
            "seconds are not shared out among pods"
        );
        assert_eq!(
            triggers(scaled, "cpu").count(),
            1,
            "{}: it would swing",
            name(scaled)
        );
        assert_eq!(
            scaled["spec"]["fallback"]["behavior"],
            "currentReplicasIfHigher"
        );
    }
}

/// A trigger is not asked only where another has no answer: the largest answer counts.
#[test]
fn offsets_of_partitions_that_stand_still_are_left_out_and_looked_at_once_a_poll() {
    for (_, scaled) in scaled_objects() {
        for trigger in triggers(scaled, "kafka") {
            let at = name(scaled);
            assert_eq!(trigger["metadata"]["excludePersistentLag"], "true", "{at}");
            // without it two looks within a second would call everything still
            assert_eq!(trigger["useCachedMetrics"], true, "{at}");
        }
        assert_eq!(scaled["spec"]["pollingInterval"], 15);
    }
}

#[test]
fn offsets_are_those_of_the_groups_and_topics_that_the_services_have() {
    let topics = TopicSettings::default();
    for (overlay, scaled) in scaled_objects() {
        let service = name(scaled);
        let lag: Vec<_> = triggers(scaled, "kafka")
            .map(|trigger| &trigger["metadata"])
            .collect();
        assert!(!lag.is_empty(), "{overlay}/{service}");
        for metadata in lag {
            let topic = if service == "enricher" {
                &topics.cdc
            } else {
                &topics.enriched
            };
            assert_eq!(metadata["topic"], **topic, "{service}");
            assert_eq!(metadata["allowIdleConsumers"], "false", "{service}");
            assert_eq!(metadata["offsetResetPolicy"], "earliest", "{service}");
            let group = text_of(&metadata["consumerGroup"]);
            assert!(
                groups(overlay, service).contains(group),
                "{service}: {group} is not {:?}",
                groups(overlay, service)
            );
        }
    }
}

/// The consumer groups that a service has in an overlay: one per endpoint for the forwarder.
fn groups(overlay: &str, service: &str) -> BTreeSet<String> {
    if service != "webhook-forwarder" {
        return BTreeSet::from([match service {
            "enricher" => enricher::config::Input::default().group_id,
            "clickhouse-sink" => clickhouse_sink::config::Kafka::default().group_id,
            _ => redis_aggregator::config::Input::default().group_id,
        }]);
    }
    let containers = containers_of(service);
    let container = containers
        .iter()
        .find(|container| container.place == overlay)
        .unwrap();
    let files = container.files.values().flatten();
    let names = files
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("name = "));
    names
        .map(|name| format!("{service}.{}", name.trim_matches('"')))
        .collect()
}
