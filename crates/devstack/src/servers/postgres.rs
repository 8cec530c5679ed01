//! Postgres with logical decoding, trusting local connections.
//!
//! Invariant: `wal_level=logical` from the first start on. Postgres refuses to run as root, so root runs it as the user
//! `postgres`; where that user cannot reach the stack's directory (a checkout below `/root`), the data lies in
//! `/var/lib/engage` and the stack's directory holds a link to it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::{Connection, PgConnection};

use super::step;
use crate::{
    Kind, Launch, Secured, Server, StackError, StopSignal,
    ports::Ports,
    site::{Site, blocked_at},
    tools,
};

/// A running Postgres.
#[derive(Debug)]
pub struct Postgres {
    /// Database `engage`, as its owner `engage` (password `engage`). In a secured stack there is no such role: without a user.
    pub url: String,
    /// Database `engage`, as the superuser `postgres` (no password, unless the stack is secured).
    pub admin_url: String,
    pub(crate) server: Server,
}

impl Postgres {
    pub(crate) fn new(server: Server, site: &Site) -> Self {
        let port = server.port();
        let url = match &site.secured {
            None => format!("postgres://engage:engage@127.0.0.1:{port}/engage"),
            Some(secured) => format!("postgres://127.0.0.1:{port}/engage?{}", encrypted(secured)),
        };
        let admin_url = match &site.secured {
            None => format!("postgres://postgres@127.0.0.1:{port}/engage"),
            Some(_) => admin_url(site, port, "engage"),
        };
        Self {
            url,
            admin_url,
            server,
        }
    }
}

/// As the superuser; `postgres` is the database that exists from the start.
pub(super) fn admin_url(site: &Site, port: u16, database: &str) -> String {
    match &site.secured {
        None => format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable"),
        Some(secured) => format!(
            "postgres://postgres:{}@127.0.0.1:{port}/{database}?{}",
            secured.postgres_password,
            encrypted(secured)
        ),
    }
}

fn encrypted(secured: &Secured) -> String {
    format!("sslmode=verify-full&sslrootcert={}", secured.ca.display())
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let bin = tools::postgres_bin()?;
    let user = other_user()?;
    let data = data_dir(site, user)?;
    if !data.join("PG_VERSION").exists() {
        initialise(site, &bin, &data, user)?;
    }
    configure(site, ports, &data)?;
    if let Some(secured) = &site.secured {
        encrypt(secured, &data, user)?;
    }
    Ok(Launch::new(
        Kind::Postgres.name(),
        bin.join("postgres"),
        site.log(Kind::Postgres),
    )
    .arg("-D")
    .arg(&data)
    .current_dir(&data)
    .user(user)
    .stop_signal(StopSignal::Interrupt))
}

/// Root needs another user for Postgres; anybody else is their own.
fn other_user() -> Result<Option<(u32, u32)>, StackError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    check_dev_null()?;
    let passwd =
        fs::read_to_string("/etc/passwd").map_err(StackError::io("reading", "/etc/passwd"))?;
    passwd
        .lines()
        .find_map(entry_of_postgres)
        .map(Some)
        .ok_or_else(|| StackError::Missing {
            server: Kind::Postgres,
            what: "user `postgres`".to_owned(),
            looked: "/etc/passwd".to_owned(),
        })
}

fn entry_of_postgres(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Some programs leave /dev/null closed to other users, and then nothing of Postgres starts.
fn check_dev_null() -> Result<(), StackError> {
    let null = fs::metadata("/dev/null").map_err(StackError::io("looking at", "/dev/null"))?;
    if null.file_type().is_char_device() && null.mode() & 0o666 == 0o666 {
        return Ok(());
    }
    Err(StackError::DevNull)
}

fn data_dir(site: &Site, user: Option<(u32, u32)>) -> Result<PathBuf, StackError> {
    let wanted = site.dir.join("postgres");
    let data = match user.and_then(|_| blocked_at(&site.dir)) {
        Some(blocked) => outside(&wanted, &blocked)?,
        None => wanted,
    };
    fs::create_dir_all(&data).map_err(StackError::io("creating", &data))?;
    if let Some((uid, gid)) = user {
        chown(&data, Some(uid), Some(gid))
            .map_err(StackError::io("changing the owner of", &data))?;
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))
        .map_err(StackError::io("closing", &data))?;
    Ok(data)
}

/// A place that everyone can walk to, named after the wanted one and linked from there. Without the link (somebody
/// removed the stack's directory) what is there belongs to a stack that is gone.
fn outside(wanted: &Path, blocked: &Path) -> Result<PathBuf, StackError> {
    let name = wanted.to_string_lossy().trim_matches('/').replace('/', "-");
    let real = PathBuf::from("/var/lib/engage").join(name);
    if fs::read_link(wanted).is_ok_and(|target| target == real) {
        return Ok(real);
    }
    tracing::info!(blocked = %blocked.display(), data = %real.display(), "user postgres cannot reach the stack's directory");
    if real.exists() {
        fs::remove_dir_all(&real).map_err(StackError::io("removing", &real))?;
    }
    fs::create_dir_all(&real).map_err(StackError::io("creating", &real))?;
    symlink(&real, wanted).map_err(StackError::io("linking", wanted))?;
    Ok(real)
}

/// `initdb` into a folder beside, then one rename, so that a half-made cluster is never taken for one.
fn initialise(
    site: &Site,
    bin: &Path,
    data: &Path,
    user: Option<(u32, u32)>,
) -> Result<(), StackError> {
    let draft = data.join("draft");
    let _ = fs::remove_dir_all(&draft);
    let mut initdb = Command::new(bin.join("initdb"));
    match &site.secured {
        None => initdb.arg("--auth=trust"),
        Some(secured) => {
            let password = data.join("initial");
            hand_over(&password, secured.postgres_password.as_bytes(), user)?;
            initdb
                .args(["--auth=scram-sha-256", "--pwfile"])
                .arg(password)
        }
    };
    initdb.arg("-D").arg(&draft).args([
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-instructions",
    ]);
    if site.is_private() {
        initdb.arg("--no-sync");
    }
    initdb.current_dir(data).env_remove("PGDATA");
    if let Some((uid, gid)) = user {
        initdb.uid(uid).gid(gid);
    }
    step(Kind::Postgres, "initdb", &mut initdb)?;
    let _ = fs::remove_file(data.join("initial"));
    adopt_draft(&draft, data)
}

/// Moves the new cluster into place; `PG_VERSION`, by which a cluster is recognised, comes last.
fn adopt_draft(draft: &Path, data: &Path) -> Result<(), StackError> {
    let entries = fs::read_dir(draft).map_err(StackError::io("reading", draft))?;
    for name in entries.flatten().map(|entry| entry.file_name()) {
        if name != "PG_VERSION" {
            let target = data.join(&name);
            fs::rename(draft.join(&name), &target).map_err(StackError::io("moving", &target))?;
        }
    }
    let version = data.join("PG_VERSION");
    fs::rename(draft.join("PG_VERSION"), &version).map_err(StackError::io("moving", &version))?;
    fs::remove_dir(draft).map_err(StackError::io("removing", draft))
}

fn configure(site: &Site, ports: &Ports, data: &Path) -> Result<(), StackError> {
    // A killed process loses nothing without fsync, only a machine that loses power does.
    let (fsync, buffers) = if site.is_private() {
        ("off", "64MB")
    } else {
        ("on", "256MB")
    };
    let port = ports.public.to_string();
    let values = [
        ("PORT", port.as_str()),
        ("FSYNC", fsync),
        ("BUFFERS", buffers),
    ];
    let mut template = include_str!("../../templates/postgresql.conf").to_owned();
    if site.secured.is_some() {
        template += include_str!("../../templates/postgresql-secured.conf");
    }
    let text = site.configure("postgresql.conf", &template, &values)?;
    let target = data.join("postgresql.conf");
    fs::copy(&text, &target).map_err(StackError::io("writing", &target))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o644))
        .map_err(StackError::io("opening", &target))
}

/// Certificate and key as Postgres wants them, and no way in but by password over TLS.
fn encrypt(secured: &Secured, data: &Path, user: Option<(u32, u32)>) -> Result<(), StackError> {
    for (source, name) in [
        (&secured.certificate, "server.crt"),
        (&secured.key, "server.key"),
    ] {
        let bytes = fs::read(source).map_err(StackError::io("reading", source))?;
        hand_over(&data.join(name), &bytes, user)?;
    }
    let rules = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
    hand_over(&data.join("pg_hba.conf"), rules.as_bytes(), user)
}

/// A file that only Postgres reads.
fn hand_over(path: &Path, bytes: &[u8], user: Option<(u32, u32)>) -> Result<(), StackError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(StackError::io("writing", path))?;
    file.write_all(bytes)
        .map_err(StackError::io("writing", path))?;
    if let Some((uid, gid)) = user {
        chown(path, Some(uid), Some(gid)).map_err(StackError::io("changing the owner of", path))?;
    }
    Ok(())
}

/// Role and database `engage`, once; in a secured stack the database alone, and roles are its owner's affair.
pub(super) async fn finish(site: &Site, port: u16) -> Result<(), StackError> {
    create_database(site, port)
        .await
        .map_err(|error| StackError::Step {
            server: Kind::Postgres,
            step: "creating role and database engage".to_owned(),
            output: error.to_string(),
        })
}

async fn create_database(site: &Site, port: u16) -> Result<(), sqlx::Error> {
    let mut admin = PgConnection::connect(&admin_url(site, port, "postgres")).await?;
    let mut steps = vec![
        (
            "SELECT 1 FROM pg_roles WHERE rolname = 'engage'",
            "CREATE ROLE engage LOGIN PASSWORD 'engage'",
        ),
        (
            "SELECT 1 FROM pg_database WHERE datname = 'engage'",
            "CREATE DATABASE engage OWNER engage",
        ),
    ];
    if site.secured.is_some() {
        steps = vec![(steps[1].0, "CREATE DATABASE engage")];
    }
    for (exists, create) in steps {
        if sqlx::query(exists)
            .fetch_optional(&mut admin)
            .await?
            .is_none()
        {
            sqlx::query(create).execute(&mut admin).await?;
        }
    }
    admin.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_postgres_is_found_by_its_whole_name() {
        assert_eq!(
            entry_of_postgres("postgres:x:101:104:PG:/v:/bin/bash"),
            Some((101, 104))
        );
        assert_eq!(entry_of_postgres("postgres2:x:1:1::/:/bin/sh"), None);
    }
}
