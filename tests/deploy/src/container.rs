//! One container, whether a pod's or Compose's: image, arguments, environment, files.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::{list, name, of_kind, text_of, texts};

/// A container as it would run.
#[derive(Clone, Debug)]
pub struct Container {
    /// The overlay, or `compose`.
    pub place: String,
    /// The Deployment, StatefulSet, Job or Compose service.
    pub owner: String,
    /// With its tag.
    pub image: String,
    /// The arguments after the image's entry point.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Files that are mounted, by path: the text of configuration, `None` for a secret.
    pub files: BTreeMap<String, Option<String>>,
    /// Ports by name (Compose: the target's number as name).
    pub ports: BTreeMap<String, u64>,
    /// Startup, liveness and readiness, as far as they ask by HTTP.
    pub probes: BTreeMap<&'static str, Probe>,
    /// Seconds from SIGTERM to SIGKILL.
    pub grace_seconds: u64,
}

/// A probe by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked for.
    pub path: String,
    /// Where: the name of a port.
    pub port: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.place, self.owner)
    }
}

impl Container {
    /// The image without its tag.
    #[must_use]
    pub fn image_name(&self) -> &str {
        self.image
            .rsplit_once(':')
            .map_or(&self.image, |(name, _)| name)
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.image.rsplit_once(':').map_or("", |(_, tag)| tag)
    }
}

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

pub(crate) fn of_overlay(place: &str, documents: &[Value]) -> Vec<Container> {
    let workloads = ["Deployment", "StatefulSet", "Job"]
        .into_iter()
        .flat_map(|kind| of_kind(documents, kind));
    let mut all = Vec::new();
    for workload in workloads {
        let pod = &workload["spec"]["template"]["spec"];
        for container in list(&pod["containers"]) {
            all.push(Container {
                place: place.to_owned(),
                owner: name(workload).to_owned(),
                image: text_of(&container["image"]).to_owned(),
                args: texts(&container["args"]),
                env: environment(documents, container),
                files: files(documents, pod, container),
                ports: ports(container),
                probes: probes(container),
                grace_seconds: pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30),
            });
        }
    }
    all
}

fn environment(documents: &[Value], container: &Value) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for source in list(&container["envFrom"]) {
        let wanted = text_of(&source["configMapRef"]["name"]);
        let map = of_kind(documents, "ConfigMap").find(|map| name(map) == wanted);
        let data = map.and_then(|map| map["data"].as_object());
        let data = data.unwrap_or_else(|| panic!("there is no ConfigMap {wanted}"));
        env.extend(data.iter().map(|(k, v)| (k.clone(), text_of(v).to_owned())));
    }
    for entry in list(&container["env"]) {
        env.insert(
            text_of(&entry["name"]).to_owned(),
            text_of(&entry["value"]).to_owned(),
        );
    }
    env
}

/// Where a container sees each key of the ConfigMaps and Secrets that are mounted into it.
fn files(documents: &[Value], pod: &Value, container: &Value) -> BTreeMap<String, Option<String>> {
    let mut files = BTreeMap::new();
    for mount in list(&container["volumeMounts"]) {
        let volume = list(&pod["volumes"])
            .iter()
            .find(|volume| volume["name"] == mount["name"]);
        let Some(volume) = volume else { continue };
        let contents = if volume["secret"].is_object() {
            let names = secret_keys(documents, text_of(&volume["secret"]["secretName"]));
            renamed(
                names.into_iter().map(|key| (key, None)).collect(),
                &volume["secret"],
            )
        } else if volume["configMap"].is_object() {
            let data = config_data(documents, text_of(&volume["configMap"]["name"]));
            renamed(data, &volume["configMap"])
        } else {
            continue;
        };
        let path = text_of(&mount["mountPath"]);
        files.extend(
            contents
                .into_iter()
                .map(|(key, text)| (format!("{path}/{key}"), text)),
        );
    }
    files
}

/// With `items`, only those keys, under their paths.
fn renamed(
    all: BTreeMap<String, Option<String>>,
    source: &Value,
) -> BTreeMap<String, Option<String>> {
    let items = list(&source["items"]);
    if items.is_empty() {
        return all;
    }
    let chosen = items.iter().filter_map(|item| {
        let text = all.get(text_of(&item["key"]))?;
        Some((text_of(&item["path"]).to_owned(), text.clone()))
    });
    chosen.collect()
}

/// The keys of a Secret: of the overlay, or one that Strimzi makes for a user or for the cluster's authority.
fn secret_keys(documents: &[Value], wanted: &str) -> Vec<String> {
    if let Some(secret) = of_kind(documents, "Secret").find(|secret| name(secret) == wanted) {
        let data = secret["data"].as_object();
        return data.map_or_else(Vec::new, |data| data.keys().cloned().collect());
    }
    if of_kind(documents, "KafkaUser").any(|user| name(user) == wanted) {
        return vec!["password".into(), "sasl.jaas.config".into()];
    }
    let authority = |kafka: &Value| wanted == format!("{}-cluster-ca-cert", name(kafka));
    if of_kind(documents, "Kafka").any(authority) {
        return vec!["ca.crt".into(), "ca.p12".into(), "ca.password".into()];
    }
    panic!("nobody makes the Secret {wanted}")
}

fn config_data(documents: &[Value], wanted: &str) -> BTreeMap<String, Option<String>> {
    let map = of_kind(documents, "ConfigMap").find(|map| name(map) == wanted);
    let data = map.and_then(|map| map["data"].as_object());
    let data = data.unwrap_or_else(|| panic!("there is no ConfigMap {wanted}"));
    data.iter()
        .map(|(key, text)| (key.clone(), Some(text_of(text).to_owned())))
        .collect()
}

fn ports(container: &Value) -> BTreeMap<String, u64> {
    let ports = list(&container["ports"]).iter();
    ports
        .filter_map(|port| {
            Some((
                text_of(&port["name"]).to_owned(),
                port["containerPort"].as_u64()?,
            ))
        })
        .collect()
}

fn probes(container: &Value) -> BTreeMap<&'static str, Probe> {
    let http = |kind: &'static str| {
        let get = &container[kind]["httpGet"];
        let probe = Probe {
            path: get["path"].as_str()?.to_owned(),
            port: get["port"].as_str()?.to_owned(),
        };
        Some((kind, probe))
    };
    PROBES.into_iter().filter_map(http).collect()
}

pub(crate) fn of_compose(compose: &Value) -> Vec<Container> {
    let services = compose["services"].as_object();
    let services = services.into_iter().flatten();
    services
        .map(|(owner, service)| Container {
            place: "compose".to_owned(),
            owner: owner.clone(),
            image: text_of(&service["image"]).to_owned(),
            args: texts(&service["command"]),
            env: service["environment"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text_of(value).to_owned()))
                .collect(),
            files: compose_files(service),
            ports: list(&service["ports"])
                .iter()
                .filter_map(|port| port["target"].as_u64())
                .map(|target| (target.to_string(), target))
                .collect(),
            probes: BTreeMap::new(),
            grace_seconds: seconds(text_of(&service["stop_grace_period"])),
        })
        .collect()
}

/// Files of the repository that are mounted by themselves, and the secrets that `deploy/secrets.sh` makes.
fn compose_files(service: &Value) -> BTreeMap<String, Option<String>> {
    let mut files = BTreeMap::new();
    for volume in list(&service["volumes"]) {
        let target = text_of(&volume["target"]);
        let source = text_of(&volume["source"]);
        if volume["type"] == "bind" {
            files.insert(target.to_owned(), std::fs::read_to_string(source).ok());
        } else if source == "secrets" {
            files.extend(
                crate::secrets()
                    .into_iter()
                    .map(|key| (format!("{target}/{key}"), None)),
            );
        }
    }
    files
}

/// Compose writes `40s`; without anything it is 10 s.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|text| text.parse().ok())
        .unwrap_or(10)
}
