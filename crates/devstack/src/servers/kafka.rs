//! One Kafka broker that is its own controller (KRaft), on 127.0.0.1: plaintext, or SASL_SSL in a secured stack.
//!
//! Invariant: storage is formatted once; topics are created by whoever needs them, never by a first record.

use std::{fs, path::Path, process::Command};

use super::{java, step};
use crate::{Kind, Launch, Server, StackError, ports::Ports, site::Site, tools};

/// Any 16 bytes in URL-safe Base64 will do; `deploy/provision/warm.sh` formats with the same ones.
const CLUSTER: &str = "RW5nYWdlRGV2U3RhY2sxMg";

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    /// `127.0.0.1:PORT`
    pub bootstrap: String,
    /// `127.0.0.1:PORT` of each further listener, in the order of [`crate::Builder::kafka_advertised_at`].
    pub listeners: Vec<String>,
    pub(crate) server: Server,
}

impl Kafka {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            bootstrap: local(server.port()),
            listeners: server.more_ports().iter().copied().map(local).collect(),
            server,
        }
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The names, places and advertised places of the further listeners, each as the end of a list.
fn detours(site: &Site, ports: &Ports) -> [String; 3] {
    let mut lists = [const { String::new() }; 3];
    let pairs = ports.more.iter().zip(&site.detours.advertised);
    for (index, (port, advertised)) in pairs.enumerate() {
        lists[0] += &format!(",LINK{index}:PLAINTEXT");
        lists[1] += &format!(",LINK{index}://127.0.0.1:{port}");
        lists[2] += &format!(",LINK{index}://127.0.0.1:{advertised}");
    }
    lists
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let data = site.data("kafka")?;
    let (port, controller) = (ports.public.to_string(), ports.inner.to_string());
    let [names, listeners, advertised] = detours(site, ports);
    let place = data.to_string_lossy();
    let values: [(&str, &str); 6] = [
        ("PORT", &port),
        ("CONTROLLER", &controller),
        ("DATA", &place),
        ("MORE_NAMES", &names),
        ("MORE_LISTENERS", &listeners),
        ("MORE_ADVERTISED", &advertised),
    ];
    let mut values = values.to_vec();
    let mut template = include_str!("../../templates/kafka.properties").to_owned();
    let own = own_values(site, ports)?;
    if let Some(own) = &own {
        template += include_str!("../../templates/kafka-secured.properties");
        values.extend(own.iter().map(|(key, value)| (*key, value.as_str())));
    }
    let config = site.configure("kafka.properties", &template, &values)?;
    if !data.join("meta.properties").exists() {
        format(site, &data, &config)?;
    }
    let heap = if site.is_private() { "384m" } else { "512m" };
    Ok(java::launch(site, Kind::Kafka, heap, "kafka.Kafka")?.arg(config))
}

/// What only a secured broker's files name.
fn own_values(
    site: &Site,
    ports: &Ports,
) -> Result<Option<[(&'static str, String); 4]>, StackError> {
    let Some(secured) = &site.secured else {
        return Ok(None);
    };
    let read = |path: &Path| fs::read_to_string(path).map_err(StackError::io("reading", path));
    let both = format!("{}{}", read(&secured.key)?, read(&secured.certificate)?);
    let keystore = site.configure("kafka.pem", &both, &[])?;
    let broker = ports.more.first().copied().unwrap_or_default();
    Ok(Some([
        ("BROKER", broker.to_string()),
        ("KEYSTORE", keystore.display().to_string()),
        ("CA", secured.ca.display().to_string()),
        ("NAME", secured.common_name.clone()),
    ]))
}

/// Users and rights; giving them twice changes nothing.
pub(super) async fn grant(site: &Site, ports: &Ports) -> Result<(), StackError> {
    let (Some(secured), Some(own)) = (&site.secured, own_values(site, ports)?) else {
        return Ok(());
    };
    let values = own.each_ref().map(|(key, value)| (*key, value.as_str()));
    let template = include_str!("../../templates/kafka-admin.properties");
    let admin = site.configure("kafka-admin.properties", template, &values)?;
    let lines = site.configure("kafka-users.tsv", &secured.kafka_lines(), &[])?;
    let source = include_str!("../../templates/Grant.java");
    let program = site.configure("Grant.java", source, &[])?;
    let mut command = Command::new(tools::java(Kind::Kafka)?);
    command
        .args(java::flags(site, "128m")?)
        .arg("-XX:TieredStopAtLevel=1")
        .args(java::class_path(Kind::Kafka)?)
        .args([program, admin, lines]);
    let what = "giving users their passwords and rights";
    let given = tokio::task::spawn_blocking(move || step(Kind::Kafka, what, &mut command));
    given.await.unwrap_or_else(|error| {
        Err(StackError::Step {
            server: Kind::Kafka,
            step: what.to_owned(),
            output: error.to_string(),
        })
    })
}

/// Puts an identity and the first metadata record into an empty data directory.
fn format(site: &Site, data: &Path, config: &Path) -> Result<(), StackError> {
    let files = ["bootstrap.checkpoint", "meta.properties"].map(|name| (name, tools::warm(name)));
    if let [(first, Some(checkpoint)), (last, Some(identity))] = files {
        // `meta.properties` last: it is what makes a directory count as formatted.
        for (name, source) in [(first, checkpoint), (last, identity)] {
            fs::copy(&source, data.join(name)).map_err(StackError::io("copying", source))?;
        }
        return Ok(());
    }
    let mut format = Command::new(tools::java(Kind::Kafka)?);
    format
        .args(java::flags(site, "128m")?)
        .arg("-XX:TieredStopAtLevel=1")
        .args(java::class_path(Kind::Kafka)?)
        .args([
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            "-t",
            CLUSTER,
            "-c",
        ])
        .arg(config);
    step(Kind::Kafka, "formatting the storage", &mut format)
}
