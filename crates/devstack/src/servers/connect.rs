//! A Kafka Connect worker (distributed mode) with the Debezium Postgres plugin.
//!
//! Invariant: its only state is in Kafka's three `connect-*` topics, so any start continues where the last one was.

use std::path::PathBuf;

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

fn configure(site: &Site, values: &[(&str, &str); 3]) -> Result<PathBuf, StackError> {
    let plain = include_str!("../../templates/connect.properties");
    let Some(secured) = &site.secured else {
        return site.configure("connect.properties", plain, values);
    };
    let more = include_str!("../../templates/connect-secured.properties");
    let login = format!(
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{}\" password=\"${{file:{}:kafka}}\";",
        secured.connect_user,
        secured.connect_secrets.display()
    );
    let [kafka, port, plugins] = *values;
    let values: [(&str, &str); 5] = [
        kafka,
        port,
        plugins,
        ("LOGIN", &login),
        ("CA", &secured.ca.to_string_lossy()),
    ];
    site.configure("connect.properties", &format!("{plain}{more}"), &values)
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let plugins = tools::debezium()?;
    let direct = site.broker.get().ok_or(StackError::NotRunning {
        server: Kind::Kafka,
    })?;
    let broker = site.detours.connect_to.as_ref().unwrap_or(direct);
    let (broker, port) = (broker.to_string(), ports.public.to_string());
    let place = plugins.to_string_lossy();
    let values: [(&str, &str); 3] = [("KAFKA", &broker), ("PORT", &port), ("PLUGINS", &place)];
    let config = configure(site, &values)?;
    let heap = if site.is_private() { "512m" } else { "768m" };
    let main = "org.apache.kafka.connect.cli.ConnectDistributed";
    Ok(java::launch(site, Kind::Connect, heap, main)?.arg(config))
}
