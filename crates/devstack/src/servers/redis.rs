//! Redis: append-only file, no eviction, no dump.
//!
//! Invariant: a damaged append-only file is repaired before the start, never silently started over.

use std::{path::Path, process::Command};

use super::step;
use crate::{Kind, Launch, Server, StackError, ports::Ports, site::Site, tools};

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    /// `redis://127.0.0.1:PORT/`; `rediss://` in a secured stack.
    pub url: String,
    pub(crate) server: Server,
}

impl Redis {
    pub(crate) fn new(server: Server, site: &Site) -> Self {
        let scheme = if site.secured.is_some() {
            "rediss"
        } else {
            "redis"
        };
        Self {
            url: format!("{scheme}://127.0.0.1:{}/", server.port()),
            server,
        }
    }
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let program = tools::required(Kind::Redis, "redis-server")?;
    let data = site.data("redis")?;
    repair(&data)?;
    let port = ports.public.to_string();
    let place = data.to_string_lossy();
    let values: [(&str, &str); 2] = [("PORT", &port), ("DATA", &place)];
    let plain = include_str!("../../templates/redis.conf");
    let config = match &site.secured {
        None => site.configure("redis.conf", plain, &values)?,
        Some(secured) => {
            let users = secured.redis_users.join("\n") + "\n";
            let users = site.configure("redis.acl", &users, &[])?;
            let values: [(&str, &str); 6] = [
                values[0],
                values[1],
                ("CERTIFICATE", &secured.certificate.to_string_lossy()),
                ("KEY", &secured.key.to_string_lossy()),
                ("CA", &secured.ca.to_string_lossy()),
                ("ACL", &users.to_string_lossy()),
            ];
            let more = include_str!("../../templates/redis-secured.conf");
            site.configure("redis.conf", &format!("{plain}{more}"), &values)?
        }
    };
    Ok(
        Launch::new(Kind::Redis.name(), program, site.log(Kind::Redis))
            .arg(config)
            .current_dir(&data),
    )
}

/// Cuts a torn tail off, which a crash may leave; Redis refuses to start on worse damage than that.
fn repair(data: &Path) -> Result<(), StackError> {
    let manifest = data.join("appendonlydir/appendonly.aof.manifest");
    if !manifest.exists() {
        return Ok(());
    }
    let Some(check) = tools::on_path("redis-check-aof") else {
        tracing::warn!(
            "redis-check-aof is not there: the append-only file is not checked before the start"
        );
        return Ok(());
    };
    if step(
        Kind::Redis,
        "redis-check-aof",
        Command::new(&check).arg(&manifest),
    )
    .is_ok()
    {
        return Ok(());
    }
    tracing::warn!(file = %manifest.display(), "the append-only file is damaged, repairing it");
    // It asks for a `y` first.
    step(
        Kind::Redis,
        "redis-check-aof --fix",
        Command::new("sh")
            .args(["-c", r#"echo y | "$0" --fix "$1""#])
            .arg(&check)
            .arg(&manifest),
    )
}
