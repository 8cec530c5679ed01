//! Jaeger: traces in memory, gone with the process.
//!
//! Invariant: its configuration is the file that every other deployment uses; only where it listens is said here.

use crate::{Kind, Launch, Server, StackError, ports::Ports, site::Site, tools};

/// A running Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    /// Its pages and its query API, `http://127.0.0.1:PORT`.
    pub url: String,
    /// Where traces are sent to, OTLP over HTTP: `http://127.0.0.1:PORT`.
    pub otlp: String,
    pub(crate) server: Server,
}

impl Jaeger {
    pub(crate) fn new(server: Server) -> Self {
        let otlp = server.more_ports().first().copied().unwrap_or_default();
        Self {
            url: format!("http://127.0.0.1:{}", server.port()),
            otlp: format!("http://127.0.0.1:{otlp}"),
            server,
        }
    }
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let program = tools::jaeger()?;
    let config = site.configure(
        "jaeger.yaml",
        include_str!("../../../../deploy/jaeger/config.yaml"),
        &[],
    )?;
    let port = |index: usize| ports.more.get(index).copied().unwrap_or_default();
    Ok(
        Launch::new(Kind::Jaeger.name(), program, site.log(Kind::Jaeger))
            .arg("--config")
            .arg(config)
            .env("JAEGER_QUERY_PORT", ports.public.to_string())
            .env("JAEGER_QUERY_GRPC_PORT", ports.inner.to_string())
            .env("JAEGER_OTLP_HTTP_PORT", port(0).to_string())
            .env("JAEGER_OTLP_GRPC_PORT", port(1).to_string()),
    )
}
