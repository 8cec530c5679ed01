//! What is particular to each server.
//!
//! Invariant: `prepare` is idempotent and keeps data; it runs before every start of its server.

mod clickhouse;
mod connect;
mod jaeger;
mod java;
mod kafka;
pub(crate) mod postgres;
mod redis;

pub use clickhouse::ClickHouse;
pub use connect::Connect;
pub use jaeger::Jaeger;
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use redis::Redis;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{Kind, Launch, StackError, ports::Ports, probe::Probe, site::Site};

/// Gives a server's handle the methods of [`crate::Server`].
macro_rules! derefs_to_server {
    ($($handle:ty),*) => {$(
        impl std::ops::Deref for $handle {
            type Target = crate::Server;
            fn deref(&self) -> &crate::Server {
                &self.server
            }
        }
    )*};
}
derefs_to_server!(ClickHouse, Connect, Jaeger, Kafka, Postgres, Redis);

/// Writes configuration, formats storage where there is none, and says what to start. Blocks.
pub(crate) fn prepare(kind: Kind, site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    match kind {
        Kind::Postgres => postgres::prepare(site, ports),
        Kind::Kafka => kafka::prepare(site, ports),
        Kind::Connect => connect::prepare(site, ports),
        Kind::Redis => redis::prepare(site, ports),
        Kind::ClickHouse => clickhouse::prepare(site, ports),
        Kind::Jaeger => jaeger::prepare(site, ports),
    }
}

/// When a server counts as ready.
pub(crate) fn probe(kind: Kind, site: &Site, ports: &Ports) -> Probe {
    let port = ports.public;
    match (kind, &site.secured) {
        (Kind::Kafka, Some(secured)) => {
            let own = ports.more.first().copied().unwrap_or_default();
            return Probe::SecureMetadata(own, secured.clone());
        }
        (Kind::Redis, Some(secured)) => return Probe::SecurePing(port, secured.clone()),
        _ => {}
    }
    match kind {
        Kind::Postgres => Probe::Sql(postgres::admin_url(site, port, "postgres")),
        Kind::Kafka => Probe::Metadata(port),
        // The root path answers before the worker has joined its group.
        Kind::Connect => Probe::Http(port, "/connectors"),
        Kind::Redis => Probe::Ping(port),
        Kind::ClickHouse => Probe::Http(port, "/ping"),
        Kind::Jaeger => Probe::Http(port, "/api/services"),
    }
}

/// Roles, rights and databases, once a server answers.
pub(crate) async fn finish(kind: Kind, site: &Site, ports: &Ports) -> Result<(), StackError> {
    match kind {
        Kind::Postgres => postgres::finish(site, ports.public).await,
        Kind::ClickHouse => clickhouse::finish(site, ports.public).await,
        Kind::Kafka if site.secured.is_some() => kafka::grant(site, ports).await,
        Kind::Kafka | Kind::Connect | Kind::Redis | Kind::Jaeger => Ok(()),
    }
}

/// Runs a preparing command to its end; its output is the error's text.
pub(crate) fn step(server: Kind, name: &str, command: &mut Command) -> Result<(), StackError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(StackError::io("running", Path::new(command.get_program())))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(StackError::Step {
        server,
        step: name.to_owned(),
        output: format!(
            "{}; {}",
            output.status,
            String::from_utf8_lossy(&text).trim()
        ),
    })
}
