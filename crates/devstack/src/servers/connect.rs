//! A Kafka Connect worker (distributed mode) with the Debezium Postgres plugin.
//!
//! Invariant: its only state is in Kafka's three `connect-*` topics, so any start continues where the last one was.

use super::java;
use crate::{Kind, Launch, Server, StackError, ports::Ports, site::Site, tools};

/// A running Connect worker.
#[derive(Debug)]
pub struct Connect {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub(crate) server: Server,
}

impl Connect {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            url: format!("http://127.0.0.1:{}", server.port()),
            server,
        }
    }
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let plugins = tools::debezium()?;
    let direct = site.broker.get().ok_or(StackError::NotRunning {
        server: Kind::Kafka,
    })?;
    let broker = site.detours.connect_to.as_ref().unwrap_or(direct);
    let config = site.configure(
        "connect.properties",
        include_str!("../../templates/connect.properties"),
        &[
            ("KAFKA", &broker.to_string()),
            ("PORT", &ports.public.to_string()),
            ("PLUGINS", &plugins.to_string_lossy()),
        ],
    )?;
    let heap = if site.is_private() { "512m" } else { "768m" };
    let main = "org.apache.kafka.connect.cli.ConnectDistributed";
    Ok(java::launch(site, Kind::Connect, heap, main)?.arg(config))
}
