//! One Kafka broker that is its own controller (KRaft), plaintext on 127.0.0.1.
//!
//! Invariant: storage is formatted once; topics are created by whoever needs them, never by a first record.

use std::process::Command;

use super::{java, step};
use crate::{Kind, Launch, Server, StackError, ports::Ports, site::Site, tools};

/// Any 16 bytes in URL-safe Base64 will do; a fixed one makes formatting repeatable.
const CLUSTER: &str = "RW5nYWdlRGV2U3RhY2sxMg";

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    /// `127.0.0.1:PORT`
    pub bootstrap: String,
    pub(crate) server: Server,
}

impl Kafka {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            bootstrap: format!("127.0.0.1:{}", server.port()),
            server,
        }
    }
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let data = site.data("kafka")?;
    let (port, controller) = (ports.public.to_string(), ports.inner.to_string());
    let config = site.configure(
        "kafka.properties",
        include_str!("../../templates/kafka.properties"),
        &[
            ("PORT", &port),
            ("CONTROLLER", &controller),
            ("DATA", &data.to_string_lossy()),
        ],
    )?;
    if !data.join("meta.properties").exists() {
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
            .arg(&config);
        step(Kind::Kafka, "formatting the storage", &mut format)?;
    }
    let heap = if site.is_private() { "384m" } else { "512m" };
    Ok(java::launch(site, Kind::Kafka, heap, "kafka.Kafka")?.arg(config))
}
