//! Topics, users and the connector of the component strimzi against what `init` would create and services use.

use std::collections::{BTreeMap, BTreeSet};

use deployment::{SERVICES, list, name, of_kind, rendered, text, text_of};
use platform::{ConnectSettings, Settings, TopicSettings};
use secrecy::SecretString;
use serde_json::Value;

fn prod() -> &'static [Value] {
    &rendered().overlays["prod"]
}

fn wanted() -> TopicSettings {
    TopicSettings {
        replication: 3,
        ..TopicSettings::default()
    }
}

#[test]
fn the_topics_are_those_of_init_with_partitions_copies_and_settings() {
    let found: BTreeMap<&str, &Value> = of_kind(prod(), "KafkaTopic")
        .map(|topic| (text_of(&topic["spec"]["topicName"]), &topic["spec"]))
        .collect();
    let specs = wanted().specs();
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), names);
    for spec in &specs {
        let topic = found[spec.name.as_str()];
        assert_eq!(topic["partitions"], spec.partitions, "{}", spec.name);
        assert_eq!(topic["replicas"], spec.replication, "{}", spec.name);
        let config: BTreeMap<&str, &str> =
            spec.config.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let set = topic["config"].as_object().unwrap();
        let set: BTreeMap<&str, &str> = set.iter().map(|(k, v)| (k.as_str(), text_of(v))).collect();
        assert_eq!(set, config, "{}", spec.name);
    }
}

#[test]
fn the_broker_takes_the_largest_dead_letter() {
    let limits = wanted().specs().into_iter().flat_map(|spec| spec.config);
    let largest = limits.filter(|(key, _)| *key == "max.message.bytes");
    let largest: u64 = largest
        .map(|(_, value)| value.parse().unwrap())
        .max()
        .unwrap();
    let kafka = of_kind(prod(), "Kafka").next().unwrap();
    let config = &kafka["spec"]["kafka"]["config"];
    for key in ["message.max.bytes", "replica.fetch.max.bytes"] {
        assert!(
            config[key].as_u64().unwrap() > largest,
            "{key} = {}",
            config[key]
        );
    }
    assert_eq!(config["auto.create.topics.enable"], false);
    assert_eq!(config["min.insync.replicas"], 2);
}

#[test]
fn the_connector_is_registered_as_init_would_do_it() {
    let mut settings = Settings::default();
    settings.database.url = SecretString::from("postgres://admin@postgres.data.svc:5432/engage");
    settings.database.cdc_password = Some(SecretString::from("${env:ENGAGE_CDC_PASSWORD}"));
    let connect = ConnectSettings::default();
    let wanted = platform::connector_config(&settings, &connect).unwrap();
    let mut wanted = wanted.as_object().unwrap().clone();
    let connector = of_kind(prod(), "KafkaConnector").next().unwrap();
    assert_eq!(
        name(connector),
        connect.name,
        "the enricher looks for this one"
    );
    assert_eq!(
        wanted.remove("connector.class").unwrap(),
        connector["spec"]["class"]
    );
    assert_eq!(
        wanted.remove("tasks.max").unwrap(),
        connector["spec"]["tasksMax"].to_string()
    );
    assert_eq!(Value::Object(wanted), connector["spec"]["config"]);
    assert_eq!(
        connector["spec"]["autoRestart"]["enabled"], false,
        "it would go on behind a lost slot"
    );
}

#[test]
fn connect_can_read_the_password_that_the_connector_names() {
    let connect = of_kind(prod(), "KafkaConnect").next().unwrap();
    let env = list(&connect["spec"]["template"]["connectContainer"]["env"]);
    let password = env
        .iter()
        .find(|entry| entry["name"] == "ENGAGE_CDC_PASSWORD")
        .unwrap();
    let reference = &password["valueFrom"]["secretKeyRef"];
    let secret =
        of_kind(prod(), "Secret").find(|secret| secret["metadata"]["name"] == reference["name"]);
    assert!(secret.unwrap()["data"][text_of(&reference["key"])].is_string());
    let config = &connect["spec"]["config"];
    assert_eq!(config["config.providers"], "env");
    assert_eq!(
        config["connector.client.config.override.policy"], "All",
        "connector.json overrides its producer"
    );
    assert_eq!(
        connect["metadata"]["annotations"]["strimzi.io/use-connector-resources"],
        "true"
    );
}

/// Operations by (resource type, name) of a user.
fn rights(user: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let found = of_kind(prod(), "KafkaUser").find(|found| name(found) == user);
    let found = found.unwrap_or_else(|| panic!("there is no user {user}"));
    assert_eq!(
        found["spec"]["authentication"]["type"], "scram-sha-512",
        "{user}"
    );
    let acls = list(&found["spec"]["authorization"]["acls"]).iter();
    acls.map(|acl| {
        let resource = &acl["resource"];
        let key = (
            text_of(&resource["type"]).to_owned(),
            text_of(&resource["name"]).to_owned(),
        );
        (
            key,
            deployment::texts(&acl["operations"]).into_iter().collect(),
        )
    })
    .collect()
}

fn may(
    rights: &BTreeMap<(String, String), BTreeSet<String>>,
    kind: &str,
    name: &str,
    operation: &str,
) -> bool {
    rights
        .get(&(kind.to_owned(), name.to_owned()))
        .is_some_and(|operations| operations.contains(operation))
}

#[test]
fn each_service_may_read_its_input_write_its_output_and_nothing_else() {
    let topics = wanted();
    for service in SERVICES {
        let rights = rights(service);
        let letters = format!("engagement.dlq.{service}");
        assert!(
            may(&rights, "topic", &letters, "Write"),
            "{service}: {rights:?}"
        );
        assert!(
            may(&rights, "group", service, "Read"),
            "{service}: {rights:?}"
        );
        assert!(
            may(&rights, "topic", &topics.enriched, "Read"),
            "{service}: {rights:?}"
        );
        let writes = rights
            .iter()
            .filter(|(_, operations)| operations.contains("Write"));
        let mut writes: Vec<_> = writes.map(|((_, name), _)| name.as_str()).collect();
        writes.sort_unstable();
        let allowed = if service == "enricher" {
            vec![letters.as_str(), &topics.enriched]
        } else {
            vec![letters.as_str()]
        };
        assert_eq!(writes, allowed, "{service}");
        let all = rights.values().flatten();
        assert!(
            all.clone()
                .all(|o| ["Read", "Write", "Describe"].contains(&o.as_str())),
            "{service}: {rights:?}"
        );
    }
    for input in [&topics.cdc, &topics.content] {
        assert!(may(&rights("enricher"), "topic", input, "Read"), "{input}");
    }
}

#[test]
fn the_user_of_a_service_is_the_one_in_its_environment() {
    for container in deployment::containers()
        .iter()
        .filter(|container| container.place == "prod")
    {
        let user = container.env.get("KAFKA_SASL_USERNAME").map(String::as_str);
        assert_eq!(user, Some(container.owner.as_str()), "{container}");
        rights(&container.owner);
    }
}

#[test]
fn kafka_and_debezium_are_the_versions_that_everything_is_tested_with() {
    let kafka = version("deploy/provision/kafka/pom.xml", "kafka.version");
    let debezium = version("deploy/provision/debezium/pom.xml", "debezium.version");
    let strimzi = version("deploy/validate/strimzi.pom.xml", "strimzi.version");
    let cluster = of_kind(prod(), "Kafka").next().unwrap();
    assert_eq!(cluster["spec"]["kafka"]["version"], kafka);
    assert_eq!(
        of_kind(prod(), "KafkaConnect").next().unwrap()["spec"]["version"],
        kafka
    );
    let dockerfile = text("deploy/docker/connect.Dockerfile");
    assert!(
        dockerfile.contains(&format!("debezium/connect:{debezium}\n")),
        "Debezium {debezium}"
    );
    assert!(
        dockerfile.contains(&format!("strimzi/kafka:{strimzi}-kafka-{kafka}\n")),
        "Strimzi {strimzi}"
    );
    for container in deployment::containers()
        .iter()
        .filter(|c| c.image_name() == "apache/kafka")
    {
        assert_eq!(container.tag(), kafka, "{container}");
    }
}

/// A property of a pom.
fn version(pom: &str, property: &str) -> String {
    let text = text(pom);
    let start = text.split_once(&format!("<{property}>")).unwrap().1;
    start.split_once('<').unwrap().0.to_owned()
}
