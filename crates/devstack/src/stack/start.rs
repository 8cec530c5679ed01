//! Starting one server: on free ports, or on the documented ones, where one that runs already is used as it is.
//!
//! Invariant: a server that does not become ready is not left behind.

use std::time::Instant;

use super::Stack;
use crate::{
    Kind, Server, StackError,
    ports::{self, Ports},
    run_file::RunFile,
};

/// Attempts to start a server on ever new ports, if another program grabs one in between.
const ATTEMPTS: usize = 4;

impl Stack {
    pub(super) async fn start(&self, kind: Kind) -> Result<Server, StackError> {
        let begun = Instant::now();
        let server = if self.site.is_private() {
            self.start_on_free_ports(kind).await?
        } else {
            self.start_or_adopt(kind).await?
        };
        tracing::info!(server = %kind, port = server.port(), pid = server.pid(), ms = begun.elapsed().as_millis(), "ready");
        Ok(server)
    }

    async fn start_or_adopt(&self, kind: Kind) -> Result<Server, StackError> {
        let found = self
            .site
            .supervisor
            .run_dir()
            .and_then(|dir| RunFile::read_alive(dir, kind.name()));
        let server = match found {
            Some(file) => Server::adopt(kind, &self.site, &file),
            None => {
                let ports = Ports::documented(kind)?.and_more(self.listeners(kind))?;
                Server::new(kind, &self.site, ports)
            }
        };
        self.start_or_end(server).await
    }

    async fn start_on_free_ports(&self, kind: Kind) -> Result<Server, StackError> {
        for _ in 1..ATTEMPTS {
            match self
                .start_or_end(Server::new(kind, &self.site, self.free_ports(kind)?))
                .await
            {
                Err(error) if error.is_taken_port() => {
                    tracing::warn!(server = %kind, "a port was taken in between, trying others");
                }
                result => return result,
            }
        }
        self.start_or_end(Server::new(kind, &self.site, self.free_ports(kind)?))
            .await
    }

    fn free_ports(&self, kind: Kind) -> Result<Ports, StackError> {
        Ports::free()?.and_more(self.listeners(kind) + ports::further(kind).len())
    }

    /// How many listeners a server has beyond its own.
    fn listeners(&self, kind: Kind) -> usize {
        match kind {
            // a secured broker talks to itself, and with its administrator, beside its clients
            Kind::Kafka if self.site.secured.is_some() => 1,
            Kind::Kafka => self.site.detours.advertised.len(),
            _ => 0,
        }
    }

    async fn start_or_end(&self, server: Server) -> Result<Server, StackError> {
        match server.start().await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.end_with_owner();
                Err(error)
            }
        }
    }
}
